"""What a machine can do is work over the seconds of its fastest try; a stopwatch loses nothing between two stages."""

from __future__ import annotations

import time

import pytest
import torch

from picolab.measure.limits import Limits, Sizes, copy_rate, limits, matrix_rate, read_rate
from picolab.measure.stopwatch import Stopwatch

CPU = torch.device("cpu")


def test_a_rate_is_work_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock) * 0.5)  # every try takes half a second
    assert matrix_rate(torch.float32, side=10, tries=2) == 2 * 10**3 / 0.5
    assert copy_rate(megabytes=2, tries=2) == 2 * 2 * 2**20 / 0.5
    assert read_rate(megabytes=2, tries=2) == 2 * 2**20 / 0.5


def test_a_type_that_is_slow_is_not_asked_for_a_large_product(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def rate(dtype: torch.dtype, *, side: int, tries: int, device: torch.device) -> float:
        asked.append(side)
        return 1e9 if dtype == torch.float16 else 5e10 + side

    monkeypatch.setattr("picolab.measure.limits.matrix_rate", rate)
    sizes = Sizes(side=1024, megabytes=1)
    assert limits(torch.float16, CPU, sizes).products == 1e9
    assert asked == [256]
    assert limits(torch.float32, CPU, sizes).products == 5e10 + 1024
    assert asked == [256, 256, 1024]


def test_the_better_of_two_measurements_is_kept() -> None:
    found = limits(torch.bfloat16, CPU, Sizes(side=16, megabytes=1))
    assert found.dtype == "bfloat16"
    assert min(found.products, found.copy, found.read) > 0
    better = found.best(Limits(dtype="bfloat16", products=found.products * 2, copy=0.0, read=found.read))
    assert (better.products, better.copy, better.read) == (found.products * 2, found.copy, found.read)


def test_stages_add_up_to_the_time_between_start_and_the_last() -> None:
    watch = Stopwatch(CPU)
    began = time.perf_counter()
    watch.start()
    for stage, seconds in (("a", 0.01), ("b", 0.03), ("a", 0.01)):
        time.sleep(seconds)
        watch.lap(stage)
    whole = time.perf_counter() - began
    assert sum(watch.stages.values()) == pytest.approx(whole, abs=0.005)
    assert watch.stages["a"] >= 0.02
    assert watch.stages["b"] >= 0.03
    watch.start()
    assert watch.stages == {}
