"""Which points does a study look at, and which run belongs to a point and a seed?

axes -> every combination (grid) | n drawn ones (random)        a setting that a model does not have is left out of its points
point, seed -> Settings of an ordinary run                      points that differ in `sampling.*` only share their runs
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picolab.errors import BadInput
from picolab.runs.settings import Settings, resolve
from picolab.sample.pick import Sampler
from picolab.studies.study import MOST_RUNS, PRESET, Axis, Point, Study, Value, short

RUNS = "runs"
EVALUATIONS = 8
"""Points of a held-out curve, about, where nobody asked for more or fewer."""
DRAWS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A point with a seed. `name` names its outcome; `run` is the folder of its run, which other trials may share."""

    number: int
    point: Point
    seed: int
    run_number: int

    @property
    def name(self) -> str:
        return f"p{self.number:04d}_seed-{self.seed}"

    @property
    def run(self) -> str:
        return f"p{self.run_number:04d}_seed-{self.seed}"

    @property
    def label(self) -> str:
        """The trial for a person: what differs, and the seed."""
        return f"{point_said(self.point)}, seed {self.seed}"


def point_said(point: Point) -> str:
    """`lr 0.001, model lstm`: the values that a point has, under short names."""
    return (
        ", ".join(f"{short(name)} {said(value)}" for name, value in point.items() if value is not None) or "no change"
    )


def without(point: Point, names: Sequence[str]) -> Point:
    """A point without some of its settings."""
    return {name: value for name, value in point.items() if name not in names}


def said(value: Value) -> str:
    """A value as people write it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def count_of(study: Study) -> int:
    """How many runs a study may ask for, from its axes alone."""
    points = study.n_points if study.n_points is not None else math.prod(len(axis.values) for axis in study.axes)
    return points * len(study.seeds)


def check_size(study: Study, *, meant: bool) -> None:
    """Refuse a study of very many runs that nobody has confirmed."""
    if (runs := count_of(study)) > MOST_RUNS and not meant:
        raise BadInput(
            f"the study asks for {runs:,} runs, more than {MOST_RUNS:,}",
            hint="leave out values, or draw some: `method: random` with `points: 50`; if it is meant, say --yes",
        )


def points_of(study: Study) -> list[Point]:
    """The points of a grid, or those that are drawn; a search that learns is counted as if its points were."""
    return grid(study) if study.method == "grid" else drawn(study)


def grid(study: Study) -> list[Point]:
    """Every combination of values, first axis slowest; a combination that differs only in what its model has not is one point."""
    return list(_distinct(itertools.product(*(axis.values for axis in study.axes)), study))


def drawn(study: Study) -> list[Point]:
    """`n_points` different points, the same ones for the same `search_seed`."""
    rng = np.random.default_rng(study.search_seed)
    wanted = study.n_points or 0
    draws = (tuple(draw(axis, rng) for axis in study.axes) for _ in range(wanted * DRAWS))
    points = list(itertools.islice(_distinct(draws, study), wanted))
    if len(points) < wanted:
        raise BadInput(
            f"the axes have no {wanted} different points, {len(points)} were found",
            hint="ask for fewer `points`, or look at all of them: `method: grid`",
        )
    return points


def draw(axis: Axis, rng: np.random.Generator) -> Value:
    """One value of an axis, all equally likely; between two ends in equal ratios where the axis is logarithmic."""
    if not axis.is_range:
        return axis.values[int(rng.integers(len(axis.values)))]
    assert axis.low is not None and axis.high is not None
    if axis.log:
        value = math.exp(rng.uniform(math.log(axis.low), math.log(axis.high)))
    else:
        value = float(rng.uniform(axis.low, axis.high))
    return round(value) if axis.integer else value


def narrowed(study: Study, values: Mapping[str, Value]) -> Point:
    """The point of some values: None for an axis that does not concern its model."""
    preset = str(values.get(PRESET, study.presets[0]))
    return {axis.name: values[axis.name] if axis.concerns(preset) else None for axis in study.axes}


def trials_of(study: Study, points: Sequence[Point]) -> list[Trial]:
    """All seeds of the first point, then of the second: a study that is stopped early has whole points."""
    first: dict[tuple[Any, ...], int] = {}
    trials = []
    for number, point in enumerate(points):
        key = tuple((name, value) for name, value in point.items() if not name.startswith("sampling."))
        run_number = first.setdefault(key, number)
        trials += [Trial(number=number, point=point, seed=seed, run_number=run_number) for seed in study.seeds]
    return trials


def settings_of(study: Study, point: Point, seed: int, folder: Path, name: str) -> Settings:
    """The settings of the run of a point and a seed; what the model does not have is left out of the fixed ones too."""
    given: dict[str, Any] = {name: value for name, value in study.settings.items() if not name.startswith("sampling.")}
    given |= {name: value for name, value in point.items() if value is not None and not name.startswith("sampling.")}
    preset = str(given.get(PRESET, study.presets[0]))
    fields = Axis(name=PRESET, values=(preset,))
    mine = {
        name: value
        for name, value in given.items()
        if name in point
        or not name.startswith("model.")
        or name == fields.name
        or Axis(name=name, values=(value,)).concerns(preset)
    }
    mine.pop(PRESET, None)
    if "training.steps" in point or "training.tokens" in point:  # the axis decides the length
        for rival in {"training.steps", "training.tokens"} - set(point):
            mine.pop(rival, None)
    settings = resolve(preset, overrides={**mine, "seed": seed})
    steps = settings.training.steps
    pace: dict[str, Any] = {}
    if "training.eval_batches" not in mine:
        pace["eval_batches"] = None
    if "training.eval_every" not in mine and steps is not None:
        pace["eval_every"] = max(1, steps // EVALUATIONS)
    return settings.changed(training=pace, name=name, out=str(folder / RUNS / name))


def sampler_of(study: Study, point: Point) -> Sampler:
    """How a point's texts are drawn: its `sampling.*` values over the fixed ones."""
    given = {**study.settings, **point}
    chosen = {name[9:]: value for name, value in given.items() if name.startswith("sampling.") and value is not None}
    return Sampler(**chosen)  # read.py has checked the names, Sampler checks the values


def _distinct(combinations: Any, study: Study) -> Iterator[Point]:
    seen: set[tuple[Value, ...]] = set()
    for combination in combinations:
        point = narrowed(study, dict(zip((axis.name for axis in study.axes), combination, strict=True)))
        key = tuple(point.values())
        if key not in seen:
            seen.add(key)
            yield point
