"""Why is a second recording as cheap as the first pass? Freed memory is kept for it.

A recording holds every value of a pass. When it is dropped, the C library of Linux hands that memory back to the system, which must
clear each page again for the next one: a pass of a 56 M-parameter llama took 1.25 times as long recorded as plain, and 1.03 times
with the memory kept (benchmarks/tracing.py). PyTorch keeps the memory of a GPU for the same reason.
"""

from __future__ import annotations

import ctypes
import functools
import os

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of the two settings in malloc.h."""

KEPT, LARGEST = 2**31 - 1, 2**25
"""Bytes freed that are kept; the largest block the library lets be kept at all."""


@functools.cache
def keep_freed_memory() -> bool:
    """Ask the C library, once, to keep what is freed; False where it is another library, or somebody has asked otherwise."""
    if any(name.startswith(("MALLOC_TRIM", "MALLOC_MMAP")) for name in os.environ):
        return False
    ask = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return ask is not None and bool(ask(TRIM_THRESHOLD, KEPT)) and bool(ask(MMAP_THRESHOLD, LARGEST))
