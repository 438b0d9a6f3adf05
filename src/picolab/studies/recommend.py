"""Which point to take? The best one, or a cheaper one that is no further from it than seeds are from each other.

    goal of every point over its seeds -> lowest mean -> those within the noise of seeds -> the one with the least training compute

The noise is pooled: seeds of the better half of the points tell together how far seeds spread, which two or three seeds of one
point could not. What is merely not told apart, because seeds are few, is not taken for equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from scipy.special import stdtrit

from picolab.compare.bands import CONFIDENCE
from picolab.studies.figures import FIGURES
from picolab.studies.outcome import Outcome
from picolab.studies.points import point_said
from picolab.studies.result import PointResult, Recommendation
from picolab.studies.study import Study
from picolab.studies.turning import turn_of

COST = "flops"


def recommend(study: Study, points: Sequence[PointResult], outcomes: Sequence[Outcome]) -> Recommendation | None:
    """The recommendation; None where no point finished with all its seeds."""
    goal, lower = study.goal, FIGURES[study.goal].lower is not False
    whole = [point for point in points if point.status == "finished" and goal in point.figures]
    if not whole:
        return None
    best = min(whole, key=lambda p: p.figures[goal].mean * (1 if lower else -1))
    margin = seed_noise(study, whole, outcomes, best)
    near = [
        point
        for point in whole
        if point is not best and abs(point.figures[goal].mean - best.figures[goal].mean) <= margin
    ]
    if "turning" in study.ask:
        return _when_to_stop(whole, best, near, outcomes)
    chosen = min([best, *near], key=lambda p: (_cost(p), p is not best))
    return Recommendation(
        number=chosen.number,
        point=chosen.point,
        says=_says(study, chosen, best, near, _costs(whole)),
        best=best.number,
        within_noise=tuple(point.number for point in near),
    )


def seed_noise(study: Study, whole: Sequence[PointResult], outcomes: Sequence[Outcome], best: PointResult) -> float:
    """How far two points' means may be apart by their seeds alone, at 95 %; 0 with one seed, where nobody knows."""
    goal, lower = study.goal, FIGURES[study.goal].lower is not False
    ranked = sorted(whole, key=lambda p: p.figures[goal].mean * (1 if lower else -1))
    better = {point.number for point in ranked[: math.ceil(len(ranked) / 2)]}
    squares, free = 0.0, 0
    for number in better:
        values = [o.figures[goal] for o in outcomes if o.number == number and goal in o.figures]
        mean = math.fsum(values) / len(values)
        squares, free = squares + math.fsum((value - mean) ** 2 for value in values), free + len(values) - 1
    if not free:
        return 0.0
    return float(stdtrit(free, (1 + CONFIDENCE) / 2)) * math.sqrt(squares / free * 2 / best.figures[goal].seeds)


def _when_to_stop(
    whole: Sequence[PointResult], best: PointResult, near: Sequence[PointResult], outcomes: Sequence[Outcome]
) -> Recommendation:
    """Where the question is when to stop, points are no rivals: each is told its own moment."""
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


def _says(
    study: Study, chosen: PointResult, best: PointResult, near: Sequence[PointResult], costs: Mapping[int, float]
) -> str:
    goal = study.goal
    figure, band = FIGURES[goal], chosen.figures[goal]
    span = f" ({band.low:.3f} to {band.high:.3f} over {band.seeds} seeds)" if band.seeds > 1 else " on one seed"
    says = f"Take {point_said(chosen.point)}: {figure.says} {band.mean:.3f} {figure.unit}".rstrip() + span
    if chosen is best:
        says += ", the best mean" if len(near) == 0 else f", the best mean; {_near(near)} within the noise of seeds"
    else:
        says += f". The best, {point_said(best.point)} ({best.figures[goal].mean:.3f}), is ahead by no more than the noise of seeds"
        if costs.get(best.number) and chosen.number in costs:
            says += f", and this takes {costs[chosen.number] / costs[best.number]:.0%} of its training compute"
    if not study.has_bands:
        says += "; one seed cannot tell it from chance, ask for 3"
    return says + "."


def _near(near: Sequence[PointResult]) -> str:
    return "1 other point is" if len(near) == 1 else f"{len(near)} other points are"


def _cost(point: PointResult) -> float:
    return point.figures[COST].mean if COST in point.figures else float("inf")


def _costs(points: Sequence[PointResult]) -> dict[int, float]:
    return {point.number: point.figures[COST].mean for point in points if COST in point.figures}
