"""What judges count, against Python's own sets; what a forecast measures."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from time import sleep

import numpy as np
import pytest

from picolab.errors import BadSetting
from picolab.studies.forecast import STEPS, forecast
from picolab.studies.judges import N, grams, of_texts, repetition, training_grams
from picolab.studies.points import grid, settings_of
from picolab.studies.study import Study
from picolab.studies.sweep import sweep
from picolab.train.setup import dataset_of
from picolab.train.step import Stepper

MakeStudy = Callable[..., Study]


def test_grams_are_numbers_that_stand_for_exactly_one_run_of_tokens() -> None:
    runs = np.array(list(itertools.product(range(5), repeat=N)))
    assert len({int(grams(run, 5)[0]) for run in runs}) == 5**N
    assert list(grams(np.arange(6), 10)) == [123, 1234, 2345]
    assert len(grams(np.arange(N - 1), 10)) == 0
    assert grams(np.full(N, 50_256), 50_257)[0] == 50_257**N - 1
    with pytest.raises(BadSetting, match="do not fit"):
        grams(np.arange(5), 100_000)


def test_what_stands_in_the_training_text_is_counted_as_sets_count_it(make_study: MakeStudy) -> None:
    study = make_study()
    dataset = dataset_of(settings_of(study, grid(study)[0], 0, Path(), "x"))
    train = [tuple(dataset.train.document(i).tolist()) for i in range(dataset.train.n_documents)]  # type: ignore[union-attr]
    known = {text[i : i + N] for text in train for i in range(len(text) - N + 1)}
    texts = [train[0], train[1][:5] + train[2][:5], (1, 1, 1, 1, 1, 1), ()]
    written = [text[i : i + N] for text in texts for i in range(len(text) - N + 1)]
    found = of_texts(texts, training_grams(dataset), dataset)
    assert found["memorised"] == pytest.approx(sum(gram in known for gram in written) / len(written))
    assert found["distinct"] == pytest.approx(len(set(written)) / len(written))
    assert 0 < found["memorised"] < 1
    assert repetition([(1, 1, 1, 1, 1, 1), (1, 2, 3, 4)], 10) == pytest.approx(2 / 4)
    assert of_texts([(1,)], training_grams(dataset), dataset) == {}


def test_ways_of_sampling_are_judged_on_one_run_a_seed(make_study: MakeStudy, tmp_path: Path) -> None:
    axes = {"sampling.temperature": [0.0, 1.0], "sampling.top_p": [1.0]}
    result = sweep(make_study(axes=axes, judges=["sampling"], goal="sample_gap", seeds=1), out=tmp_path / "out")
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1
    greedy, free = (trial.figures for trial in result.trials)
    assert greedy["loss"] == free["loss"]
    assert greedy["sample_nats"] < free["sample_nats"]
    assert greedy["distinct"] < free["distinct"]
    assert free["sample_gap"] == pytest.approx(abs(free["sample_nats"] - free["loss"]))


def test_a_forecast_counts_runs_and_measures_every_shape_once(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = make_study(axes={"lr": [0.1, 0.2, 0.3], "n_layers": [1, 2]})
    taken, real = [], Stepper.take
    monkeypatch.setattr(
        Stepper, "take", lambda self, step, batch: (taken.append(self.accumulate), real(self, step, batch))[1]
    )
    found = forecast(study)
    assert len(taken) == 2 * (1 + STEPS), "steps as runs take them, and of each shape once"
    assert (found.points, found.runs, found.shapes, found.measured) == (6, 12, 2, 2)
    assert 0 < found.seconds_low <= found.seconds <= found.seconds_high
    result = sweep(study, out=tmp_path / "out")
    weights = sum(
        path.stat().st_size
        for path in (tmp_path / "out").rglob("*")
        if path.name in ("model.safetensors", "training_state.pt")
    )
    assert found.disk_bytes == pytest.approx(weights, rel=0.35), "headers weigh something in models this small"
    assert result.complete
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_forecast_counts_the_texts_of_every_trial_also_where_trials_share_a_run(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = {"sampling.temperature": [0.5, 0.7, 0.9, 1.0], "sampling.top_p": [0.5, 1.0]}
    study = make_study(axes=axes, judges=["sampling"], goal="sample_gap", seeds=2)
    asked: list[str] = []
    monkeypatch.setattr(
        "picolab.studies.forecast.written_figures", lambda model, *_, **__: (asked.append(""), sleep(0.5))
    )
    found = forecast(study)
    assert (found.runs, len(asked)) == (16, 1), "measured once"
    assert found.seconds > 16 * 0.5, "counted for every trial"
