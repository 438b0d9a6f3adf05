"""Curves: from the rows of a run to the few points that are drawn."""

from __future__ import annotations

import math

import pytest

from picolab.compare.curves import Series, Track, over_seeds, series_of, thin
from picolab.errors import BadSetting


def series(losses: list[float], *, every: int = 1) -> Series:
    steps = tuple(range(0, len(losses) * every, every))
    return Series(
        step=steps, tokens=tuple(10 * s for s in steps), seconds=tuple(0.5 * s for s in steps), loss=tuple(losses)
    )


def test_only_rows_that_have_the_loss_become_points() -> None:
    rows = [
        {"step": 0, "tokens": 0, "seconds": 0.0, "val/loss": 7.0},
        {"step": 1, "tokens": 64, "seconds": 0.1, "train/loss": 6.5},
        {"step": 2, "tokens": 128, "seconds": 0.2, "train/loss": math.nan, "val/loss": None},
        {"step": 3, "tokens": 192, "seconds": 0.3, "train/loss": 6.0, "val/loss": 6.1},
    ]
    assert series_of(rows, "train/loss") == Series(step=(1, 3), tokens=(64, 192), seconds=(0.1, 0.3), loss=(6.5, 6.0))
    assert series_of(rows, "val/loss").step == (0, 3)


def test_seeds_are_averaged_where_all_of_them_measured() -> None:
    track = over_seeds([series([7.0, 5.0, 3.0]), series([7.2, 5.0, 2.0]), Series()])
    assert track.step == (0, 1, 2)
    assert track.mean == (pytest.approx(7.1), 5.0, 2.5)
    assert (track.low, track.high, track.seeds) == ((7.0, 5.0, 2.0), (7.2, 5.0, 3.0), 2)
    assert over_seeds([series([7.0, 5.0, 3.0]), series([7.0, 3.0], every=2)]).step == (0, 2)


def test_nothing_measured_is_an_empty_track() -> None:
    assert len(over_seeds([Series()])) == 0


@pytest.mark.parametrize("n", [301, 1_000, 12_345])
def test_thinning_keeps_the_ends_the_spike_and_the_dip(n: int) -> None:
    losses = [3 + 4 * math.exp(-i / 50) + 0.01 * math.sin(i) for i in range(n)]
    losses[n // 2], losses[n // 3] = 30.0, 0.5
    few = thin(over_seeds([series(losses)]), 300)
    assert len(few) <= 300
    assert (few.step[0], few.step[-1]) == (0, n - 1)
    assert max(few.mean) == 30.0
    assert min(few.mean) == 0.5
    assert list(few.step) == sorted(set(few.step))


def test_thinning_keeps_the_start_dense_enough_for_a_logarithmic_axis() -> None:
    few = thin(over_seeds([series([1.0 / (i + 1) for i in range(100_000)])]), 260)
    assert sum(step < 100 for step in few.step) >= 15


def test_few_points_are_left_as_they_are() -> None:
    track = over_seeds([series([3.0, 2.0])])
    assert thin(track, 300) is track


def test_fewer_points_than_draw_a_curve_are_refused() -> None:
    with pytest.raises(BadSetting, match=r"^3 points cannot draw a curve$"):
        thin(Track(), 3)
