"""Studies that never ran but look like ones: every trial of a grid has the figures that a rule gives it.

study_named(axes, ..)  ->  made_up(study, loss=rule, ..)  ->  result_of(study, outcomes, folder)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from picolab.studies.gather import gather
from picolab.studies.outcome import Outcome
from picolab.studies.points import grid, trials_of
from picolab.studies.read import study_of
from picolab.studies.result import StudyResult
from picolab.studies.search import Listed
from picolab.studies.storage import Storage
from picolab.studies.study import Study

DATA = {"vocab_size": 50, "floor": None, "held_out": True}


def study_named(name: str = "made-up", **parts: Any) -> Study:
    """A study of integer sequences with these parts."""
    settings = {"steps": 4, **parts.pop("settings", {})}
    return study_of({"study": name, "settings": settings, **parts})


def outcome(study: Study, number: int, point: Mapping[str, Any], seed: int, **figures: float) -> Outcome:
    """A finished trial with these figures."""
    return Outcome(
        name=f"p{number:04d}_seed-{seed}", number=number, point=point, seed=seed, run=f"runs/p{number:04d}_seed-{seed}",
        status="finished", reason=None, figures=figures, course={}, device="cpu", started="2026-01-01T00:00:00", seconds=1.0,
        process=1, data=DATA,
    )  # fmt: skip


def made_up(
    study: Study, loss: Callable[[Mapping[str, Any], int], float], **more: Callable[[Mapping[str, Any]], float]
) -> list[Outcome]:
    """Every trial of a grid with a loss that a rule gives it."""
    return [
        outcome(
            study, t.number, t.point, t.seed, loss=loss(t.point, t.seed), **{k: f(t.point) for k, f in more.items()}
        )
        for t in trials_of(study, grid(study))
    ]


def result_of(study: Study, outcomes: list[Outcome], folder: Path) -> StudyResult:
    """What a study of these outcomes says."""
    storage = Storage.take_up(folder, study)
    for one in outcomes:
        storage.keep(one)
    return gather(study, storage, Listed(grid(study)), complete=True)
