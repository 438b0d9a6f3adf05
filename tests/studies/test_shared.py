"""Machines that share a database and no folder: every trial once, a dead holder's work taken over, bad databases refused."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from picolab.errors import BadInput
from picolab.studies import database, shared_claims
from picolab.studies.outcome import Outcome
from picolab.studies.shared import SharedStorage
from picolab.studies.study import Study
from picolab.studies.sweep import sweep

MakeStudy = Callable[..., Study]
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine is taken for dead after a second, not after a minute."""
    monkeypatch.setattr(shared_claims, "BEAT", 0.1)
    monkeypatch.setattr(shared_claims, "GRACE", 1.0)
    monkeypatch.setattr(SharedStorage, "wait", 0.1)


def address(folder: Path) -> str:
    return f"sqlite:///{folder / 'study.db'}"


def _machine(study: Study, out: Path, url: str, die: bool) -> None:
    """A machine: a process with a folder of its own. One that is to die does so in the middle of its second trial."""
    seen = 0

    def report(worker: int, event: Any) -> None:
        nonlocal seen
        seen += type(event).__name__ == "Step" and event.step == 2
        if die and seen == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    sweep(study, out=out, storage=url, report=report)


def test_of_two_machines_one_dies_and_the_other_finishes_all_trials_once(make_study: MakeStudy, tmp_path: Path) -> None:
    study, url = make_study(axes={"lr": [0.001, 0.03]}, settings={"steps": 6}), address(tmp_path)
    fork = multiprocessing.get_context("fork")
    doomed = fork.Process(target=_machine, args=(study, tmp_path / "doomed", url, True))
    doomed.start()
    doomed.join(60)
    assert doomed.exitcode == -signal.SIGKILL
    kept = {path.name: path.read_bytes() for path in (tmp_path / "doomed" / "trials").glob("p*.json")}
    assert len(kept) == 1
    result = sweep(study, out=tmp_path / "other", storage=url)
    assert result.complete and len(result.trials) == 4
    assert len({trial.process for trial in result.trials}) == 2, "both did some of the work"
    assert {name: (tmp_path / "other" / "trials" / name).read_bytes() for name in kept} == kept
    runs = [path.name for machine in ("doomed", "other") for path in (tmp_path / machine / "runs").iterdir()]
    assert len(runs) == 5 and len(set(runs)) == 4, "only the trial that was cut off was begun twice"
    undisturbed = sweep(study, out=tmp_path / "alone")
    assert [t.figures["loss"] for t in result.trials] == [t.figures["loss"] for t in undisturbed.trials]
    assert (result.floor, result.vocab_size) == (undisturbed.floor, undisturbed.vocab_size)


def test_two_machines_at_once_share_a_search(make_study: MakeStudy, tmp_path: Path) -> None:
    axes = {"lr": {"low": 1e-4, "high": 1.0, "log": True}}
    study, url = make_study(method="tpe", points=4, axes=axes, seeds=1), address(tmp_path)
    fork = multiprocessing.get_context("fork")
    other = fork.Process(target=_machine, args=(study, tmp_path / "b", url, False))
    other.start()  # both find no database, and make it
    result = sweep(study, out=tmp_path / "a", storage=url)
    other.join(60)
    assert other.exitcode == 0
    assert result.complete and len({tuple(p.point.values()) for p in result.points}) == 4
    runs = [path.name for machine in ("a", "b") for path in (tmp_path / machine).glob("runs/*")]
    assert sorted(runs) == [f"p{number:04d}_seed-0" for number in range(4)]


