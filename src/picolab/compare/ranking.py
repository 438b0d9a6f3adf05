"""The result in words: only what the numbers support, each sentence with its numbers.

rows, setup -> who is best and by how much; who cannot be told apart; who beats counting; how far the floor is; what failed
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from picolab.compare.bands import CONFIDENCE, Band, Difference, difference
from picolab.compare.result import Row, Setup

NOT_HELD_OUT = (
    "Nothing was held out of this data: models are scored on text they trained on, which rewards learning it by heart."
)


def rank(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Best mean loss first; models without a finished seed last, in the order given."""
    return tuple(sorted(rows, key=lambda row: (row.loss is None, row.loss.mean if row.loss else 0.0)))


def in_words(rows: Sequence[Row], setup: Setup) -> tuple[str, ...]:
    """The ranking as sentences; `rows` are those of `rank`."""
    finished = [row for row in rows if row.loss is not None]
    sentences = [*_order(finished), *_against_counting(finished), *_against_floor(finished, setup), *_failures(rows)]
    if finished and not setup.held_out:
        sentences.append(NOT_HELD_OUT)
    if len(finished) > 1:
        sentences.append(_certainty(len(setup.seeds)))
    return tuple(sentences)


def _order(finished: Sequence[Row]) -> list[str]:
    if not finished:
        return ["No model finished, so there is nothing to rank."]
    best = finished[0]
    sentences = [f"{best.model} predicts best: {_loss(best.loss)}."]
    for better, worse in pairwise(finished):
        gap = difference(worse.losses, better.losses)
        if gap is None:
            sentences.append(
                f"{better.model} and {worse.model} have no finished seed in common, so they are not compared."
            )
        elif gap.margin is None:
            sentences.append(f"{better.model} is {_gap(gap)} ahead of {worse.model}, on one seed.")
        elif gap.told_apart:
            sentences.append(f"{better.model} is ahead of {worse.model} by {_gap(gap)}.")
        else:
            sentences.append(
                f"{better.model} and {worse.model} cannot be told apart with {gap.seeds} seeds: they differ by {_gap(gap)}."
            )
    return sentences


def _against_counting(finished: Sequence[Row]) -> list[str]:
    baseline = next((row for row in finished if row.baseline), None)
    if baseline is None or baseline.loss is None:
        return []
    groups: dict[str, list[str]] = {"better": [], "worse": [], "not told apart from it": []}
    for row in finished:
        gap = difference(row.losses, baseline.losses)
        if row.baseline or gap is None:
            continue
        known = gap.margin is None or gap.told_apart
        groups["not told apart from it" if not known else "better" if gap.mean < 0 else "worse"].append(row.model)
    said = ", ".join(
        f"{_names(models)} {'is' if len(models) == 1 else 'are'} {how}" for how, models in groups.items() if models
    )
    return (
        [f"Against counting alone ({baseline.model}, {baseline.loss.mean:.3f} nats a token): {said}."] if said else []
    )


def _against_floor(finished: Sequence[Row], setup: Setup) -> list[str]:
    if setup.floor is None or not finished or finished[0].loss is None:
        return []
    best, loss = finished[0], finished[0].loss
    above = loss.mean - setup.floor
    if above < 0:
        return [
            f"{best.model} is {-above:.3f} below the exact floor of {setup.floor:.3f} nats a token, "
            "which only luck on a small held-out split or a leak can do."
        ]
    closed = (setup.uniform - loss.mean) / (setup.uniform - setup.floor)
    way = f", {closed:.0%} of the way from a uniform guess ({setup.uniform:.2f})" if closed > 0 else ""
    return [
        f"No model can get below {setup.floor:.3f} nats a token in the long run, the exact entropy of this data: "
        f"{best.model} is {above:.3f} above it{way}."
    ]


def _failures(rows: Sequence[Row]) -> list[str]:
    return [
        f"{row.model} did not finish with {seeds_named(seeds)}: {reason}."
        for row in rows
        for reason, seeds in row.reasons.items()
    ]


def seeds_named(seeds: Sequence[int]) -> str:
    """`seed 3`, or `seeds 0, 1 and 4`."""
    return f"seed{'s' * (len(seeds) > 1)} {_names([str(seed) for seed in seeds])}"


def _certainty(seeds: int) -> str:
    if seeds == 1:
        return "One seed gives no band, so chance cannot be told from a real difference: ask for 3 seeds or more."
    return f"Every ± is the {CONFIDENCE:.0%} margin of the differences seed by seed, {seeds} seeds."


def _loss(loss: Band | None) -> str:
    if loss is None:
        return "no loss"
    if loss.seeds == 1:
        return f"{loss.mean:.3f} nats a token"
    return f"{loss.mean:.3f} nats a token ({loss.low:.3f} to {loss.high:.3f} over {loss.seeds} seeds)"


def _gap(gap: Difference) -> str:
    margin = "" if gap.margin is None else f" ± {gap.margin:.3f}"
    return f"{abs(gap.mean):.3f}{margin} nats a token"


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
