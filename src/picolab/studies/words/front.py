"""Which points are worth their price? In words; studies/pareto.py finds the front.

3 of 8 points are worth the training compute, nothing that takes less is better: lr 0.001 (2.412 for 41.2 MFLOP); ..
"""

from __future__ import annotations

from collections.abc import Sequence

from picolab.studies.figures import COSTS, FIGURES, shortened
from picolab.studies.pareto import front
from picolab.studies.points import point_said, without
from picolab.studies.result import PointResult
from picolab.studies.study import Study
from picolab.studies.words.numbers import Figures, Found

MOST = 5
"""Points that a sentence names."""


def front_found(study: Study, points: Sequence[PointResult]) -> Found:
    """The points that no cheaper one beats."""
    whole = [p for p in points if p.has(study.cost, study.goal)]
    if len(whole) < 2:
        return []
    cost = {p.number: p.figures[study.cost].mean for p in whole}
    goal = {p.number: p.figures[study.goal].mean for p in whole}
    names = {p.number: point_said(without(p.point, study.conditions)) for p in whole}
    kept = front(cost, goal, lower=FIGURES[study.goal].wants_small)
    on = [{"point": names[n], "number": n, "cost": cost[n], "goal": goal[n]} for n in kept]
    return [("front", {"figure": study.goal, "cost": study.cost, "points": on, "of": len(whole)})]


def say_front(f: Figures) -> str:
    """How many points are on the front, and the cheapest of them."""
    goal, unit = FIGURES[f["figure"]], FIGURES[f["cost"]].unit
    shown = f["points"][:MOST]
    names = [f"{one['point']} ({goal.number(one['goal'])} for {shortened(one['cost'], unit)})" for one in shown]
    more = len(f["points"]) - len(names)
    return (
        f"{len(f['points'])} of {f['of']} points {'is' if len(f['points']) == 1 else 'are'} worth the {COSTS[f['cost']]}, "
        f"nothing that takes less is better: {'; '.join(names)}" + (f"; and {more} more" if more else "") + "."
    )
