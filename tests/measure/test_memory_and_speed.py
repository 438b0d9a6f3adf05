"""Peak memory sees what came and went; speed counts the right tokens and changes nothing."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from measure.test_loss import batch
from picolab.errors import BadSetting
from picolab.measure.memory import PeakMemory, resident_bytes
from picolab.measure.speed import training_speed
from picolab.zoo import create

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


def test_training_is_timed_on_a_copy() -> None:
    model = create("softmax-pico", vocab_size=31, d_model=16, n_heads=2, d_ff=16)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    speed = training_speed(model, batch(3, 11), repeats=3)
    assert speed.tokens_per_second == pytest.approx(33 / speed.seconds)
    assert speed.fastest <= speed.seconds <= speed.slowest
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_repeats_give_no_figure() -> None:
    model = create("lstm", vocab_size=31)
    with pytest.raises(BadSetting, match=r"^repeats 0 is less than one$"):
        training_speed(model, batch(1, 5), repeats=0)
