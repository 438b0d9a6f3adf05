"""Which point to take? The best one, or a cheaper one that is no further from it than seeds are from each other.

    goal of every point over its seeds -> lowest mean -> those within the noise of seeds -> the one that costs least

The noise is pooled: the better half of the points tell together how far seeds spread, once what a seed does to all of them is taken
off. Two or three seeds of one point could not. What is merely not told apart, because seeds are few, is not taken for equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import stdtrit

from picolab.compare.bands import CONFIDENCE
from picolab.studies.figures import COSTS, FIGURES
from picolab.studies.outcome import Outcome
from picolab.studies.points import point_said, without
from picolab.studies.result import PointResult, Recommendation, best_first
from picolab.studies.study import Study
from picolab.studies.turning import turn_of
from picolab.studies.words.conditions import conditions_of, under


def recommend(study: Study, points: Sequence[PointResult], outcomes: Sequence[Outcome]) -> Recommendation | None:
    """The recommendation, under each condition where a study has several; None where no point finished with all its seeds."""
    whole = [point for point in points if point.has(study.goal)]
    if not whole:
        return None
    if "turning" in study.ask:
        return _when_to_stop(study, whole, outcomes)
    parts = []
    for given in conditions_of(study, whole):
        mine = [point for point in whole if given.holds(point.point)]
        parts.append((given.says, _recommended(study, mine, outcomes)))
    first = parts[0][1]
    return replace(first, says=" ".join(under(given, part.says) for given, part in parts))


def _recommended(study: Study, whole: Sequence[PointResult], outcomes: Sequence[Outcome]) -> Recommendation:
    best = best_first(whole, study.goal)[0]
    near = _near_to(study, whole, outcomes, best)
    chosen = min([best, *near], key=lambda p: (_cost(study, p), p is not best))
    return Recommendation(
        number=chosen.number,
        point=chosen.point,
        says=_says(study, chosen, best, near),
        best=best.number,
        within_noise=tuple(point.number for point in near),
    )


def _near_to(
    study: Study, whole: Sequence[PointResult], outcomes: Sequence[Outcome], best: PointResult
) -> list[PointResult]:
    margin = seed_noise(study, whole, outcomes)
    goal = study.goal
    return [
        point
        for point in whole
        if point is not best and abs(point.figures[goal].mean - best.figures[goal].mean) <= margin
    ]


def seed_noise(study: Study, whole: Sequence[PointResult], outcomes: Sequence[Outcome]) -> float:
    """How far two points' means may be apart by their seeds alone, at 95 %; 0 with one seed, where nobody knows."""
    goal = study.goal
    ranked = best_first(whole, goal)
    better = {point.number for point in ranked[: max(2, math.ceil(len(ranked) / 2))]}
    found = {(o.number, o.seed): o.figures[goal] for o in outcomes if o.number in better and goal in o.figures}
    seeds = [seed for seed in study.seeds if all((number, seed) in found for number in better)]
    free = (len(better) - 1) * (len(seeds) - 1)
    if free < 1:
        return 0.0
    table = np.array([[found[number, seed] for seed in seeds] for number in sorted(better)])
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    return float(stdtrit(free, (1 + CONFIDENCE) / 2)) * math.sqrt(2 * float((left**2).sum()) / free / len(seeds))


def _when_to_stop(study: Study, whole: Sequence[PointResult], outcomes: Sequence[Outcome]) -> Recommendation:
    """Where the question is when to stop, points are no rivals: each is told its own moment."""
    best = best_first(whole, study.goal)[0]
    near = _near_to(study, whole, outcomes, best)
    turns = {point.number: turn for point in whole if (turn := turn_of(point.number, outcomes)) is not None}
    stop = [
        f"at step {turns[point.number].step.mean:.0f} with {point_said(point.point)}"
        for point in whole
        if point.number in turns and turns[point.number].claimed
    ]
    rest = len(whole) - len(stop)
    later = f"; no turn can be claimed for {rest} other point{'s' * (rest > 1)}" if rest else ""
    says = f"Stop {', '.join(stop)}{later}." if stop else "No point has a turn that can be claimed: train longer."
    return Recommendation(
        number=best.number, point=best.point, says=says, best=best.number, within_noise=tuple(p.number for p in near)
    )


def _says(study: Study, chosen: PointResult, best: PointResult, near: Sequence[PointResult]) -> str:
    goal = study.goal
    figure, band = FIGURES[goal], chosen.figures[goal]
    low, high = figure.number(band.low), figure.number(band.high)
    span = f" ({low} to {high} over {band.seeds} seeds)" if band.seeds > 1 else " on one seed"
    name, other = (point_said(without(one.point, study.conditions)) for one in (chosen, best))
    says = f"Take {name}: the {figure.says} is {figure.number(band.mean)} {figure.unit}".rstrip() + span
    if chosen is best:
        says += ", the best mean" if len(near) == 0 else f", the best mean; {_near(near)} within the noise of seeds"
    else:
        says += f". The best, {other} ({figure.number(best.figures[goal].mean)}), is ahead by no more than the noise of seeds"
        if _cost(study, best) < math.inf:
            share = _cost(study, chosen) / _cost(study, best)
            says += f", and this takes {share:.0%} of its {COSTS[study.cost]}"
    if not study.has_bands:
        says += "; one seed cannot tell it from chance, ask for 3"
    return says + "."


def _near(near: Sequence[PointResult]) -> str:
    return "1 other point is" if len(near) == 1 else f"{len(near)} other points are"


def _cost(study: Study, point: PointResult) -> float:
    return point.figures[study.cost].mean if study.cost in point.figures else math.inf
