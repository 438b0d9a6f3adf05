"""A few numbers of a tensor, against numpy in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from picolab.trace import statistics
from picolab.trace.statistics import Running, attention_of, statistics_of, statistics_of_pairs


def _is(found, numbers):
    numbers = np.asarray(numbers, np.float64).ravel()
    finite = numbers[np.isfinite(numbers)]
    assert (found.count, found.not_finite) == (finite.size, numbers.size - finite.size)
    size = np.abs(finite).max(initial=0.0)
    if finite.size == 0:
        assert math.isnan(found.mean) and math.isnan(found.minimum)
        return
    assert found.mean == pytest.approx(finite.mean(), abs=3e-7 * size)
    assert found.std == pytest.approx(finite.std(), rel=1e-5, abs=1e-6 * size)
    assert found.rms == pytest.approx(
        math.sqrt((finite / (size or 1)).astype(float).__pow__(2).mean()) * size, rel=1e-6
    )
    assert (found.minimum, found.maximum) == (finite.min(), finite.max())


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(np.float32, arrays.array_shapes(max_dims=4, max_side=7), elements=st.floats(width=32)),
    st.integers(1, 9),
)
def test_moments_are_numpys_whatever_the_numbers(numbers, piece):
    kept, statistics.PIECE = statistics.PIECE, piece
    try:
        _is(statistics_of(torch.from_numpy(numbers.copy())), numbers)
    finally:
        statistics.PIECE = kept


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8])
def test_every_type_of_number_is_read(dtype):
    value = (torch.randn(5, 17, 7) * 20).to(dtype)
    found = statistics_of(value)
    _is(found, value.double().numpy())
    assert (found.dtype, found.shape) == (str(dtype).removeprefix("torch."), (5, 17, 7))


def test_views_are_read_without_a_copy_of_them(monkeypatch):
    monkeypatch.setattr(statistics, "PIECE", 64)
    value = torch.randn(3, 17, 5, 10).permute(0, 2, 3, 1)[:, ::2]
    assert max(piece.numel() for piece in statistics._pieces(value)) <= 64
    _is(statistics_of(value), value.numpy())


def test_a_small_spread_far_from_zero_is_not_lost():
    value = torch.randn(300_001) * 0.1 + 1000
    assert statistics_of(value).std == pytest.approx(float(value.double().std(correction=0)), rel=1e-5)


def test_parts_together_are_the_whole():
    value, running = torch.randn(1000) + 3, Running()
    for part in value.split(77):
        running.add(part)
    _is(running.statistics((1000,)), value.numpy())


@pytest.mark.parametrize(("time", "past"), [(7, 7), (64, 64), (130, 150), (1, 9)])
def test_pairs_are_those_with_a_key_no_later_than_the_query(time, past):
    scores = torch.randn(2, 3, time, past)
    visible = torch.ones(time, past, dtype=torch.bool).tril(past - time)
    scores[..., ~visible] = torch.nan  # never looked at
    found = statistics_of_pairs(scores)
    _is(found, scores[..., visible].numpy())
    assert found.shape == (2, 3, time, past)


def test_attention_of_a_query_is_its_entropy_heaviest_key_and_sum():
    probs = torch.tensor(
        [[[[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.0, 0.1, 0.7, 0.1]]]]
    )
    found = attention_of(probs)
    torch.testing.assert_close(found.row_sum, torch.tensor([[[1.0, 1.0, 1.0, 0.9]]]))
    last = -(0.2 * math.log(0.1) + 0.7 * math.log(0.7))
    torch.testing.assert_close(found.entropy, torch.tensor([[[0.0, math.log(2), math.log(4), last]]]))
    assert found.heaviest_key[0, 0, 3] == 2 and float(found.heaviest[0, 0, 3]) == pytest.approx(0.7)
    broken = probs.clone()
    broken[0, 0, 1, 1] = torch.nan
    assert attention_of(broken).entropy.isnan().tolist() == [[[False, True, False, False]]]
