"""Peak memory sees what came and went, and knows it even where the work fails."""

from __future__ import annotations

import time

import numpy as np
import pytest

from picolab.measure.memory import PeakMemory, resident_bytes

MIB = 2**20


def test_memory_that_is_gone_at_the_end_was_seen_at_its_peak() -> None:
    with PeakMemory() as memory:
        block = np.ones(96 * MIB // 8)
        time.sleep(0.05)
        del block
    assert memory.extra_bytes > 80 * MIB
    assert memory.peak_bytes >= memory.before_bytes + memory.extra_bytes
    assert resident_bytes() < memory.peak_bytes - 64 * MIB
    with PeakMemory() as quiet:
        time.sleep(0.02)
    assert quiet.extra_bytes < 32 * MIB


def test_the_peak_is_known_even_if_the_work_fails() -> None:
    memory = PeakMemory()
    with pytest.raises(RuntimeError, match="boom"), memory:
        raise RuntimeError("boom")
    assert memory.peak_bytes > 0
