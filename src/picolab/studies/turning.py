"""When does learning become learning by heart? Where the held-out loss turns up while the training loss goes on falling.

    held-out  \\__/   <- lowest at step s: the turn        training  \\___   <- lower at the end than at s
              rise = last - lowest                                  fall = at s - last

The turn of a run is the evaluation with the lowest held-out loss. Over seeds the rise and the fall have margins; a turn is
claimed only where both are told apart from 0 and no seed is lowest at its last evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from picolab.compare.bands import Band, Difference, band, difference
from picolab.studies.outcome import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """The turn of one point. `heart` is (memorised at the first evaluation, at the turn, at the end), `distinct` likewise."""

    number: int
    step: Band
    last_step: int
    rise: Difference
    fall: Difference
    claimed: bool
    memorised: tuple[Band, Band, Band] | None
    distinct: tuple[Band, Band, Band] | None


def turn_of_run(outcome: Outcome) -> int | None:
    """Which evaluation has the lowest held-out loss, the untrained model left out; None without a course."""
    course = outcome.course
    losses = [
        (loss, place)
        for place, (step, loss) in enumerate(zip(course.get("step", ()), course.get("loss", ()), strict=True))
        if loss is not None and step
    ]
    return min(losses)[1] if losses else None


def turn_of(number: int, outcomes: Sequence[Outcome]) -> Turn | None:
    """The turn of a point over its seeds; None where a course or its training loss is missing."""
    mine = [o for o in outcomes if o.number == number and o.status == "finished" and "train_loss" in o.course]
    places = {o.seed: place for o in mine if (place := turn_of_run(o)) is not None}
    mine = [o for o in mine if o.seed in places]
    if not mine:
        return None
    nothing = dict.fromkeys(places, 0.0)
    rise = difference({o.seed: _at(o, "loss", -1) - _at(o, "loss", places[o.seed]) for o in mine}, nothing)
    fall = difference({o.seed: _at(o, "train_loss", places[o.seed]) - _at(o, "train_loss", -1) for o in mine}, nothing)
    assert rise is not None and fall is not None
    inside = all(places[o.seed] < len(o.course["step"]) - 1 for o in mine)
    sure = all(gap.told_apart and gap.mean > 0 for gap in (rise, fall))
    return Turn(
        number=number,
        step=band([_at(o, "step", places[o.seed]) for o in mine]),
        last_step=int(max(_at(o, "step", -1) for o in mine)),
        rise=rise,
        fall=fall,
        claimed=inside and sure,
        memorised=_three("memorised", mine, places),
        distinct=_three("distinct", mine, places),
    )


def _three(name: str, outcomes: Sequence[Outcome], places: dict[int, int]) -> tuple[Band, Band, Band] | None:
    """A column's value at the first evaluation of a trained model, at the turn, and at the end."""
    if not all(name in o.course for o in outcomes):
        return None
    moments = []
    for moment in ("first", "turn", "last"):
        values = []
        for o in outcomes:
            first = next(i for i, step in enumerate(o.course["step"]) if step is not None)
            place = {"first": first, "turn": places[o.seed], "last": -1}[moment]
            value = o.course[name][place]
            if value is None:
                return None
            values.append(value)
        moments.append(band(values))
    return moments[0], moments[1], moments[2]


def _at(outcome: Outcome, column: str, place: int) -> float:
    value = outcome.course[column][place]
    assert value is not None, f"{outcome.name} has no {column} at evaluation {place}"
    return value
