"""A run from beginning to end: what it tells, what it leaves, how it stops."""

from __future__ import annotations

import dataclasses
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import numbers, tiny_settings, tiny_task

from picolab.errors import BadCheckpoint, BadInput, BadSetting, Diverged
from picolab.measure.loss import evaluate
from picolab.runs.folder import Run
from picolab.runs.settings import Settings, load_settings
from picolab.train.events import Evaluated, Event, Saved, Started, Step, Stopped
from picolab.train.loop import train
from picolab.train.task import Task
from picolab.weights.checkpoint import load_model


def run_tiny(out: Path, **changes: Any) -> tuple[Run, list[Event]]:
    events: list[Event] = []
    return train(tiny_settings(out, **changes), report=events.append, task_of=tiny_task), events


def of(kind: type, events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_run_tells_what_happens_in_order(tmp_path: Path) -> None:
    run, events = run_tiny(tmp_path / "run")
    assert isinstance(events[0], Started) and isinstance(events[-1], Stopped)
    assert [e.step for e in of(Step, events)] == list(range(1, 13))
    assert [e.step for e in of(Evaluated, events)] == [0, 4, 8, 12]
    assert [e.step for e in of(Saved, events)] == [4, 8, 12]
    assert events[-1].reason == "finished" and run.status == "finished"
    assert of(Step, events)[-1].eta_seconds == 0 < of(Step, events)[3].eta_seconds


def test_a_run_says_before_it_starts_what_it_takes(tmp_path: Path) -> None:
    _, events = run_tiny(tmp_path / "run")
    started = of(Started, events)[0]
    estimate = started.estimate
    assert estimate.measured_steps >= 2
    assert 0 < estimate.seconds_low <= estimate.seconds <= estimate.seconds_high < 60
    assert estimate.memory_bytes > 10_000_000 and estimate.checkpoint_bytes == 3 * 4 * started.parameters
    assert (started.dtype, started.dtype_reason, started.steps) == ("float32", "asked for", 12)


def test_measuring_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured, _ = run_tiny(tmp_path / "a")
    monkeypatch.setattr("picolab.train.loop.estimate", lambda *_, **__: None)
    unmeasured, _ = run_tiny(tmp_path / "b")
    assert numbers(measured) == numbers(unmeasured)


def test_rows_have_the_names_that_are_documented(tmp_path: Path) -> None:
    run, events = run_tiny(tmp_path / "run")
    rows = run.metrics()
    assert [row["step"] for row in rows] == list(range(13))
    assert rows[0].keys() == {"step", "tokens", "seconds", "val/loss"}
    every_step = {"step", "tokens", "seconds", "train/loss", "lr", "grad_norm", "tokens_per_second"}
    assert rows[1].keys() == every_step
    assert rows[4].keys() == every_step | {"val/loss"}
    assert [row["tokens"] for row in rows[1:]] == [e.tokens for e in of(Step, events)]
    assert rows[-1]["val/loss"] < rows[0]["val/loss"]


def test_the_last_checkpoint_is_the_model_of_the_last_row(tmp_path: Path) -> None:
    run, _ = run_tiny(tmp_path / "run")
    last = run.last()
    assert last is not None
    model = load_model(last.path)
    found = evaluate(model, tiny_task(run.settings).validation)
    assert found.nats_per_token == run.metrics()[-1]["val/loss"]


def test_the_same_settings_give_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    first, _ = run_tiny(tmp_path / "a")
    again = train(load_settings(first.path / "settings.yaml").changed(out=str(tmp_path / "b")), task_of=tiny_task)
    other, _ = run_tiny(tmp_path / "c", seed=6)
    assert numbers(first) == numbers(again)
    assert numbers(first) != numbers(other)


def test_dropout_draws_other_numbers_every_step(tmp_path: Path) -> None:
    def same_rows(settings: Settings) -> Task:
        task = tiny_task(settings)
        return dataclasses.replace(task, batch=lambda step: task.batch(0))

    settings = tiny_settings(tmp_path / "run", lr=1e-12, min_lr=0, **{"model.dropout": 0.3})
    losses = [row["train/loss"] for row in train(settings, task_of=same_rows).metrics()[1:]]
    assert len(set(losses)) == len(losses)


def test_settings_on_disk_leave_nothing_open(tmp_path: Path) -> None:
    run, _ = run_tiny(tmp_path / "run")
    settings = run.settings
    assert settings.optimizer.min_lr == pytest.approx(3e-4) and settings.training.dtype == "float32"
    assert settings.model.overrides["n_layers"] == 2 and "vocab_size" not in settings.model.overrides


def test_a_run_on_a_token_budget_reads_about_so_many(tmp_path: Path) -> None:
    run, events = run_tiny(tmp_path / "run", tokens=1000)
    assert abs(run.metrics()[-1]["tokens"] - 1000) < 60 and of(Started, events)[0].steps == run.metrics()[-1]["step"]


def test_it_stops_when_the_validation_loss_no_longer_falls(tmp_path: Path) -> None:
    run, events = run_tiny(tmp_path / "run", patience=2, eval_every=1, lr=1e-30, min_lr=0, warmup=0, steps=40)
    evaluated = of(Evaluated, events)
    assert [e.without_improvement for e in evaluated[-2:]] == [1, 2]
    stopped, last = events[-1], run.last()
    assert isinstance(stopped, Stopped) and stopped.reason == "early stop" and stopped.step < 40
    assert run.status == "finished" and last is not None and last.step == stopped.step
    best = run.best()
    assert best is not None and best.step == stopped.step - 2


def test_the_best_checkpoint_is_kept_beside_the_newest(tmp_path: Path) -> None:
    run, events = run_tiny(
        tmp_path / "run", lr=0.9, min_lr=0.9, clip=0, steps=24, keep=1, checkpoint_every=2, eval_every=2
    )
    losses = {e.step: e.loss for e in of(Evaluated, events) if e.step}
    best, last = run.best(), run.last()
    assert best is not None and best.step == min(losses, key=lambda step: losses[step])
    assert last is not None and {c.step for c in run.checkpoints} == {best.step, last.step == 24 and 24}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(tmp_path: Path, number: signal.Signals) -> None:
    events: list[Event] = []

    def interrupt(event: Event) -> None:
        events.append(event)
        if isinstance(event, Step) and event.step == 5:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    run = train(tiny_settings(tmp_path / "run"), report=interrupt, task_of=tiny_task)
    stopped, last = events[-1], run.last()
    assert signal.getsignal(number) is before
    assert isinstance(stopped, Stopped) and stopped.reason == "interrupted" == run.status
    assert stopped.go_on == f"picolab train --resume {run.path}"
    assert last is not None and last.step == 5 == stopped.step


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Step) and event.step == 6:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="stopped at once"):
        train(tiny_settings(tmp_path / "run"), report=interrupt, task_of=tiny_task)
    run = Run.open(tmp_path / "run")
    last = run.last()
    assert run.status == "interrupted" and last is not None and last.step == 4


