"""Which cause makes the error vanish? Every plausible one is put into the reference, which is then replayed.

    stretch where the error is born -> causes that can sit there -> proposals with parameters recovered from the tensors
    -> replay the reference with each -> what is left? only rounding: explained       more: a lead       nothing fits: unknown

An explanation is counted by what it leaves, not by how well it correlates.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.birth import Replay, Stretch, replay
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.levels import Level
from picolab.diagnose.noise import Floor
from picolab.diagnose.walk import Key, Pass, Schedule, local
from picolab.trace.sites import layer_of

LEADS = 3
"""Explanations that leave something and are told all the same, where nothing is certain."""

GRID, SECTIONS, GOLDEN = 13, 34, (math.sqrt(5) - 1) / 2

WORTH = 0.98
"""Of the error that was there before: a number at a dial that leaves more is not refined."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A bend and what it does to the error.

    `explained` is the share of the squared error that vanishes where it was found, `residual` what is left there; `taken` the share
    that vanishes of the error of all lines, and `still_born` how many places still add error anywhere. It is `certain` if what is
    left is rounding, and nothing gets worse elsewhere.
    """

    bend: Bend
    explained: float
    taken: float
    residual: float
    still_born: int
    certain: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything a search needs, made once a round: reference, text, target, floor, faults found so far."""

    anatomy: Anatomy
    schedule: Schedule
    target: Mapping[Key, Tensor]
    natural: Mapping[Key, Tensor]
    floor: Floor
    found: tuple[Bend, ...] = ()
    _before: dict[Level, Replay] = field(default_factory=dict)

    def added(self, level: Level, *bends: Bend) -> Mapping[Key, float]:
        """What every line adds, looked at so closely, when the reference makes the mistakes found and these."""
        return self._replayed(level, *bends).added if bends else self._now(level).added

    def made(self, level: Level) -> Mapping[Key, Tensor]:
        """What every line makes of the target's inputs, the mistakes found made."""
        return self._now(level).made

    def left(self, first: Stretch, bend: Bend) -> float:
        """What a mistake leaves of a birth; the walk ends there."""
        left = self._replayed(first.level, bend, until=first.key).added[first.key]
        return left if math.isfinite(left) else math.inf

    def _now(self, level: Level) -> Replay:
        if level not in self._before:
            self._before[level] = self._replayed(level)
        return self._before[level]

    def _replayed(self, level: Level, *bends: Bend, until: Key | None = None) -> Replay:
        faults = (*self.found, *bends)
        return replay(self.anatomy, self.schedule, self.target, self.natural, level=level, faults=faults, until=until)


def explain(evidence: Evidence, stretches: Sequence[Stretch], causes: Iterable[Cause]) -> list[Explanation]:
    """Causes of the first of these births, best first: certain ones, then leads that leave something."""
    case, first = _case(evidence, stretches), stretches[0]
    allowed = evidence.floor.allows(first.until, first.level)
    alone: dict[Bend, list[Bend]] = {}
    for cause in causes:
        if cause.places & set(case.suspects):
            for bend in filter(_has_numbers, cause.propose(case)):
                everywhere, *single = _variants(bend, case, first)
                alone.setdefault(everywhere, []).extend(single)
    left = {bend: evidence.left(first, bend) for bend in alone}
    # In one block alone: where a mistake in all of them explains, that one only, else every mistake; there are many to try.
    hopeful = [bend for bend, rest in left.items() if rest <= allowed] or list(alone)
    narrow = list(dict.fromkeys(single for bend in hopeful for single in alone[bend]))
    left |= {bend: evidence.left(first, bend) for bend in narrow if bend not in left}
    if not any(rest <= allowed for rest in left.values()):
        before = evidence.added(first.level)[first.key]
        turned = [_dialled(evidence, bend, first, before) for bend in _dials([*alone, *narrow], case)]
        left |= {bend: evidence.left(first, bend) for bend in turned}
    good = [bend for bend, rest in left.items() if rest <= allowed]
    tried = [_tried(evidence, bend, first) for bend in good]
    if not any(one.certain for one in tried):
        leads = sorted((bend for bend in left if bend not in good), key=left.__getitem__)[:LEADS]
        tried += [_tried(evidence, bend, first) for bend in leads]
    return sorted(tried, key=lambda e: (not e.certain, e.still_born, round(-e.taken, 6)))


def _case(evidence: Evidence, stretches: Sequence[Stretch]) -> Case:
    passes: dict[tuple[str, int], Pass] = {}

    def look(key: Key, value: Tensor, at: Pass) -> None:
        passes[key.phase, key.step] = at

    told = replay(
        evidence.anatomy, evidence.schedule, evidence.target, evidence.natural, faults=evidence.found, look=look
    )
    return Case(
        anatomy=evidence.anatomy,
        made=told.made,
        target=evidence.target,
        passes=passes,
        suspects=tuple(dict.fromkeys(local(line) for line in stretches[0].lines)),
        born=tuple(stretch.key for stretch in stretches),
    )


