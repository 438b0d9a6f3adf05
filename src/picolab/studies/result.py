"""A study as data, in memory and on disk.

    OUT/study.json     setup, points (bands over seeds), trials, findings, recommendation      `StudyResult`
        study.csv      one line a trial: setting by setting, figure by figure
        plots/         line.png heatmap.png ..
        trials/ runs/  what it was gathered from

docs/guides/studies.md explains every field. A figure that does not exist is left out, never 0 or NaN. A study of one seed has no
bands: `low`, `high` and `standard_error` are null.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError

from picolab.compare.bands import Band
from picolab.errors import BadCheckpoint
from picolab.runs import atomic
from picolab.studies.figures import FIGURES
from picolab.studies.findings import Finding
from picolab.studies.outcome import Outcome
from picolab.studies.study import Study, Value

FORMAT = "picolab-study/1"
SUMMARY, TABLE = "study.json", "study.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class PointResult:
    """A point over its seeds. `status` is `finished` if all its trials are, else what became of the first that is not."""

    number: int
    point: Mapping[str, Value]
    status: Literal["finished", "pruned", "failed", "missing"]
    seeds: tuple[int, ...]
    figures: Mapping[str, Band]

    def has(self, *names: str) -> bool:
        """Whether all its seeds finished and have these figures."""
        return self.status == "finished" and set(names) <= set(self.figures)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommendation:
    """The point to take and why, in words; `within_noise` are points as good as the best but for seeds."""

    number: int
    point: Mapping[str, Value]
    says: str
    best: int
    within_noise: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyResult:
    """The whole. Points and trials are in the order of their numbers."""

    format: str = FORMAT
    complete: bool
    study: Study
    points: tuple[PointResult, ...]
    trials: tuple[Outcome, ...]
    findings: tuple[Finding, ...]
    recommendation: Recommendation | None
    vocab_size: int | None
    uniform: float | None
    floor: float | None
    held_out: bool
    machine: str
    created: str
    picolab: str

    @property
    def words(self) -> tuple[str, ...]:
        """What was found, as sentences; the recommendation last."""
        last = () if self.recommendation is None else (self.recommendation.says,)
        return (*(finding.says for finding in self.findings), *last)

    @property
    def finished(self) -> tuple[Outcome, ...]:
        """The trials that have figures."""
        return tuple(trial for trial in self.trials if trial.status == "finished")

    def save(self, folder: Path) -> None:
        """Write study.csv and study.json, each whole or not at all."""
        with atomic.reported(folder):
            folder.mkdir(parents=True, exist_ok=True)
        atomic.write_text(folder / TABLE, self.table())
        atomic.write_json(folder / SUMMARY, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """The content of study.json."""
        plain: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return plain

    def table(self) -> str:
        """The trials as CSV, one line each."""
        figures = sorted({name for trial in self.trials for name in trial.figures})
        axes = [axis.name for axis in self.study.axes]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["trial", *axes, "seed", "status", *figures, "run", "reason"])
        for trial in self.trials:
            writer.writerow(
                [
                    trial.name,
                    *(trial.point.get(axis) for axis in axes),
                    trial.seed,
                    trial.status,
                    *(trial.figures.get(name) for name in figures),
                    trial.run,
                    trial.reason,
                ]
            )
        return out.getvalue()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The result saved in a folder."""
        path = folder / SUMMARY
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found = content.get("format") if isinstance(content, dict) else None
            if found != FORMAT:
                raise BadCheckpoint(
                    f"`{path}` has format `{found}`, not `{FORMAT}`", hint="run `picolab sweep` again with this version"
                )
            loaded: Self = _adapter().validate_python(content)
        except FileNotFoundError as error:
            raise BadCheckpoint(
                f"`{folder}` has no {SUMMARY}", hint="a folder made by `picolab sweep` is meant"
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError, ValidationError, TypeError) as error:
            first = str(error).splitlines()[0]
            raise BadCheckpoint(
                f"the study in `{folder}` cannot be read: {first}",
                hint=f"`picolab sweep {folder}` gathers it again from its trials, which stand beside it",
            ) from error
        return loaded

    @staticmethod
    def schema() -> dict[str, Any]:
        """The JSON schema of study.json."""
        return _adapter().json_schema()


def best_first(points: Sequence[PointResult], goal: str) -> list[PointResult]:
    """Points by the mean of a figure, the best one first; those without it come last, in their own order."""
    sign = 1 if FIGURES[goal].wants_small else -1
    return sorted(points, key=lambda p: sign * p.figures[goal].mean if goal in p.figures else math.inf)


@functools.cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(StudyResult)