def test_it_runs_in_a_thread_where_no_signal_comes(tmp_path: Path) -> None:
    thread = threading.Thread(target=run_tiny, args=(tmp_path / "run",), kwargs={"steps": 2, "warmup": 1})
    thread.start()
    thread.join()
    assert Run.open(tmp_path / "run").status == "finished"


def poisoned(settings: Settings) -> Task:
    """The tiny task with one weight that becomes NaN when step 10 is read."""
    task = tiny_task(settings)

    def batch(step: int) -> Any:
        if step == 9:
            with torch.no_grad():
                task.model.get_parameter("blocks.1.attention.out_proj.weight")[0, 0] = torch.nan
        return task.batch(step)

    return dataclasses.replace(task, batch=batch)


def test_a_run_that_goes_bad_stops_and_keeps_what_was_good(tmp_path: Path) -> None:
    events: list[Event] = []
    with pytest.raises(Diverged, match="parameter `blocks.1.attention.out_proj.weight` has 1 NaN of 256 values"):
        train(tiny_settings(tmp_path / "run"), report=events.append, task_of=poisoned)
    run = Run.open(tmp_path / "run")
    last = run.last()
    assert run.status == "diverged" and isinstance(events[-1], Stopped) and events[-1].reason == "diverged"
    assert last is not None and last.step == 8
    assert all(torch.isfinite(p).all() for p in load_model(last.path).parameters())


def test_a_learning_rate_that_blows_up_is_a_divergence(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="first to be no longer finite") as caught:
        run_tiny(tmp_path / "run", lr=1e38, warmup=0, clip=0)
    assert caught.value.exit_code == 1 and caught.value.hint is not None and "--lr" in caught.value.hint


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The system refuses to write more into any file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [8_000, 30_000])  # the weights have 20 kB, the training state more than 40 kB
def test_a_disk_that_fills_up_costs_nothing_that_was_saved(tmp_path: Path, size: int) -> None:
    run, _ = run_tiny(tmp_path / "run", steps=4)
    longer = run.settings.changed(training={"steps": 8})
    with files_no_larger_than(size), pytest.raises(BadInput, match=r"step-0000008` cannot be written: file too large"):
        train(longer, resume=run, task_of=tiny_task)
    assert run.status == "failed"
    assert [path.name for path in sorted((run.path / "checkpoints").iterdir())] == [
        "best.json",
        "last.json",
        "step-0000004",
    ]
    train(longer, resume=run, task_of=tiny_task)
    whole, _ = run_tiny(tmp_path / "whole", steps=8)
    assert run.status == "finished" and [r["step"] for r in run.metrics()] == [r["step"] for r in whole.metrics()]


