from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picolab.data.packing import Packing, pack, pieces


def offsets_of(lengths: list[int]) -> np.ndarray:
    return np.cumsum([0, *lengths])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 17), st.integers(0, 5))
def test_every_position_of_every_document_is_in_one_row(lengths: list[int], context: int, seed: int) -> None:
    packing = Packing(offsets_of(lengths), context)
    order = packing.order(np.random.default_rng(seed))
    read = np.concatenate([np.arange(a, a + n) for a, n in zip(order.starts, order.lengths, strict=True)])
    assert sorted(read.tolist()) == list(range(sum(lengths)))
    filled = np.array([order.lengths[a:b].sum() for a, b in zip(order.first, order.first[1:], strict=False)])
    assert len(filled) == packing.n_rows and filled.min() >= 1 and filled.max() <= context
    assert packing.padding == pytest.approx(1 - sum(lengths) / (packing.n_rows * context))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 17), min_size=1, max_size=60))
def test_no_two_rows_could_be_one(lengths: list[int]) -> None:
    packed = pack(np.bincount(lengths, minlength=18), 17)
    rows = [sum(n * copies for n, copies in pattern) for pattern, times in packed for _ in range(times)]
    assert sum(rows) == sum(lengths)
    assert all(a + b > 17 for i, a in enumerate(rows) for b in rows[i + 1 :])


def test_only_a_document_longer_than_the_context_is_cut() -> None:
    starts, lengths = pieces(offsets_of([5, 12, 3, 10]), 5)
    assert starts.tolist() == [0, 5, 10, 15, 17, 20, 25]
    assert lengths.tolist() == [5, 5, 5, 2, 3, 5, 5]


def test_the_picture_of_the_file_is_what_it_does() -> None:
    packing = Packing(offsets_of([4, 7, 1, 5, 3, 7, 4]), 12)
    order = packing.order(np.random.default_rng(0))
    rows = sorted(
        sorted(order.lengths[a:b].tolist(), reverse=True) for a, b in zip(order.first, order.first[1:], strict=False)
    )
    assert rows == [[4, 3], [7, 4, 1], [7, 5]]


def test_little_is_wasted_on_documents_like_stories() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(4.6, 0.6, 5000), 5, 1000).astype(int).tolist()
    assert Packing(offsets_of(lengths), 256).padding < 0.01


def test_every_epoch_puts_other_documents_together() -> None:
    packing = Packing(offsets_of(list(range(1, 30)) * 4), 40)
    a, b, again = (packing.order(np.random.default_rng(seed)) for seed in (1, 2, 1))
    assert a.starts.tolist() == again.starts.tolist()
    assert a.starts.tolist() != b.starts.tolist()


def test_a_place_early_in_the_row_is_not_kept_for_long_documents() -> None:
    packing = Packing(offsets_of([9, 1] * 300), 10)
    order = packing.order(np.random.default_rng(0))
    short_first = (order.lengths[order.first[:-1]] == 1).mean()
    assert 0.4 < short_first < 0.6
