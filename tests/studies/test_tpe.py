"""A search that learns finds what is good, asks each point once over kills, and mends its journal."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from picolab.errors import BadCheckpoint
from picolab.studies.outcome import Outcome
from picolab.studies.points import trials_of
from picolab.studies.storage import Storage
from picolab.studies.study import Study
from picolab.studies.sweep import sweep
from picolab.studies.tpe import JOURNAL, Tpe, mend

MakeStudy = Callable[..., Study]
AXES: dict[str, Any] = {"lr": {"low": 1e-4, "high": 1.0, "log": True}, "n_layers": [1, 2]}


def answer(storage: Storage, number: int, point: Mapping[str, Any], seed: int) -> None:
    """An outcome whose loss is lowest at lr 0.01 and one layer."""
    distance = abs(float(point["optimizer.lr"]) / 0.01 - 1) / (1 + float(point["optimizer.lr"]) / 0.01)
    storage.keep(
        Outcome(
            name=f"p{number:04d}_seed-{seed}", number=number, point=point, seed=seed, run="runs/none", status="finished",
            reason=None,
            figures={"loss": distance + 0.1 * (point["model.n_layers"] == 2) + 0.001 * seed}, course={}, device="cpu",
            started="2026-01-01T00:00:00", seconds=1.0, process=1,
        )
    )  # fmt: skip


def test_points_gather_where_the_goal_is_low_and_their_number_is_kept(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(method="tpe", points=40, axes=AXES)
    storage = Storage.take_up(tmp_path / "out", study)
    search = Tpe(study, storage)
    while search.grow():
        trial = trials_of(study, search.points())[-1]
        for seed in study.seeds:
            answer(storage, trial.number, trial.point, seed)
    points = Tpe(study, storage).points()
    assert len(points) == 40 and len({tuple(point.values()) for point in points}) == 40

    def near(some: Any) -> float:
        return sum(0.002 < float(p["optimizer.lr"]) < 0.05 for p in some) / len(some)

    assert near(points[-15:]) > 0.5 > 0.35, "a third of the range's logarithm is this near"
    assert search.grow() is False


def test_two_searches_on_one_journal_draw_different_points(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(method="tpe", points=4, axes=AXES)
    storage = Storage.take_up(tmp_path / "out", study)
    one, other = Tpe(study, storage), Tpe(study, storage)
    for search in (one, other, one, other):
        assert search.grow()
    assert not one.grow()
    assert len({tuple(point.values()) for point in other.points()}) == 4
    assert one.points() == other.points()


def _killed(study: Study, out: Path) -> None:
    def report(worker: int, event: Any) -> None:
        if type(event).__name__ == "Step" and (out / "trials" / "p0000_seed-0.json").exists():
            os.kill(os.getpid(), signal.SIGKILL)

    sweep(study, out=out, report=report)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_point_that_was_asked_before_a_kill_is_finished_and_not_asked_again(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    study, out = make_study(method="tpe", points=3, axes=AXES, seeds=1), tmp_path / "out"
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(study, out))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    asked = Tpe(study, Storage(out)).points()
    assert len(asked) == 2
    with (out / JOURNAL).open("ab") as file:  # what a kill inside a line leaves
        file.write(b'{"op_code":4,"work')
    result = sweep(study, out=out)
    assert result.complete and len(result.trials) == 3
    assert [point.point for point in result.points[:2]] == list(asked)
    assert [point.status for point in result.points] == ["finished"] * 3
    assert sweep(study, out=out).trials == result.trials


def test_an_unfinished_line_is_cut_off_and_whole_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for before, after in ((b"", b""), (b"a\nb\n", b"a\nb\n"), (b"a\nb\nc", b"a\nb\n"), (b"abc", b"")):
        path.write_bytes(before)
        mend(path)
        assert path.read_bytes() == after


@pytest.mark.parametrize("foreign", [b"not json at all\n", b'{"half": \n', b'{"op_code": 99}\n', b"[1]\n"])
def test_a_journal_that_is_none_is_named(foreign: bytes, make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(method="tpe", points=3, axes=AXES)
    storage = Storage.take_up(tmp_path / "out", study)
    (storage.folder / JOURNAL).write_bytes(foreign * 2)
    with pytest.raises(BadCheckpoint, match=r"search.journal` is no journal of a search"):
        Tpe(study, storage)
    assert (storage.folder / JOURNAL).read_bytes() == foreign * 2