def test_two_trainings_cannot_share_a_folder(tmp_path: Path) -> None:
    errors = []

    def second(event: Event) -> None:
        if isinstance(event, Saved) and event.step == 4:
            with pytest.raises(BadInput) as caught:
                train(Run.open(tmp_path / "run").settings, resume=Run.open(tmp_path / "run"), task_of=tiny_task)
            errors.append(str(caught.value))

    run = train(tiny_settings(tmp_path / "run"), report=second, task_of=tiny_task)
    assert errors == [f"`{run.path}` is being written by process {os.getpid()}"]
    assert run.status == "finished" and [row["step"] for row in run.metrics()] == list(range(13))


def test_going_on_with_another_model_or_data_is_refused(tmp_path: Path) -> None:
    run, _ = run_tiny(tmp_path / "run", steps=4)
    for change in ({"model": {"d_model": 32}}, {"data": {"spec": "numeric"}}, {"seed": 8}):
        with pytest.raises(BadSetting, match="was begun with"):
            train(run.settings.changed(**change), resume=run, task_of=tiny_task)


def test_going_back_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    run, _ = run_tiny(tmp_path / "run", steps=4)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(BadSetting, match="has 4 steps done, more than the 3 asked for"):
        train(run.settings.changed(training={"steps": 3}), resume=run, task_of=tiny_task)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    run, _ = run_tiny(tmp_path / "run", steps=4)
    other, _ = run_tiny(tmp_path / "other", steps=4, **{"model.d_model": 32})
    mine, theirs = run.last(), other.last()
    assert mine is not None and theirs is not None
    for path in theirs.path.iterdir():
        (mine.path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(BadCheckpoint, match="holds another model"):
        train(run.settings.changed(training={"steps": 8}), resume=run, task_of=tiny_task)


def test_a_model_that_counts_goes_the_same_way(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path / "run").changed(model={"preset": "ngram"})
    bare = Settings.model_validate(settings.model_dump() | {"model": {"preset": "ngram"}})
    events: list[Event] = []
    run = train(bare, report=events.append, task_of=tiny_task)
    rows = run.metrics()
    assert [row["step"] for row in rows] == [0, 12] and rows[1]["val/loss"] < 1.0 < rows[0]["val/loss"]
    neural, _ = run_tiny(tmp_path / "neural")
    assert rows[1]["tokens"] == neural.metrics()[-1]["tokens"], "an equal budget is the same rows"
    last = run.last()
    assert (
        last is not None
        and evaluate(load_model(last.path), tiny_task(bare).validation).nats_per_token == rows[1]["val/loss"]
    )
    assert train(run.settings, resume=run, task_of=tiny_task).status == "finished"


EAGERLY = """
import sys, torch, tiny
from picolab.train.distributed import Trainee
Trainee.compile = lambda self: torch.nn.Module.compile(self, backend="eager")
sys.exit(tiny.main(sys.argv[1], "compile=true"))
"""


def test_a_compiled_step_is_the_same_step(tmp_path: Path) -> None:
    # Traced and replayed as ever, without the minutes a C++ compiler takes; in a process where no type checker stands in the way.
    words = [sys.executable, "-c", EAGERLY, str(tmp_path / "compiled")]
    done = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plain, _ = run_tiny(tmp_path / "plain")
    for row, too in zip(Run.open(tmp_path / "compiled").metrics(), plain.metrics(), strict=True):
        assert row.get("train/loss") == pytest.approx(too.get("train/loss"), abs=1e-5)


def test_bfloat16_trains_about_as_well(tmp_path: Path) -> None:
    narrow, events = run_tiny(tmp_path / "a", dtype="bfloat16")
    wide, _ = run_tiny(tmp_path / "b")
    assert of(Started, events)[0].dtype == "bfloat16"
    assert narrow.metrics()[-1]["val/loss"] == pytest.approx(wide.metrics()[-1]["val/loss"], abs=0.02)
