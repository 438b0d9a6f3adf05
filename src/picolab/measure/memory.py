"""How much memory does a piece of work need at its worst moment?

    with PeakMemory() as memory:      a thread looks at the resident size every few milliseconds
        train(...)
    memory.extra_bytes                the worst moment, above what the process held when the block began

On Linux the size is /proc/self/statm; elsewhere the process's own high-water mark (getrusage), which never falls, so work
that needs less than earlier work shows 0 there. On a GPU, PyTorch's own counter is read as well.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

_STATM = Path("/proc/self/statm")


class PeakMemory:
    """Peak resident memory of the process while the block runs; with CUDA, the device's peak allocation too."""

    def __init__(self, *, every_seconds: float = 0.005) -> None:
        self.before_bytes = 0
        self.peak_bytes = 0
        self.device_peak_bytes: int | None = None
        self._every = every_seconds
        self._done = threading.Event()
        self._watcher: threading.Thread | None = None
        self._device_before = 0

    @property
    def extra_bytes(self) -> int:
        """The peak above the starting point; on a GPU, of the device's memory."""
        if self.device_peak_bytes is not None:
            return max(0, self.device_peak_bytes - self._device_before)
        return max(0, self.peak_bytes - self.before_bytes)

    def __enter__(self) -> Self:
        give_back_unused()
        self.before_bytes = self.peak_bytes = resident_bytes()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self._device_before = torch.cuda.memory_allocated()
        self._done.clear()
        self._watcher = threading.Thread(target=self._watch, name="peak-memory", daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._watcher is not None:
            self._watcher.join()
        self.peak_bytes = max(self.peak_bytes, resident_bytes())
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated()
            # A GPU that is there and was not used has no peak of its own to tell.
            self.device_peak_bytes = peak if peak > self._device_before else None

    def _watch(self) -> None:
        while not self._done.wait(self._every):
            self.peak_bytes = max(self.peak_bytes, resident_bytes())


def resident_bytes() -> int:
    """Bytes of physical memory the process holds now (Linux) or held at most so far (elsewhere)."""
    if _STATM.exists():
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource  # not on every system; Linux never comes here

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def give_back_unused() -> None:
    """Return freed memory to the system, so that earlier work does not hide what the next piece needs."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
        if trim is not None:
            trim(0)
