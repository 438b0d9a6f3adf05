"""What several seeds can tell, and what they cannot."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from picolab.compare.bands import band, band_or_none, difference
from picolab.errors import BadInput


def test_a_band_is_the_mean_the_ends_and_the_standard_error() -> None:
    made = band([3.0, 3.2, 3.7])
    assert (made.mean, made.low, made.high, made.seeds) == (pytest.approx(3.3), 3.0, 3.7, 3)
    assert made.standard_error == pytest.approx(stats.sem([3.0, 3.2, 3.7]))


def test_one_seed_has_no_standard_error() -> None:
    assert band([3.0]).standard_error is None


def test_a_mean_never_falls_outside_its_values() -> None:
    made = band([0.1] * 7)
    assert made.low == made.mean == made.high


def test_nothing_has_no_band() -> None:
    assert band_or_none([None, None]) is None
    with pytest.raises(BadInput, match=r"^a band needs at least one value$"):
        band([])


def test_a_difference_is_taken_seed_by_seed_as_in_a_paired_t_test() -> None:
    a, b = {0: 3.0, 1: 3.5, 2: 4.1, 9: 1.0}, {2: 3.8, 1: 3.3, 0: 2.9}
    made = difference(a, b)
    assert made is not None
    exact = stats.ttest_rel([3.0, 3.5, 4.1], [2.9, 3.3, 3.8]).confidence_interval(0.95)
    assert made.margin is not None
    assert (made.mean - made.margin, made.mean + made.margin) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert made.seeds == 3


def test_what_all_seeds_share_cancels() -> None:
    # Seed 1 has hard data for both models: bands overlap widely, and yet one is always ahead by a tenth.
    made = difference({0: 3.1, 1: 5.1001, 2: 4.1}, {0: 3.0, 1: 5.0, 2: 4.0})
    assert made is not None
    assert made.told_apart


def test_two_wavering_seeds_tell_nothing_apart() -> None:
    made = difference({0: 3.0, 1: 3.3}, {0: 2.9, 1: 2.8})
    assert made is not None
    assert made.mean == pytest.approx(0.3)
    assert not made.told_apart


def test_one_seed_tells_nothing_apart_however_large_the_difference() -> None:
    made = difference({0: 9.0}, {0: 1.0})
    assert made is not None
    assert made.margin is None
    assert not made.told_apart


def test_models_without_a_common_seed_are_not_compared() -> None:
    assert difference({0: 1.0}, {1: 1.0}) is None


def test_equal_counting_on_every_seed_is_no_difference() -> None:
    made = difference({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0})
    assert made is not None
    assert (made.mean, made.margin) == (0.0, 0.0)
    assert not made.told_apart
    assert math.isfinite(made.mean)
