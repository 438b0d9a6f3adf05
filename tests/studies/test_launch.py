"""A trial of several processes is the same trial, is waited for when its sweep is killed, refused where nobody looks on."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from picolab.errors import BadInput, BadSetting
from picolab.runs.folder import Run
from picolab.studies import launch
from picolab.studies.study import Study
from picolab.studies.sweep import sweep
from picolab.train.events import Step

MakeStudy = Callable[..., Study]
ONE: dict[str, Any] = {"axes": {"lr": [0.03]}, "seeds": 1, "processes": 2}


def _killed(study: Study, out: Path) -> None:
    """A sweep that is killed as soon as its processes have made a step; they live on."""

    def report(worker: int, event: Any) -> None:
        if isinstance(event, Step):
            os.kill(os.getpid(), signal.SIGKILL)

    sweep(study, out=out, report=report)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_two_processes_a_run_give_the_loss_of_one_and_a_kill_begins_nothing_twice(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study(settings={"steps": 300, "eval_every": 100}, **ONE)
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(study, tmp_path / "two"))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    left = Run(tmp_path / "two" / "runs" / "p0000_seed-0")
    assert left.status == "running", "the processes outlive the sweep that started them"
    result = sweep(study, out=tmp_path / "two")
    run = Run.open(tmp_path / "two" / result.trials[0].run)
    assert result.complete and run.meta["processes"] == 2
    assert (run.path / "log.txt").read_text(encoding="utf-8").count("begins at step 0") == 1
    alone = sweep(
        make_study(settings={"steps": 300, "eval_every": 100}, **{**ONE, "processes": 1}), out=tmp_path / "one"
    )
    assert alone.trials[0].figures["loss"] == pytest.approx(result.trials[0].figures["loss"], abs=1e-4)


def test_processes_that_cannot_begin_are_told_in_their_own_words(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch.sys, "executable", "/bin/false")
    with pytest.raises(BadInput, match="2 processes could not begin run `p0000_seed-0`: nothing"):
        sweep(make_study(**ONE), out=tmp_path / "out")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"pruning": "median"}, "`pruning: median` does not reach into runs of 2 processes"),
        ({"judges": ["memorised"]}, "judge `memorised` does not reach into runs of 2 processes"),
        ({"axes": {"batch_size": [2, 3]}}, "`batch_size` 3 cannot be shared by 2 processes"),
        ({"processes": 0}, "`processes` is 0, not a whole number of at least 1"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(
    parts: dict[str, Any], message: str, content: dict[str, Any]
) -> None:
    from picolab.studies.read import study_of

    settings = {name: value for name, value in content["settings"].items() if name != "batch_size"}
    with pytest.raises(BadSetting) as refused:
        study_of({**content, "settings": settings, "processes": 2, **parts})
    assert str(refused.value) == message
