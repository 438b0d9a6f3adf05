"""How much of what one model gains over another does a third recover, and how sure is that?

    loss   none |------------- third -------- best|          share = (none - third) / (none - best), seed by seed
    steps  the third's curve, straight between evaluations, against the loss the best one ends with

A seed fixes the order of the data and the first values of what models share, so both gains of a seed are subtracted before seeds
are averaged; the margin is Student's, as in bands.py. A share above 1 says that the third learned more within this budget, not
that it could learn more in the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from picolab.compare.bands import Band, Difference, band_or_none, difference
from picolab.compare.curves import Series
from picolab.compare.result import Comparison, Row

Losses = Mapping[int, float]
COUNTING = "ngram"
"""The family that has its figures at once: it has no steps after which it was somewhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """When a run first had a loss: its own step and seconds, and the step as a share of the other run's last one."""

    seed: int
    step: float
    seconds: float
    of_steps: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """One arm between the two ends: its share by seed with mean and margin, and when it reached two losses, by seed.

    Seeds that never reached a loss are missing from the tuples. `margin` is None with one seed.
    """

    model: str
    shares: Losses
    mean: float | None
    margin: float | None
    reached_best: tuple[Reached, ...]
    reached_baseline: tuple[Reached, ...]
    seconds: Band | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """All arms between `none` and `best`. `whole` is the gain itself, in nats a token."""

    none: str
    best: str
    whole: Difference | None
    standings: tuple[Standing, ...]

    def of(self, model: str) -> Standing | None:
        """The standing of an arm; None where it did not take part or finished no seed."""
        return next((one for one in self.standings if one.model == model), None)

    def apart(self, model: str, other: str) -> Difference | None:
        """How much larger the share of one arm is than another's, over the seeds both have."""
        one, two = self.of(model), self.of(other)
        return None if one is None or two is None else difference(one.shares, two.shares)


def gain_of(comparison: Comparison, *, none: str, best: str) -> Gain:
    """Where every arm stands between the models `none` and `best`; ranked as the comparison is."""
    rows = {row.model: row for row in comparison.rows}
    bottom, top = (rows[name].losses if name in rows else {} for name in (none, best))
    return Gain(
        none=none,
        best=best,
        whole=difference(bottom, top),
        standings=tuple(_standing(row, comparison, bottom, top, best) for row in comparison.rows if row.losses),
    )


def shares_of(arm: Losses, none: Losses, best: Losses) -> dict[int, float]:
    """The share of every seed that all three have and in which there was something to recover."""
    return {
        seed: (none[seed] - loss) / (none[seed] - best[seed])
        for seed, loss in arm.items()
        if seed in none and seed in best and none[seed] > best[seed]
    }


def reached(curve: Series, loss: float) -> tuple[float, float] | None:
    """Step and seconds at which a curve first was as low as a loss, straight between its points; None if never."""
    points = list(zip(curve.step, curve.seconds, curve.loss, strict=True))
    if points and points[0][2] <= loss:
        return float(points[0][0]), points[0][1]
    for (step, seconds, before), (next_step, next_seconds, after) in pairwise(points):
        if after <= loss < before:
            way = (before - loss) / (before - after)
            return step + way * (next_step - step), seconds + way * (next_seconds - seconds)
    return None


def _standing(row: Row, comparison: Comparison, none: Losses, best: Losses, best_model: str) -> Standing:
    shares = shares_of(row.losses, none, best)
    mean = difference(shares, dict.fromkeys(shares, 0.0))
    ends = {curve.seed: curve.validation for curve in comparison.curves if curve.model == best_model}
    base = comparison.baseline
    floor = {curve.seed: curve.validation for curve in comparison.curves if base and curve.model == base.model}
    mine = {
        curve.seed: curve.validation
        for curve in comparison.curves
        if curve.model == row.model and row.family != COUNTING
    }
    return Standing(
        model=row.model,
        shares=shares,
        mean=None if mean is None else mean.mean,
        margin=None if mean is None else mean.margin,
        reached_best=_all_reached(mine, ends),
        reached_baseline=_all_reached(mine, floor),
        seconds=band_or_none([run.seconds for run in row.runs]),
    )


def _all_reached(curves: Mapping[int, Series], targets: Mapping[int, Series]) -> tuple[Reached, ...]:
    """When each seed was as low as the target's curve ends, on the same held-out batches."""
    found = []
    for seed, curve in curves.items():
        target = targets.get(seed)
        if target is None or not len(target) or not len(curve):
            continue
        when = reached(curve, target.loss[-1])
        if when is not None:
            found.append(Reached(seed=seed, step=when[0], seconds=when[1], of_steps=when[0] / max(curve.step[-1], 1)))
    return tuple(found)


def mean_of(numbers: Sequence[float]) -> float:
    """The mean."""
    return sum(numbers) / len(numbers)
