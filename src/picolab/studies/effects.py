"""Which setting matters most, by how much, and which values cannot be told apart?

    lr        0.001     0.002            the other settings: every combination that all values of lr were tried with
    seed 0    2.41 ..   2.30 ..          -> mean of each value, seed by seed
    seed 1    2.44 ..   2.36 ..          -> best against worst value, with its margin: the effect of lr

In a grid every value meets the same combinations, so means are comparable. What remains of them when each value's mean and each
seed's are taken off is the noise of seeds (a randomised block design, Fisher 1935): all values tell together how large it is,
because the two or three seeds of one pair could not. The margin is Student's, widened for the number of pairs looked at.

Drawn points meet no equal combinations: there an axis is asked which share of the variation between points its values, or thirds
of its range, explain, and how often shuffled points would explain as much (permutation test).
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from picolab.compare.bands import CONFIDENCE, Difference, difference
from picolab.studies.outcome import Outcome
from picolab.studies.study import Axis, Value

SHUFFLES = 999
BINS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """A value of an axis, and the figure's mean with it, seed by seed."""

    value: Value
    by_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        return math.fsum(self.by_seed.values()) / len(self.by_seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """What an axis does to a figure: levels sorted best first, worst minus best, and the pairs that seeds cannot tell apart."""

    axis: Axis
    levels: tuple[Level, ...]
    contexts: int
    size: Difference
    not_told_apart: tuple[tuple[Value, Value, Difference], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """How much of the variation between drawn points an axis explains, and how likely shuffled points explain as much."""

    axis: Axis
    explained: float
    chance: float
    points: int


def effect_of(axis: Axis, outcomes: Sequence[Outcome], figure: str, *, lower: bool = True) -> Effect | None:
    """The effect of one axis in a grid; None where fewer than two values met the same combinations."""
    cells: dict[tuple[tuple[Value, ...], int], dict[Value, float]] = defaultdict(dict)
    for outcome in outcomes:
        value = outcome.point[axis.name]
        if outcome.status == "finished" and figure in outcome.figures and value is not None:
            context = tuple(other for name, other in outcome.point.items() if name != axis.name)
            cells[context, outcome.seed][value] = outcome.figures[figure]
    values = [value for value in axis.values if any(value in cell for cell in cells.values())]
    whole = {key: cell for key, cell in cells.items() if all(value in cell for value in values)}
    seeds = sorted({seed for _, seed in whole})
    # Every seed must average over the same combinations, or its mean speaks of other ones.
    contexts = [context for context in {key[0] for key in whole} if all((context, seed) in whole for seed in seeds)]
    if len(values) < 2 or not contexts or not seeds:
        return None
    levels = [
        Level(
            value=value,
            by_seed={seed: statistics.fmean(whole[context, seed][value] for context in contexts) for seed in seeds},
        )
        for value in values
    ]
    levels.sort(key=lambda level: level.mean if lower else -level.mean)
    margin = margin_of(levels)
    pairs = [
        (a, b, Difference(mean=b.mean - a.mean, margin=margin, seeds=len(seeds)))
        for a, b in itertools.combinations(levels, 2)
    ]
    return Effect(
        axis=axis,
        levels=tuple(levels),
        contexts=len(contexts),
        size=Difference(mean=levels[-1].mean - levels[0].mean, margin=margin, seeds=len(seeds)),
        not_told_apart=tuple(
            (a.value, b.value, gap) for a, b, gap in pairs if gap.margin is not None and not gap.told_apart
        ),
    )


def margin_of(levels: Sequence[Level]) -> float | None:
    """How far two values' means may be apart by seeds alone, at 95 % for all pairs together; None with one seed."""
    table = np.array([[level.by_seed[seed] for seed in levels[0].by_seed] for level in levels])
    n_levels, n_seeds = table.shape
    if n_seeds < 2:
        return None
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    free = (n_levels - 1) * (n_seeds - 1)
    n_pairs = n_levels * (n_levels - 1) // 2
    certainty = 1 - (1 - CONFIDENCE) / (2 * n_pairs)
    return float(stdtrit(free, certainty)) * math.sqrt(2 * float((left**2).sum()) / free / n_seeds)


def rival_of(first: Effect, second: Effect) -> Difference | None:
    """How much larger the first effect is than the second, seed by seed."""

    def by_seed(effect: Effect) -> dict[int, float]:
        best, worst = effect.levels[0].by_seed, effect.levels[-1].by_seed
        return {seed: abs(worst[seed] - best[seed]) for seed in best}

    return difference(by_seed(first), by_seed(second))


def share_of(
    axis: Axis, means: Mapping[int, float], points: Mapping[int, Mapping[str, Value]], *, seed: int
) -> Share | None:
    """What an axis explains of the variation between drawn points; `means` is the figure of each point over its seeds."""
    known = [
        (points[number][axis.name], mean) for number, mean in means.items() if points[number][axis.name] is not None
    ]
    groups = _groups(axis, [value for value, _ in known])
    if len(set(groups)) < 2 or len(known) < 4:
        return None
    y, g = np.array([mean for _, mean in known]), np.array(groups)
    if np.ptp(y) == 0:
        return None
    explained = _explained(y, g)
    rng = np.random.default_rng(seed)
    as_much = sum(_explained(rng.permutation(y), g) >= explained - 1e-12 for _ in range(SHUFFLES))
    return Share(axis=axis, explained=explained, chance=(1 + as_much) / (1 + SHUFFLES), points=len(known))


def _groups(axis: Axis, values: Sequence[Value]) -> list[int]:
    if axis.is_numeric and len(set(values)) > BINS:
        order = np.argsort(np.argsort(np.array(values, dtype=float), kind="stable"), kind="stable")
        return [int(place * BINS // len(values)) for place in order]
    different = list(dict.fromkeys(values))
    return [different.index(value) for value in values]


def _explained(y: np.ndarray, groups: np.ndarray) -> float:
    """Variation between groups as a share of all."""
    total = float(((y - y.mean()) ** 2).sum())
    between = sum(
        float((groups == group).sum()) * float(y[groups == group].mean() - y.mean()) ** 2 for group in np.unique(groups)
    )
    return between / total
