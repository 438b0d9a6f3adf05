"""Whole studies on disk: every trial once, whatever is killed, whoever helps; bad storages are refused and nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from picolab.errors import BadCheckpoint, BadInput, Diverged
from picolab.runs.folder import Run
from picolab.studies import trial as trials
from picolab.studies.outcome import Outcome
from picolab.studies.points import grid, trials_of
from picolab.studies.pruning import median_says_stop
from picolab.studies.result import StudyResult
from picolab.studies.storage import PLAN, Storage
from picolab.studies.study import Point, Study
from picolab.studies.sweep import sweep
from picolab.studies.work import TrialEnds, work
from picolab.studies.workers import WorkerFell
from picolab.train.events import Step

MakeStudy = Callable[..., Study]


def begun(folder: Path) -> dict[str, int]:
    """How often each run was begun at its first step."""
    return {
        run.name: (run / "log.txt").read_text(encoding="utf-8").count("begins at step 0")
        for run in sorted((folder / "runs").iterdir())
    }


def test_a_point_that_another_process_asked_for_while_we_looked_is_waited_for(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    """What a database shows of a point may lack its values for a moment; that search then says that there is nothing to ask."""
    study = make_study(axes={"lr": [0.001]}, seeds=1)

    class Search:
        whole = False

        def points(self) -> Sequence[Point]:
            return grid(study) if self.whole else [{}]

        def grow(self) -> bool:
            self.whole = True
            return False

    storage = Storage.take_up(tmp_path / "out", study)
    assert work(study, storage, Search(), report=lambda event: None)
    assert all(storage.outcome(trial.name) is not None for trial in trials_of(study, grid(study)))


def test_every_trial_runs_once_and_the_files_say_what_the_result_says(make_study: MakeStudy, tmp_path: Path) -> None:
    study, out = make_study(), tmp_path / "out"
    result = sweep(study, out=out)
    assert result.complete
    assert [trial.name for trial in result.trials] == [t.name for t in trials_of(study, grid(study))]
    assert StudyResult.load(out) == result
    for trial in result.trials:
        run = Run.open(out / trial.run)
        rows = [row for row in run.metrics() if "val/loss" in row]
        assert run.status == "finished"
        assert trial.figures["loss"] == rows[-1]["val/loss"]
        assert trial.figures["best_loss"] == min(row["val/loss"] for row in rows if row["step"])
        assert trial.course["loss"] == tuple(row["val/loss"] for row in rows)
        assert run.settings.optimizer.lr == trial.point["optimizer.lr"]
        assert run.settings.seed == trial.seed
    point = result.points[2]
    losses = [trial.figures["loss"] for trial in result.trials if trial.number == 2]
    assert point.figures["loss"].mean == pytest.approx(sum(losses) / 2)
    assert (point.figures["loss"].low, point.figures["loss"].high) == (min(losses), max(losses))
    lines = (out / "study.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 9 and lines[0].startswith("trial,optimizer.lr,model.n_layers,seed,status,")
    assert {"line.png", "heatmap.svg", "parallel.png"} <= {path.name for path in (out / "plots").iterdir()}
    again = sweep(study, out=out)
    assert again.trials == result.trials
    assert set(begun(out).values()) == {1}


def test_a_study_stopped_between_any_two_trials_goes_on(make_study: MakeStudy, tmp_path: Path) -> None:
    study, out, seen = make_study(), tmp_path / "out", 0

    def stop_after_three(worker: int, event: Any) -> None:
        nonlocal seen
        if isinstance(event, TrialEnds):
            seen += 1
            if seen == 3:
                raise KeyboardInterrupt

    partly = sweep(study, out=out, report=stop_after_three)
    assert not partly.complete and len(partly.trials) == 3
    assert partly.points[3].status == "missing"
    kept = {trial.name: trial for trial in partly.trials}
    whole = sweep(study, out=out)
    assert whole.complete
    assert all(trial == kept[trial.name] for trial in whole.trials if trial.name in kept)
    assert set(begun(out).values()) == {1}


def _sweep_in_child(study: Study, out: Path, home: str, kill_at: str | None, workers: int) -> None:
    """A whole sweep in a process of its own, killed by itself at a moment that its events name."""
    os.environ["PICOLAB_HOME"] = home
    count = 0

    def report(worker: int, event: Any) -> None:
        nonlocal count
        name = type(event).__name__
        count += name == (kill_at or "").partition(":")[0]
        if kill_at is not None and f"{name}:{count}" == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    if kill_at == "half an outcome":
        kept = Storage.keep

        def torn(self: Storage, outcome: Outcome) -> None:
            if outcome.number == 1:
                (self.folder / "trials" / f".tmp-{outcome.name}.json-1").write_text("{", encoding="utf-8")
                os.kill(os.getpid(), signal.SIGKILL)
            kept(self, outcome)

        Storage.keep = torn  # type: ignore[method-assign]
    sweep(study, out=out, workers=workers, report=report)


def child(study: Study, out: Path, kill_at: str | None = None, workers: int = 1) -> Any:
    """That process, started."""
    process = multiprocessing.get_context("fork").Process(
        target=_sweep_in_child, args=(study, out, os.environ["PICOLAB_HOME"], kill_at, workers)
    )
    process.start()
    return process


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("moment", ["TrialBegins:1", "Step:6", "Saved:2", "TrialEnds:3", "half an outcome"])
def test_a_sweep_killed_at_any_moment_is_finished_by_the_next_one(
    moment: str, make_study: MakeStudy, tmp_path: Path
) -> None:
    study, out = make_study(axes={"lr": [0.001, 0.03]}), tmp_path / "out"
    process = child(study, out, moment)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    kept = {outcome.name: outcome for outcome in Storage(out).outcomes()}
    result = sweep(study, out=out)
    assert result.complete and len(result.trials) == 4
    assert all(trial.status == "finished" for trial in result.trials)
    assert all(kept.get(trial.name, trial) == trial for trial in result.trials)
    # What had an outcome, or a finished run without one, was not begun again.
    assert all(begun(out)[Path(trial.run).name] == 1 for trial in kept.values())
    if moment != "Step:6":
        return
    undisturbed = sweep(study, out=tmp_path / "undisturbed")
    assert [t.figures["loss"] for t in result.trials] == [t.figures["loss"] for t in undisturbed.trials]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_of_two_processes_on_one_storage_one_is_killed_and_the_other_finishes(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    study, out = make_study(settings={"steps": 6}, axes={"lr": [0.001, 0.01, 0.03]}), tmp_path / "out"
    doomed, other = child(study, out, "Step:9"), child(study, out)
    doomed.join(60)
    other.join(120)
    assert (doomed.exitcode, other.exitcode) == (-signal.SIGKILL, 0)
    result = StudyResult.load(out)
    assert result.complete and len(result.trials) == 6
    assert len({trial.process for trial in result.trials}) == 2, "both did some of the work"
    assert sorted(begun(out).values()) in ([1] * 6, [*[1] * 5, 2])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(settings={"steps": 40}, axes={"lr": [0.001, 0.03]})
    out, told, killed = tmp_path / "out", [], []

    def kill_one(worker: int, event: Any) -> None:
        told.append((worker, event))
        if isinstance(event, Step) and event.step == 3 and not killed:
            processes = multiprocessing.active_children()
            killed.append(processes[0].pid)
            os.kill(processes[0].pid or 0, signal.SIGKILL)

    result = sweep(study, out=out, workers=2, report=kill_one)
    assert result.complete and len(result.trials) == 4
    assert [event.process for _, event in told if isinstance(event, WorkerFell)] == killed
    assert not {trial.process for trial in result.trials if trial.process in killed}, "it had finished nothing"
    assert len([event for _, event in told if isinstance(event, TrialEnds)]) == 4


def test_a_claim_keeps_others_out_until_its_holder_is_gone(make_study: MakeStudy, tmp_path: Path) -> None:
    storage = Storage.take_up(tmp_path / "out", make_study())
    claim = storage.claim("p0000_seed-0")
    assert claim is not None
    assert Storage(tmp_path / "out").claim("p0000_seed-0") is None
    claim.release()
    assert Storage(tmp_path / "out").claim("p0000_seed-0") is not None


def test_a_storage_of_another_study_is_refused_and_untouched(make_study: MakeStudy, tmp_path: Path) -> None:
    out = tmp_path / "out"
    Storage.take_up(out, make_study())
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.suffix == ".json"}
    with pytest.raises(BadInput, match=r"holds the study `small` with other seeds: \[0, 1\], not \[0, 1, 2\]"):
        sweep(make_study(seeds=3), out=out)
    assert {path: path.read_bytes() for path in before} == before
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-mum.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(BadInput, match="exists and holds no study"):
        sweep(make_study(), out=tmp_path / "letters")
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["to-mum.txt"]


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"format": "picolab-study-plan/1"}'])
def test_a_corrupt_plan_is_named(torn: str, make_study: MakeStudy, tmp_path: Path) -> None:
    Storage.take_up(tmp_path / "out", make_study())
    (tmp_path / "out" / PLAN).write_text(torn, encoding="utf-8")
    with pytest.raises(BadCheckpoint, match="is no plan of a study"):
        sweep(make_study(), out=tmp_path / "out")


def test_a_corrupt_outcome_is_named_and_removing_it_judges_the_trial_again(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    study, out = make_study(axes={"lr": [0.001, 0.03]}), tmp_path / "out"
    first = sweep(study, out=out)
    path = out / "trials" / "p0001_seed-0.json"
    path.write_text(path.read_text(encoding="utf-8")[:50], encoding="utf-8")
    with pytest.raises(BadCheckpoint, match="p0001_seed-0.json` is no outcome of a trial"):
        sweep(study, out=out)
    path.unlink()
    assert [t.figures for t in sweep(study, out=out).trials] == [t.figures for t in first.trials]
    assert set(begun(out).values()) == {1}


def test_a_locked_storage_is_refused_after_a_while(make_study: MakeStudy, tmp_path: Path) -> None:
    study, out = make_study(), tmp_path / "out"
    Storage.take_up(out, study)
    with FileLock(out / "study.lock"), pytest.raises(BadInput, match=r"has been locked by another process for 0.1 s"):
        Storage.take_up(out, study, patience=0.1)


def test_a_trial_that_diverges_is_recorded_with_its_reason_and_not_tried_again(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = trials.take_up_or_train, []

    def diverging(settings: Any, path: Path, *rest: Any, **more: Any) -> Run:
        calls.append(path.name)
        if settings.optimizer.lr > 0.01:
            raise Diverged("the loss of step 3 is nan")
        return real(settings, path, *rest, **more)

    monkeypatch.setattr(trials, "take_up_or_train", diverging)
    study = make_study(axes={"lr": [0.001, 0.03]})
    result = sweep(study, out=tmp_path / "out")
    assert result.complete
    assert [point.status for point in result.points] == ["finished", "failed"]
    assert any("lr 0.03, seed 1 did not finish: the loss of step 3 is nan." in says for says in result.words)
    assert result.recommendation is not None and result.recommendation.point == {"optimizer.lr": 0.001}
    sweep(study, out=tmp_path / "out")
    assert len(calls) == 4


def test_a_hopeless_run_is_ended_early_and_says_why(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(
        settings={"steps": 30, "eval_every": 5},
        axes={"lr": [0.03, 0.02, 0.01, 0.025, 0.0001]},
        seeds=1,
        pruning="median",
    )
    result = sweep(study, out=tmp_path / "out")
    last = result.trials[-1]
    assert last.status == "pruned" and last.reason is not None
    assert Run(tmp_path / "out" / last.run).status == "pruned"
    assert max(step for step in last.course["step"] if step is not None) < 30
    assert last.figures == {}
    step = int(last.reason.split("step ")[1].split(" ")[0])
    losses = [
        v for s, v in zip(last.course["step"], last.course["loss"], strict=True) if s and s <= step and v is not None
    ]
    assert median_says_stop(step, losses, result.trials[:-1], seed=0) is not None
    assert median_says_stop(step, [0.0, 0.0], result.trials[:-1], seed=0) is None
    assert median_says_stop(step, losses, result.trials[:3], seed=0) is None, "three are too few for a median"


def test_one_seed_draws_no_band(make_study: MakeStudy, tmp_path: Path) -> None:
    result = sweep(make_study(axes={"lr": [0.001, 0.03]}, seeds=1), out=tmp_path / "out")
    assert not result.study.has_bands
    assert all(band.standard_error is None for point in result.points for band in point.figures.values())
    assert "One seed gives no band" in result.words[-2]
    assert not any("±" in says for says in result.words)
    svg = (tmp_path / "out" / "plots" / "line.svg").read_text(encoding="utf-8")
    assert "FillBetween" not in svg and "1 seed, no band" in svg
    two = sweep(make_study(axes={"lr": [0.001, 0.03]}), out=tmp_path / "two")
    assert two.study.has_bands
    assert "FillBetween" in (tmp_path / "two" / "plots" / "line.svg").read_text(encoding="utf-8")
