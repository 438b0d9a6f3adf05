"""What can this machine's processor do at most? What `measure/limits.py` reaches, in each type."""

from __future__ import annotations

import os

import torch

from picolab.measure.limits import copy_rate, matrix_rate
from picolab.measure.planning.hardware import BFLOAT16, FLOAT32, Device

SIDE, MEGABYTES, TRIES = 1024, 128, 4


def this_cpu() -> Device:
    """The processor that this runs on, with the threads PyTorch uses."""
    types = {FLOAT32: torch.float32, BFLOAT16: torch.bfloat16}
    return Device(
        name="cpu",
        kind="cpu",
        flops={name: matrix_rate(dtype, side=SIDE, tries=TRIES) for name, dtype in types.items()},
        n_bytes=float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        bytes_per_second=copy_rate(megabytes=MEGABYTES, tries=TRIES),
        source=f"a measurement here with {torch.get_num_threads()} threads",
    )
