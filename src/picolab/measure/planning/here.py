"""What can this machine's processor do at most? Measured: a large matrix product in each type, and a long copy.

The best of a few repeats counts: whatever else runs here makes a repeat slower, never faster.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch

from picolab.measure.planning.hardware import BFLOAT16, FLOAT32, Device

SIDE, COPIED, REPEATS = 1024, 2**25, 4
"""The side of the matrices, the numbers in the copy, and how often each is tried."""


def this_cpu() -> Device:
    """The processor that this runs on, with the threads PyTorch uses."""
    a = torch.randn(SIDE, SIDE)
    short, long = a.bfloat16(), torch.ones(COPIED)
    room = torch.empty_like(long)
    products = 2.0 * SIDE**3
    return Device(
        name="cpu",
        kind="cpu",
        flops={FLOAT32: products / _best(lambda: a @ a), BFLOAT16: products / _best(lambda: short @ short)},
        n_bytes=float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        bytes_per_second=2.0 * 4 * COPIED / _best(lambda: room.copy_(long)),
        source=f"a measurement here with {torch.get_num_threads()} threads",
    )


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of `REPEATS`, after one to warm up."""
    work()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
