"""The event files say what metrics.jsonl says, read by TensorBoard's own reader."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_settings, tiny_task

from picolab.errors import Diverged, MissingExtra
from picolab.runs.folder import Run
from picolab.train.loop import train
from picolab.train.track import FOLDER


def shown(run: Run) -> dict[str, list[tuple[int, float]]]:
    """Every curve as TensorBoard draws it: steps and numbers."""
    reader = EventAccumulator(str(run.path / FOLDER), size_guidance={"scalars": 0})
    reader.Reload()
    return {name: [(e.step, e.value) for e in reader.Scalars(name)] for name in reader.Tags()["scalars"]}


def told(run: Run) -> dict[str, list[tuple[int, float]]]:
    """The same from metrics.jsonl."""
    curves = defaultdict(list)
    for row in run.metrics():
        for name, value in row.items():
            if name != "step":
                curves[name].append((row["step"], value))
    return dict(curves)


def assert_the_same(run: Run) -> None:
    curves, rows = shown(run), told(run)
    assert curves.keys() == rows.keys()
    for name, curve in rows.items():
        assert [step for step, _ in curves[name]] == [step for step, _ in curve], name
        # Event files hold float32.
        assert [value for _, value in curves[name]] == pytest.approx([value for _, value in curve], rel=1e-6), name


def test_every_number_of_a_run_is_a_curve(tmp_path: Path) -> None:
    run = train(tiny_settings(tmp_path / "run", track="tensorboard"), task_of=tiny_task)
    assert_the_same(run)
    assert {"train/loss", "val/loss", "lr", "grad_norm", "tokens_per_second"} <= shown(run).keys()
    assert len(shown(run)["train/loss"]) == 12


def test_a_run_that_goes_on_repeats_no_step(tmp_path: Path) -> None:
    """It ends badly two steps after its last checkpoint; those two are made again."""
    settings = tiny_settings(tmp_path / "run", track="tensorboard")

    def breaks(settings: Any) -> Any:
        task = tiny_task(settings)
        rows = task.batch

        def batch(step: int) -> Any:
            if step == 6:
                raise Diverged("boom")
            return rows(step)

        object.__setattr__(task, "batch", batch)
        return task

    with pytest.raises(Diverged):
        train(settings, task_of=breaks)
    run = Run.open(tmp_path / "run")
    assert [step for step, _ in shown(run)["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert_the_same(run)
    train(run.settings, resume=run, task_of=tiny_task)
    assert [step for step, _ in shown(run)["train/loss"]] == list(range(1, 13))
    assert_the_same(run)


def test_nothing_is_written_unless_asked(tmp_path: Path) -> None:
    run = train(tiny_settings(tmp_path / "run", steps=1, warmup=0), task_of=tiny_task)
    assert not (run.path / FOLDER).exists()


def test_without_the_package_a_run_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra, match=r"^`--track tensorboard` needs a package that is not installed$") as error:
        train(tiny_settings(tmp_path / "run", track="tensorboard"), task_of=tiny_task)
    assert error.value.hint == "pip install 'picolab[track]'"
    assert not (tmp_path / "run").exists()
