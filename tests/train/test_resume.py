"""Going on: the same bits as a run that was never stopped, however it was stopped."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny import numbers, tiny_settings, tiny_task

from picolab.runs.folder import STATE, WEIGHTS, Run
from picolab.train.checkpoints import load_state
from picolab.train.events import Event, Step
from picolab.train.loop import train

from processes import start


def undisturbed(out: Path, **changes: Any) -> Run:
    return train(tiny_settings(out, **changes), task_of=tiny_task)


def assert_same(one: Run, other: Run) -> None:
    """Same rows, same weights, same optimizer, bit by bit."""
    assert numbers(one) == numbers(other)
    a, b = one.last(), other.last()
    assert a is not None and b is not None and a.step == b.step
    assert (a.path / WEIGHTS).read_bytes() == (b.path / WEIGHTS).read_bytes()
    mine, theirs = load_state(a), load_state(b)
    assert mine.optimizer.keys() == theirs.optimizer.keys() != set()
    for name, state in mine.optimizer.items():
        assert all(torch.equal(value, theirs.optimizer[name][key]) for key, value in state.items()), name
    mine.progress.seconds = theirs.progress.seconds = 0
    assert mine.progress == theirs.progress
    best, also = one.best(), other.best()
    assert best is not None and also is not None and best.step == also.step


@pytest.mark.parametrize("stop_at", [[1], [4], [7], [2, 5, 9], [3, 3]])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path, stop_at: list[int]) -> None:
    settings, run = tiny_settings(tmp_path / "run"), None
    for step in stop_at:

        def interrupt(event: Event, step: int = step) -> None:
            if isinstance(event, Step) and event.step == step:
                os.kill(os.getpid(), signal.SIGINT)

        run = train(settings, report=interrupt, resume=run, task_of=tiny_task)
    assert run is not None
    assert train(run.settings, resume=run, task_of=tiny_task).status == "finished"
    assert_same(undisturbed(tmp_path / "whole"), run)


def test_an_early_stop_is_the_same_after_a_pause(tmp_path: Path) -> None:
    flat = {"patience": 3, "eval_every": 1, "lr": 1e-30, "min_lr": 0, "warmup": 0, "steps": 40}
    settings = tiny_settings(tmp_path / "run", **flat)

    def interrupt(event: Event) -> None:
        if isinstance(event, Step) and event.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    run = train(settings, report=interrupt, task_of=tiny_task)
    train(run.settings, resume=run, task_of=tiny_task)
    whole = undisturbed(tmp_path / "whole", **flat)
    assert numbers(run) == numbers(whole) and run.meta["reason"] == "early stop"


def test_a_finished_run_has_nothing_left_to_do_and_may_be_lengthened(tmp_path: Path) -> None:
    run = undisturbed(tmp_path / "run")
    before = numbers(run)
    train(run.settings, resume=run, task_of=tiny_task)
    assert numbers(run) == before and run.status == "finished"
    train(run.settings.changed(training={"steps": 20}), resume=run, task_of=tiny_task)
    assert [row["step"] for row in run.metrics()] == list(range(21)) and numbers(run)[:13] == before


def test_a_run_with_no_checkpoint_begins_again(tmp_path: Path) -> None:
    run = killed(tmp_path / "run", "Step 3")
    assert run.last() is None and run.metrics()
    assert resumed(run) == 0
    assert_same(undisturbed(tmp_path / "whole"), run)


@pytest.mark.parametrize("moment", ["Started 0", "Step 6", "Saved 8", "Step 9"])
def test_after_a_kill_it_ends_with_the_same_bits(tmp_path: Path, moment: str) -> None:
    run = killed(tmp_path / "run", moment)
    assert run.status == "killed"
    assert resumed(run) == 0
    assert run.status == "finished"
    assert_same(undisturbed(tmp_path / "whole"), run)


def test_a_torn_checkpoint_is_passed_over_and_made_again(tmp_path: Path) -> None:
    run = killed(tmp_path / "run", "Step 10")
    newest = run.path / "checkpoints" / "step-0000008"
    (newest / STATE).write_bytes((newest / STATE).read_bytes()[:-100])
    assert resumed(run) == 0
    assert "step-0000008 is torn and passed over" in (run.path / "log.txt").read_text()
    assert_same(undisturbed(tmp_path / "whole"), run)


def test_a_checkpoint_whose_pointers_were_not_written_counts(tmp_path: Path) -> None:
    run = killed(tmp_path / "run", "Step 9")
    for name in ("last.json", "best.json"):
        (run.path / "checkpoints" / name).unlink()
    assert resumed(run) == 0
    assert_same(undisturbed(tmp_path / "whole"), run)


def killed(folder: Path, moment: str) -> Run:
    """A run whose process is killed when it says this line."""
    program = start(tiny.main, str(folder), "--delay=0.02")
    for line in program.out:
        if line.strip() == moment:
            program.kill()
            break
    else:
        pytest.fail(f"the run never said `{moment}`")
    assert program.process.exitcode == -signal.SIGKILL
    return Run.open(folder)


def resumed(run: Run) -> int:
    """The exit code of a process that goes on with a run."""
    code, said = start(tiny.main, str(run.path), "--resume").end()
    return code
