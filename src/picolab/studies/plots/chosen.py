"""What does a picture show, and in which order? Points that finished with all seeds; axes that vary, those that matter most first.

axes      dtype (one value)   n_layers (rank 2)   lr (rank 1)   -> lr, n_layers
values    numbers by size, names as the study lists them, None (does not concern the model) last
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from picolab.studies.result import PointResult, StudyResult
from picolab.studies.study import Axis
from picolab.studies.words.conditions import conditions_of


def by_condition(result: StudyResult) -> list[tuple[str, StudyResult]]:
    """The study under each of its conditions, with what was found there; the whole, under no name, where it has none."""
    return [
        (
            given.says,
            replace(
                result,
                points=tuple(point for point in result.points if given.holds(point.point)),
                trials=tuple(trial for trial in result.trials if given.holds(trial.point)),
                findings=tuple(found for found in result.findings if found.figures.get("given", "") == given.says),
            ),
        )
        for given in conditions_of(result.study, result.points)
    ]


def whole_points(result: StudyResult) -> list[PointResult]:
    """The points that have the goal from all their seeds."""
    return [point for point in result.points if point.has(result.study.goal)]


def varied_axes(result: StudyResult) -> list[Axis]:
    """The axes with more than one value."""
    return [axis for axis in result.study.axes if count_of(result, axis) > 1]


def axes_by_weight(result: StudyResult) -> list[Axis]:
    """The axes that vary, those that matter most first, as the findings rank them; the rest in their own order."""
    ranks: dict[str, int] = {}
    for finding in result.findings:
        if finding.kind in ("effect", "share") and finding.figures["figure"] == result.study.goal:
            ranks.setdefault(finding.figures["axis"], finding.figures["rank"])
    return sorted(varied_axes(result), key=lambda axis: ranks.get(axis.short, len(ranks) + 1))


def values_of(result: StudyResult, axis: Axis) -> list[Any]:
    """The values of an axis that whole points have, in order."""
    found = dict.fromkeys(point.point[axis.name] for point in whole_points(result))
    return sorted(found, key=lambda v: (v is None, v)) if axis.is_numeric else list(found)


def count_of(result: StudyResult, axis: Axis) -> int:
    """How many values of an axis there are to look at."""
    return len([value for value in values_of(result, axis) if value is not None])
