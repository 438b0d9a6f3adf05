"""The learning rate: up in a line, down in half a cosine."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from picolab.errors import BadSetting
from picolab.train.schedules import Cosine


def test_it_rises_in_a_line_and_falls_in_half_a_cosine() -> None:
    schedule = Cosine(lr=1.0, min_lr=0.1, warmup=4, steps=15)
    assert [schedule.at(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert schedule.at(4) == 1.0  # the cosine begins at its top
    assert schedule.at(9) == pytest.approx(0.1 + 0.9 / 2)  # half way: 5 of 10 steps
    assert schedule.at(7) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 3 / 10)) / 2)
    assert schedule.at(14) == pytest.approx(0.1)  # the last step
    assert schedule.at(1000) == pytest.approx(0.1)


def test_it_never_rises_after_the_warm_up() -> None:
    rates = [Cosine(lr=3e-4, min_lr=0.0, warmup=7, steps=61).at(step) for step in range(61)]
    assert all(a >= b for a, b in pairwise(rates[7:])) and min(rates) >= 0


@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (1, 1), (0, 2), (3, 3)])
def test_the_shortest_runs_have_a_rate(warmup: int, steps: int) -> None:
    schedule = Cosine(lr=1.0, min_lr=0.1, warmup=warmup, steps=steps)
    assert all(0 < schedule.at(step) <= 1 for step in range(steps))


def test_a_warm_up_longer_than_the_run_is_refused() -> None:
    with pytest.raises(BadSetting, match="`optimizer.warmup` 5 is longer than the run of 4 steps"):
        Cosine(lr=1.0, min_lr=0.1, warmup=5, steps=4)
