"""What can this machine do at best? Three plain operations that no model outruns but by what stays in the processor's cache.

products   a square matrix times itself      2 n^3 FLOP        what arithmetic is measured against
copy       one large array into another      read and written  what an optimizer is measured against
read       the sum of a large array          read              what decoding is measured against: it reads all weights for a token

The best of several tries: a limit is what was reached once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from picolab.measure.stopwatch import settle

CPU = torch.device("cpu")


SMALL, LONGEST = 256, 1.0
"""A side tried first, and seconds: a processor without products in a type (float16 on most) would take many for a large one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """FLOP/s of products in `dtype`, bytes/s of a copy (read and written together) and of reading."""

    dtype: str
    products: float
    copy: float
    read: float

    def best(self, other: Limits) -> Limits:
        """The better of two measurements, each for itself."""
        return Limits(
            dtype=self.dtype,
            products=max(self.products, other.products),
            copy=max(self.copy, other.copy),
            read=max(self.read, other.read),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How large a matrix (its side) and an array (MiB), how many tries each."""

    side: int
    megabytes: int
    tries: int = 1


def sizes_for(device: torch.device) -> Sizes:
    """Large enough to reach the limit, small enough to be asked between two turns."""
    return Sizes(side=1024, megabytes=128) if device.type == "cpu" else Sizes(side=8192, megabytes=2048)


def limits(dtype: torch.dtype, device: torch.device = CPU, sizes: Sizes | None = None) -> Limits:
    """All three, measured now with the threads torch has now."""
    s = sizes or sizes_for(device)
    products = matrix_rate(dtype, side=min(s.side, SMALL), tries=s.tries, device=device)
    if 2 * s.side**3 / products < LONGEST:
        products = max(products, matrix_rate(dtype, side=s.side, tries=s.tries, device=device))
    return Limits(
        dtype=str(dtype).removeprefix("torch."),
        products=products,
        copy=copy_rate(megabytes=s.megabytes, tries=s.tries, device=device),
        read=read_rate(megabytes=s.megabytes, tries=s.tries, device=device),
    )


def matrix_rate(dtype: torch.dtype, *, side: int = 2048, tries: int = 9, device: torch.device = CPU) -> float:
    """FLOP/s of a square matrix product."""
    a = torch.randn(side, side, device=device).to(dtype)
    b = torch.empty_like(a)
    return 2 * side**3 / _fastest(lambda: torch.mm(a, a, out=b), tries, device)


def copy_rate(*, megabytes: int = 256, tries: int = 9, device: torch.device = CPU) -> float:
    """Bytes/s read and written by a plain copy."""
    a = torch.ones(megabytes * 2**18, device=device)
    b = torch.empty_like(a)
    return 8 * a.numel() / _fastest(lambda: b.copy_(a), tries, device)


def read_rate(*, megabytes: int = 256, tries: int = 9, device: torch.device = CPU) -> float:
    """Bytes/s read by a plain sum."""
    a = torch.ones(megabytes * 2**18, device=device)
    return 4 * a.numel() / _fastest(a.sum, tries, device)


def _fastest(work: Callable[[], object], tries: int, device: torch.device) -> float:
    """Seconds of the fastest of several tries, after one that touches the memory for the first time."""
    seconds = []
    for _ in range(1 + tries):
        settle(device)
        start = time.perf_counter()
        work()
        settle(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
