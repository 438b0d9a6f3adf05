"""When does learning become learning by heart? In words; studies/turning.py finds the step.

turn      limit_examples 50: overfitting begins at step 40 (35 to 45 over 3 seeds). From there to step 100 the validation
          loss rises by 0.500 ± 0.100 while the training loss falls by 1.000 ± 0.200 nats a token.
by_heart  limit_examples 50: of the 4-grams in samples, 2% stand in the training text at first, 31% at the lowest ..
"""

from __future__ import annotations

from collections.abc import Sequence

from picolab.studies.outcome import Outcome
from picolab.studies.points import point_said
from picolab.studies.result import PointResult
from picolab.studies.turning import turn_of
from picolab.studies.words.numbers import Figures, Found, plus_minus


def turns_found(points: Sequence[PointResult], outcomes: Sequence[Outcome]) -> Found:
    """The turn of every point, and what its samples repeat of the training text."""
    found: Found = []
    for point in points:
        turn = turn_of(point.number, outcomes)
        if turn is None:
            continue
        figures = {
            "point": point_said(point.point), "step": turn.step.mean, "step_low": turn.step.low, "step_high": turn.step.high,
            "last_step": turn.last_step, "seeds": turn.step.seeds, "rise": turn.rise.mean, "rise_margin": turn.rise.margin,
            "fall": turn.fall.mean, "fall_margin": turn.fall.margin, "claimed": turn.claimed,
        }  # fmt: skip
        found.append(("turn", figures))
        if turn.memorised is not None and turn.distinct is not None:
            parts = {"memorised": turn.memorised, "distinct": turn.distinct}
            moments = {
                f"{name}_{moment}": one.mean
                for name, three in parts.items()
                for moment, one in zip(("first", "turn", "last"), three, strict=True)
            }
            found.append(("by_heart", {"point": point_said(point.point), **moments}))
    return found


def say_turn(f: Figures) -> str:
    """Where the losses part, or that no such step can be claimed."""
    span = (
        f" ({f['step_low']:.0f} to {f['step_high']:.0f} over {f['seeds']} seeds)" if f["seeds"] > 1 else " (one seed)"
    )
    if not f["claimed"]:
        return (
            f"{f['point']}: no turn can be claimed by step {f['last_step']}: the validation loss is lowest at step "
            f"{f['step']:.0f}{span} and ends {plus_minus(f['rise'], f['rise_margin'])} nats a token above that."
        )
    return (
        f"{f['point']}: overfitting begins at step {f['step']:.0f}{span}. From there to step {f['last_step']} the validation loss "
        f"rises by {plus_minus(f['rise'], f['rise_margin'])} while the training loss falls by "
        f"{plus_minus(f['fall'], f['fall_margin'])} nats a token."
    )


def say_by_heart(f: Figures) -> str:
    """What samples repeat of the training text at three moments."""
    return (
        f"{f['point']}: of the 4-grams in samples, {f['memorised_first']:.0%} stand in the training text at first, "
        f"{f['memorised_turn']:.0%} at the lowest validation loss and {f['memorised_last']:.0%} at the end; "
        f"different ones among them "
        f"are {f['distinct_first']:.0%}, {f['distinct_turn']:.0%} and {f['distinct_last']:.0%}."
    )
