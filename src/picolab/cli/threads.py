"""How long does a thread spin before it sleeps, when it has nothing to do? Shortly: another process may need the core.

PyTorch's threads meet many times a step. GNU's OpenMP lets one that waits spin 300,000 times (libgomp, GOMP_SPINCOUNT); where two
trainings share the cores, they spin on the cores that the other waits for, and both take two to forty times as long as they need
(benchmarks/shared_cores.py). 1,000 is what libgomp itself takes where one process has more threads than cores. The library reads it
once, as it is loaded, so this comes before PyTorch is imported.
"""

from __future__ import annotations

import os

SPINS = "GOMP_SPINCOUNT"
POLICY = "OMP_WAIT_POLICY"


def wait_briefly() -> None:
    """Ask for short spinning, where nobody has asked for anything."""
    if POLICY not in os.environ:
        os.environ.setdefault(SPINS, "1000")
