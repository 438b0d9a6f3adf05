"""What did the comparison of attentions find? Sentences computed from its numbers, each with its uncertainty.

Gain, Comparison -> what learning gains; what frozen heads recover; whether that is more than random; which part of the recipe it
                    is; what the counted start is worth; how far all are from counting. Nothing is said that seeds do not support.
"""

from __future__ import annotations

from picolab.compare.bands import Difference
from picolab.compare.gain import Gain, Standing, mean_of
from picolab.compare.result import Comparison

NONE, BEST, RANDOM, UNIFORM, OFFSETS, COUNTED, START, PUBLISHED = (
    "zero", "trainable", "random", "uniform", "offsets", "counted", "counted-start", "published",
)  # fmt: skip
"""The arms that findings are about."""


def findings(gain: Gain, comparison: Comparison) -> tuple[str, ...]:
    """The sentences, the most important first."""
    whole = gain.whole
    if whole is None:
        return (
            "Learned attention and no attention have no finished seed in common, so there is nothing to share out.",
        )
    learned = f"Learning attention gains {_nats(whole)} over having none"
    if whole.mean <= 0 or (whole.margin is not None and not whole.told_apart):
        return (
            f"{learned}: that cannot be told from nothing, and shares of it mean nothing.",
            *_start(gain),
            *_counting(gain, comparison),
        )
    sentences = [
        *_recovered(gain, learned),
        *_against_random(gain),
        *_which_part(gain),
        *_earlier(gain),
        *_start(gain),
        *_counting(gain, comparison),
    ]
    return tuple(sentences)


def share_said(standing: Standing) -> str:
    """`137 % ± 9`, without the margin on one seed."""
    if standing.mean is None:
        return "no share"
    return f"{100 * standing.mean:.0f} %" + ("" if standing.margin is None else f" ± {100 * standing.margin:.0f}")


def _recovered(gain: Gain, learned: str) -> list[str]:
    counted = gain.of(COUNTED)
    if counted is None or counted.mean is None:
        return [f"{learned}."]
    seeds = f"{len(counted.shares)} seed{'s' * (len(counted.shares) > 1)}"
    told = f"{learned}; counted and frozen attention recovers {share_said(counted)} of that ({seeds})."
    if _sure(counted.mean - 1, counted.margin):
        told += " More than all of it means faster learning within this budget, not that frozen heads could learn more in the end."
    elif counted.mean <= 0 or (counted.margin is not None and counted.margin >= counted.mean):
        told += " That cannot be told from having no attention."
    return [told]


def _against_random(gain: Gain) -> list[str]:
    apart, random = gain.apart(COUNTED, RANDOM), gain.of(RANDOM)
    if apart is None or random is None:
        return []
    against = f"Random frozen attention recovers {share_said(random)}"
    if apart.margin is not None and not apart.told_apart:
        return [
            f"{against}: counted attention is no better than random, as far as {apart.seeds} seeds can tell ({_points(apart)})."
        ]
    if apart.mean <= 0:
        return [f"{against}: counted attention is no better than random, but worse ({_points(apart)})."]
    return [f"{against}, which is {_points(apart)} less than counted attention{_on_one(apart)}."]


def _which_part(gain: Gain) -> list[str]:
    told = []
    for arm, says in (
        (UNIFORM, "The same values without the places (uniform attention) recover"),
        (OFFSETS, "The places alone, with random values, recover"),
    ):
        standing, apart = gain.of(arm), gain.apart(arm, COUNTED)
        if standing is None or apart is None:
            continue
        if apart.margin is not None and not apart.told_apart:
            how = f"not told apart from the whole recipe ({_points(apart)})"
        else:
            how = f"{_points(apart)} {'more' if apart.mean > 0 else 'less'} than the whole recipe{_on_one(apart)}"
        told.append(f"{says} {share_said(standing)}, {how}.")
    return told


def _earlier(gain: Gain) -> list[str]:
    plain = gain.of(PUBLISHED)
    if plain is None:
        return []
    said = f"The earlier recipe as published recovers {share_said(plain)}"
    apart = gain.apart(PUBLISHED, RANDOM)
    if apart is not None and (apart.mean <= 0 or (apart.margin is not None and not apart.told_apart)):
        said += ", no better than random"
    corrected = [one for one in gain.standings if one.model.startswith(PUBLISHED + "+") and one.mean is not None]
    if corrected:
        corrected.sort(key=lambda one: one.model)
        said += "; corrected: " + ", ".join(f"{one.model.partition('+')[2]} {share_said(one)}" for one in corrected)
    return [said + "."]


def _start(gain: Gain) -> list[str]:
    start, best = gain.of(START), gain.of(BEST)
    if start is None or best is None:
        return []
    seeds, reached = len(start.shares) or 1, start.reached_best
    if not reached:
        return ["Trained on from the counted start, attention never gets as low as the random start ends."]
    ratio = mean_of([one.of_steps for one in reached])
    low, high = min(one.of_steps for one in reached), max(one.of_steps for one in reached)
    span = f" ({low:.2f} to {high:.2f} over {len(reached)} seeds)" if len(reached) > 1 else " (one seed)"
    missing = "" if len(reached) >= seeds else f"; {seeds - len(reached)} of {seeds} seeds never get there"
    return [
        "Trained on from the counted start, attention is where the random start ends after "
        f"{ratio:.2f} of its steps{span}{missing}."
    ]


def _counting(gain: Gain, comparison: Comparison) -> list[str]:
    base = comparison.baseline
    if base is None or base.loss is None:
        return []
    there = [one for one in gain.standings if one.reached_baseline]
    said = f"Counting alone ({base.model}, Kneser-Ney of order 5) scores {base.loss.mean:.3f} nats a token"
    if not there:
        return [f"{said}; no arm gets there in this budget."]
    when = ", ".join(
        f"{one.model} after {mean_of([run.step for run in one.reached_baseline]):,.0f} steps and "
        f"{mean_of([run.seconds for run in one.reached_baseline]):.1f} s"
        for one in there
    )
    return [f"{said}; it is reached by {when}, measured on the batches of the curves."]


def _sure(mean: float, margin: float | None) -> bool:
    return mean > (margin or 0.0)


def _nats(difference: Difference) -> str:
    return (
        f"{difference.mean:.3f}"
        + ("" if difference.margin is None else f" ± {difference.margin:.3f}")
        + " nats a token"
    )


def _points(difference: Difference) -> str:
    margin = "" if difference.margin is None else f" ± {100 * difference.margin:.0f}"
    return f"{100 * abs(difference.mean):.0f}{margin} points"


def _on_one(difference: Difference) -> str:
    return ", on one seed" if difference.margin is None else ""
