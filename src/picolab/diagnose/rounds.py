"""Fault after fault: the first birth is explained, the reference then makes that mistake too, and what is left is looked at again.

births -> causes of the first -> certain? the reference makes it too -> births ..        until nothing is born
                              -> not?     described, left where it is, the search goes on behind it
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.birth import Stretch, births
from picolab.diagnose.causes.cause import Bend, Cause
from picolab.diagnose.describe import Description, describe
from picolab.diagnose.noise import Floor
from picolab.diagnose.search import Evidence, Explanation, covered, explain
from picolab.diagnose.verdict import UNKNOWN, Born, Told
from picolab.diagnose.walk import Key, Schedule, local

MOST_FAULTS = 8
"""Rounds of search; a target with more faults than this is not a port but another model."""


def faults_of(
    anatomy: Anatomy,
    schedule: Schedule,
    values: Mapping[Key, Tensor],
    natural: Mapping[Key, Tensor],
    floor: Floor,
    causes: Sequence[Cause],
) -> tuple[tuple[Born, ...], tuple[Bend, ...]]:
    """Every fault in the order of computation, and the mistakes that are certain."""
    born: list[Born] = []
    found: tuple[Bend, ...] = ()
    given_up: set[str] = set()
    for _ in range(MOST_FAULTS):
        stretches = [
            s for s in births(anatomy, schedule, values, natural, floor, faults=found) if s.until not in given_up
        ]
        if not stretches:
            break
        evidence = Evidence(anatomy, schedule, values, natural, floor, found)
        told = explain(evidence, stretches, causes)
        description = None
        if told and told[0].certain:
            found = (*found, told[0].bend)
            same = covered(told[0], stretches)
        else:
            same = [s for s in stretches if local(s.until) == local(stretches[0].until)]
            given_up |= {s.until for s in same}
            first = stretches[0]
            description = describe(evidence.made(first.level)[first.key], values[first.key], first.until)
        born.append(_born(stretches[0], same, told, causes, description))
    return tuple(born), found


def _born(
    first: Stretch,
    same: Sequence[Stretch],
    told: Sequence[Explanation],
    causes: Sequence[Cause],
    description: Description | None,
) -> Born:
    # Of explanations that are certain those count that leave no more faults than the best does.
    certain = _simplest([e for e in told if e.certain and e.still_born == told[0].still_born])
    leads = [e for e in told if not e.certain and e.explained > 0.5]
    explanations = [_told(e, causes) for e in certain or leads]
    if description is not None:
        explanations.insert(0, unexplained(description, first.added, among=len(first.lines)))
    return Born(
        site=first.until,
        lines=first.lines,
        phase=first.phase,
        step=first.step,
        inherited=first.inherited,
        added=first.added,
        explanations=tuple(explanations),
        also=tuple(dict.fromkeys(s.until for s in same if s.until != first.until)),
    )


def _simplest(certain: Sequence[Explanation]) -> list[Explanation]:
    """Each mistake once, as it is told best: a number recovered twice, from queries and from keys, has two last digits.

    A list of numbers fitted to the tensors says less than a mistake that needs none, where both explain.
    """
    plain = [e for e in certain if not _lists(e.bend)] or certain
    best: dict[object, Explanation] = {}
    for e in sorted(plain, key=lambda e: e.residual):
        best.setdefault(_but_for_numbers(e.bend), e)
    return [e for e in plain if best[_but_for_numbers(e.bend)] is e]


def _but_for_numbers(bend: Bend) -> object:
    values = ((each.name, getattr(bend, each.name)) for each in fields(bend))
    return type(bend), tuple((name, value) for name, value in values if not isinstance(value, float))


def _lists(value: object) -> bool:
    """Whether a tuple of fitted numbers is among the parameters."""
    if isinstance(value, Bend):
        return any(_lists(getattr(value, each.name)) for each in fields(value))
    return isinstance(value, tuple) and any(isinstance(one, float) or _lists(one) for one in value)


def unexplained(description: Description, added: float, *, among: int = 1) -> Told:
    """What is said where nothing explains: never a name, the best description of the difference."""
    where = "" if among < 2 else f" (one of {among} lines; more arrays would tell which)"
    return Told(
        cause=UNKNOWN,
        says=f"no cause of the catalogue explains it{where}: {description.says}",
        explained=0.0,
        residual=added,
        certain=False,
        evidence=description.evidence,
    )


def _told(explanation: Explanation, causes: Sequence[Cause]) -> Told:
    bend = explanation.bend
    return Told(
        cause=bend.cause,
        says=bend.says() + _where(bend),
        explained=explanation.explained,
        residual=explanation.residual,
        certain=explanation.certain,
        evidence=bend.evidence,
        look_for=next((cause.look_for for cause in causes if cause.name == bend.cause), ""),
    )


def _where(bend: Bend) -> str:
    """In which blocks and phases, where it is not in all."""
    blocks = "" if bend.layers is None else ", in block " + ", ".join(str(layer) for layer in sorted(bend.layers))
    return blocks + ("" if bend.phases is None else ", in " + " and ".join(sorted(bend.phases)) + " only")


def finite(told: Told) -> Told:
    """The same, with no number that is none: a share of nothing is 0."""
    return told if math.isfinite(told.explained) else replace(told, explained=0.0)