def _has_numbers(bend: Bend) -> bool:
    """Whether every parameter recovered is one: from values that are not finite come parameters that would explain anything."""
    return all(_finite(getattr(bend, each.name)) for each in fields(bend))


def _finite(parameter: object) -> bool:
    if isinstance(parameter, tuple):
        return all(map(_finite, parameter))
    if isinstance(parameter, Tensor):
        return bool(parameter.isfinite().all())
    return not isinstance(parameter, float) or math.isfinite(parameter)


def _variants(bend: Bend, case: Case, first: Stretch) -> list[Bend]:
    """The same mistake in the blocks it was seen in; where its place is not shown in every block, in all blocks and in this one."""
    places = [site for site in case.anatomy.sites if local(site) in bend.kinds and local(site) in case.suspects]
    shown = {key.site for key in case.target}
    if all(site in shown for site in places):
        return [bend]
    here = {layer for line in first.lines if local(line) in bend.kinds and (layer := layer_of(line)) is not None}
    alone = [replace(bend, layers=frozenset({layer})) for layer in sorted(here)]
    return [replace(bend, layers=None), *alone]


def _dials(bends: Sequence[Bend], case: Case) -> list[Bend]:
    """One of each kind whose number could only be guessed, since its own place is not shown."""
    shown = {local(key.site) for key in case.born}
    unlike: dict[object, Bend] = {}
    for bend in bends:
        if bend.dial is not None and not bend.kinds & shown:
            unlike.setdefault(bend.turned(0.0), bend)
    return list(unlike.values())


def _dialled(evidence: Evidence, bend: Bend, first: Stretch, before: float) -> Bend:
    """The bend with the number at its dial that leaves least: a grid over the range, then golden sections (Kiefer 1953).

    Where nothing on the grid leaves clearly less than there was before, it is not looked into.
    """
    assert bend.dial is not None
    _, low, high = bend.dial

    @functools.cache
    def left(x: float) -> float:
        return evidence.left(first, bend.turned(math.exp(x)))

    ends = math.log(low), math.log(high)
    grid = [ends[0] + (ends[1] - ends[0]) * i / (GRID - 1) for i in range(GRID)]
    best = min(range(GRID), key=lambda i: left(grid[i]))
    if not left(grid[best]) < WORTH * before:
        return bend.turned(math.exp(grid[best]))
    a, b = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    c, d = b - (b - a) * GOLDEN, a + (b - a) * GOLDEN
    for _ in range(SECTIONS):
        if left(c) < left(d):
            b, d = d, c
            c = b - (b - a) * GOLDEN
        else:
            a, c = c, d
            d = a + (b - a) * GOLDEN
    return bend.turned(math.exp((a + b) / 2))


def _tried(evidence: Evidence, bend: Bend, first: Stretch) -> Explanation:
    """What is left when the reference makes this mistake too, looked at as closely as when the error was found."""
    before, after = evidence.added(first.level), evidence.added(first.level, bend)
    allowed = {key: evidence.floor.allows(key.site, first.level) for key in after}
    touched = [key for key in after if key == first.key or after[key] != before[key]]
    total, rest = (sum(errors[key] ** 2 for key in after) for errors in (before, after))
    return Explanation(
        bend=bend,
        explained=_share(before[first.key] ** 2, after[first.key] ** 2),
        taken=_share(total, rest),
        residual=after[first.key],
        still_born=sum(after[key] > allowed[key] for key in after),
        certain=after[first.key] <= allowed[first.key] and _harms_nothing(before, after, allowed, first.key, touched),
    )


def _harms_nothing(
    before: Mapping[Key, float],
    after: Mapping[Key, float],
    allowed: Mapping[Key, float],
    first: Key,
    touched: Sequence[Key],
) -> bool:
    """Whether a mistake that explains the first place is at home in the others that it touches.

    Where another mistake is born as well this one takes its own share away, and less is left; or more, since errors may have
    cancelled, and then it must have explained a third place to the last digit. What was right stays right.
    """
    others = [key for key in touched if key != first]
    if any(before[key] <= allowed[key] < after[key] for key in others):
        return False
    explained = any(after[key] <= allowed[key] < before[key] for key in others)
    return explained or all(after[key] <= max(allowed[key], before[key]) for key in others)


def _share(before: float, after: float) -> float:
    """Of an error how much vanished; of one that is not finite all or nothing."""
    if not math.isfinite(before):
        return float(math.isfinite(after))
    return 1 - after / before if math.isfinite(after) and before else 0.0 if before else 1.0


def covered(explanation: Explanation, stretches: Sequence[Stretch]) -> list[Stretch]:
    """The births that one explanation accounts for: those among whose lines its mistake sits."""
    bend = explanation.bend
    return [
        stretch
        for stretch in stretches
        if any(
            local(line) in bend.places
            and (bend.layers is None or layer_of(line) is None or layer_of(line) in bend.layers)
            for line in stretch.lines
        )
    ]