def test_of_many_who_claim_one_run_one_has_it_until_it_lets_go(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study()
    machines = [SharedStorage.join(tmp_path / name, address(tmp_path), study) for name in "abc"]
    claims = [machine.claim("p0000_seed-0") for machine in machines]
    assert [claim is not None for claim in claims] == [True, False, False]
    assert machines[1].claim("p0001_seed-0") is not None
    claims[0].release()
    assert machines[2].claim("p0000_seed-0") is not None


def test_the_first_of_two_outcomes_counts(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study()
    one, other, third = (SharedStorage.join(tmp_path / name, address(tmp_path), study) for name in "abc")
    for machine, loss in ((one, 1.0), (other, 2.0)):
        machine.keep(
            Outcome(
                name="p0000_seed-0", number=0, point={"optimizer.lr": 0.1}, seed=0, run="runs/none", status="finished",
                reason=None, figures={"loss": loss}, course={}, device="cpu", started="", seconds=1.0, process=1,
            )
        )  # fmt: skip
    found = third.outcome("p0000_seed-0")
    assert found is not None and found.figures["loss"] == 1.0


def test_another_study_another_database_or_a_strange_folder_is_refused(make_study: MakeStudy, tmp_path: Path) -> None:
    study, url = make_study(), address(tmp_path)
    SharedStorage.join(tmp_path / "a", url, study)
    with pytest.raises(
        BadInput, match=r"study.db` holds the study `small` with other seeds: \[0, 1\], not \[0, 1, 2\]"
    ):
        sweep(make_study(seeds=3), out=tmp_path / "b", storage=url)
    assert not (tmp_path / "b").exists()
    with pytest.raises(BadInput, match="the study in `.*/a` lives in `sqlite:.*study.db`$") as refused:
        sweep(study, out=tmp_path / "a")
    assert refused.value.hint == f"--storage {url}"
    with pytest.raises(BadInput, match="lives in `sqlite:.*study.db`, not in `sqlite:.*other.db`"):
        sweep(study, out=tmp_path / "a", storage=f"sqlite:///{tmp_path / 'other.db'}")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-mum.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(BadInput, match="exists and holds no part of a study in a database"):
        sweep(study, out=tmp_path / "letters", storage=url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("study.db", "`study.db` is no address of a database"),
        ("oracel://host/x", "`oracel://host/x` is no address of a database"),
        ("sqlite:////nowhere/at/all/study.db", "unable to open database file"),
        ("postgresql://me:secret@host/x", "`postgresql://me@host/x` needs a driver that is not installed"),
    ],
)
def test_a_database_that_is_none_gets_one_sentence(
    url: str, message: str, make_study: MakeStudy, tmp_path: Path
) -> None:
    with pytest.raises(BadInput) as refused:
        sweep(make_study(), out=tmp_path / "out", storage=url)
    assert message in str(refused.value) and "secret" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_corrupt_or_locked_database_is_named_and_untouched(
    make_study: MakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "TIMEOUT", 0.1)
    study = make_study(axes={"lr": [0.001]}, seeds=1)
    (tmp_path / "study.db").write_bytes(b"not a database at all" * 99)
    with pytest.raises(BadInput, match="refused: file is not a database"):
        sweep(study, out=tmp_path / "out", storage=address(tmp_path))
    assert (tmp_path / "study.db").read_bytes() == b"not a database at all" * 99
    (tmp_path / "study.db").unlink()
    SharedStorage.join(tmp_path / "a", address(tmp_path), study)
    with sqlite3.connect(tmp_path / "study.db") as held:
        held.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BadInput, match="refused: database is locked"):
            sweep(study, out=tmp_path / "a", storage=address(tmp_path))
    assert sweep(study, out=tmp_path / "a", storage=address(tmp_path)).complete


def test_the_outcome_of_a_long_run_fits_into_any_database(make_study: MakeStudy, tmp_path: Path) -> None:
    """MySQL holds 65,535 bytes of text; thousands of evaluations are more."""
    study = make_study()
    course = {"step": tuple(range(4000)), "loss": tuple(number / 7 for number in range(4000))}
    outcome = Outcome(
        name="p0000_seed-0",
        number=0,
        point={"lr": 0.1},
        seed=0,
        run="runs/p0000_seed-0",
        status="finished",
        reason='said "so"',
        figures={"loss": 1.0},
        course=course,
        device="cpu",
        started="2026-01-01",
        seconds=1.0,
        process=1,
    )
    SharedStorage.join(tmp_path / "here", address(tmp_path), study).keep(outcome)
    with sqlite3.connect(tmp_path / "study.db") as kept:
        sizes = [size for (size,) in kept.execute("SELECT length(value_json) FROM trial_user_attributes")]
    assert sum(sizes) > 65_535 > max(sizes)
    assert SharedStorage.join(tmp_path / "there", address(tmp_path), study).outcome(outcome.name) == outcome


def test_nothing_is_added_to_a_database_that_is_refused(make_study: MakeStudy, tmp_path: Path) -> None:
    """Neither tables beside those of a shop that has studies of its own, nor a study beside those of another Optuna program."""
    shop = tmp_path / "study.db"
    with sqlite3.connect(shop) as connection:
        connection.execute("create table studies (id int, title text)")
    before = shop.read_bytes()
    with pytest.raises(BadInput, match="holds a table `studies` of another program"):
        sweep(make_study(), out=tmp_path / "out", storage=address(tmp_path))
    assert shop.read_bytes() == before
    shop.unlink()
    theirs = database.Database(address(tmp_path))
    theirs.add(theirs.study("small"), TrialState.FAIL, note="ours")
    with pytest.raises(BadInput, match="holds a study `small` of another program"):
        sweep(make_study(), out=tmp_path / "out", storage=address(tmp_path))
    assert [one.study_name for one in theirs.optuna.get_all_studies()] == ["small"]
    assert not (tmp_path / "out").exists()
