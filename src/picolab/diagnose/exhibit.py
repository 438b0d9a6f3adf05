"""What a report of a comparison shows besides the verdict: how far apart at every place and position, and a piece of each fault.

    places     of each place the error, position by position; what its own line adds; what is left with the mistakes made
    pieces     of each fault a corner of the value where it is born: the right one, the target's, and the right one with the mistake
    guesses    of each position the next token: the reference's, the target's, and the reference's with the mistakes made

Nothing is searched for here: faults and mistakes are those that were found, and the reference is walked once more with them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.birth import replay
from picolab.diagnose.levels import LEVELS
from picolab.diagnose.noise import Floor
from picolab.diagnose.walk import Fault, Key, Schedule, difference, time_axis, walk

if TYPE_CHECKING:
    from picolab.diagnose.verdict import Born

ROWS, COLUMNS = 20, 32
"""Of a value, how many positions and lanes a piece shows at most."""

Rows = tuple[tuple[float | None, ...], ...]
"""Numbers of a piece, row by row; None for one that is not finite, and for scores that the mask hides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One place over all passes. `by_position` has None where the target shows nothing.

    `error` is the worst position's and `allowed` what rounding may make of it; `added` is what its own line adds to the error
    of its inputs, `may_add` what rounding may add there, and `after` the error with all mistakes found made by the reference.
    """

    site: str
    error: float
    allowed: float
    by_position: tuple[float | None, ...]
    added: float | None = None
    may_add: float | None = None
    after: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A corner of the value where a fault is born, with the positions and lanes it is of; all on the target's own inputs.

    `after` is what the reference makes with the mistake; None where no mistake is certain.
    """

    site: str
    what: str
    across: str
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    reference: Rows
    target: Rows
    after: Rows | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """The next token at a position, with its probability, to the reference, the target, and the reference with the mistakes."""

    position: int
    reference: tuple[int, float]
    target: tuple[int, float]
    after: tuple[int, float] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Exhibit:
    """`pieces` has one for every fault of the verdict, in its order; None where none can be shown."""

    tokens: tuple[int, ...]
    prefill: int
    places: tuple[Place, ...]
    pieces: tuple[Piece | None, ...] = ()
    guesses: tuple[Guess, ...] = ()


def exhibit(
    anatomy: Anatomy,
    schedule: Schedule,
    natural: Mapping[Key, Tensor],
    values: Mapping[Key, Tensor],
    floor: Floor,
    born: Sequence[Born],
    found: Sequence[Fault],
) -> Exhibit:
    """Everything a page shows of a comparison; `found` are the mistakes of the faults that are certain, in their order."""
    patched = walk(anatomy, schedule, faults=found) if found else {}
    added = replay(anatomy, schedule, values, natural).added
    places = [
        Place(
            site=site,
            error=max(difference(natural[key], values[key], site) for key in keys),
            allowed=max(floor.allows(site), floor.allows_at_the_end),
            by_position=_by_position(natural, values, keys, schedule),
            added=max((added[key] for key in keys if key in added), default=None),
            may_add=floor.allows(site),
            after=max((difference(patched[key], values[key], site) for key in keys), default=None) if found else None,
        )
        for site, keys in _sites(natural, values).items()
    ]
    return Exhibit(
        tokens=schedule.tokens,
        prefill=schedule.prefill,
        places=tuple(places),
        pieces=tuple(_pieces(anatomy, schedule, natural, values, born, found)),
        guesses=tuple(_guesses(schedule, natural, values, patched)),
    )


def exhibit_of_values(
    schedule: Schedule, natural: Mapping[Key, Tensor], values: Mapping[Key, Tensor], allowed: Mapping[Key, float]
) -> Exhibit:
    """The same of two bundles, where no line can be replayed."""
    places = [
        Place(
            site=site,
            error=max(difference(natural[key], values[key], site) for key in keys),
            allowed=max(allowed[key] for key in keys),
            by_position=_by_position(natural, values, keys, schedule),
        )
        for site, keys in _sites(natural, values).items()
    ]
    return Exhibit(
        tokens=schedule.tokens,
        prefill=schedule.prefill,
        places=tuple(places),
        guesses=tuple(_guesses(schedule, natural, values, {})),
    )


def _sites(natural: Mapping[Key, Tensor], values: Mapping[Key, Tensor]) -> dict[str, list[Key]]:
    """Every place that both show, in the order of computation, with its passes."""
    sites: dict[str, list[Key]] = {}
    for key in natural:
        if key in values:
            sites.setdefault(key.site, []).append(key)
    return sites


def _by_position(
    natural: Mapping[Key, Tensor], values: Mapping[Key, Tensor], keys: Sequence[Key], schedule: Schedule
) -> tuple[float | None, ...]:
    errors: list[float | None] = [None] * len(schedule.tokens)
    for key in keys:
        at = schedule.prefill + key.step if key.phase == "decode" else schedule.prefill - 1
        for back, error in enumerate(reversed(position_errors(natural[key], values[key], key.site))):
            if 0 <= at - back < len(errors):
                errors[at - back] = error
    return tuple(errors)


def position_errors(made: Tensor, other: Tensor, site: str) -> list[float]:
    """How far two values of a place are apart at every position that both have; the largest is `difference` of the two."""
    axis = time_axis(site)
    if made.ndim != other.ndim or made.ndim <= axis or made.shape[axis] < other.shape[axis]:
        return []
    made = made.narrow(axis, made.shape[axis] - other.shape[axis], other.shape[axis])
    if made.shape != other.shape:
        return []
    a, b = made.double(), other.to(made.device).double()
    if site.endswith("scores"):
        seen = torch.ones(a.shape[-2:], dtype=torch.bool, device=a.device).tril(a.shape[-1] - a.shape[-2])
        a, b = a.masked_fill(~seen, 0.0), b.masked_fill(~seen, 0.0)
    unlike = (a.isfinite() != b.isfinite()).movedim(axis, 0).flatten(1).any(dim=1)
    a, b = a.nan_to_num(0, 0, 0), b.nan_to_num(0, 0, 0)
    gap = (a - b).movedim(axis, 0).flatten(1).norm(dim=1)
    size = a.movedim(axis, 0).flatten(1).norm(dim=1)
    usual = float(size.square().mean().sqrt()) or float(b.abs().max()) or 1.0
    return (gap / size.clamp(min=usual)).masked_fill(unlike, math.inf).tolist()


def _pieces(
    anatomy: Anatomy,
    schedule: Schedule,
    natural: Mapping[Key, Tensor],
    values: Mapping[Key, Tensor],
    born: Sequence[Born],
    found: Sequence[Fault],
) -> list[Piece | None]:
    """One for every fault: the mistakes found before it are made on both sides."""
    pieces: list[Piece | None] = []
    known: list[Fault] = []
    for fault in born:
        key = Key(fault.phase, fault.step, fault.site)
        certain = fault.explanations[0].certain and len(known) < len(found)
        mistake = [found[len(known)]] if certain else []
        pieces.append(None)
        for level in LEVELS if key in values else ():
            made = replay(anatomy, schedule, values, natural, level=level, faults=known, until=key)
            if key in made.added and _alike(made.added[key], fault.added):  # looked at as closely as when it was found
                after = replay(anatomy, schedule, values, natural, level=level, faults=[*known, *mistake], until=key)
                pieces[-1] = piece_of(key, made.made[key], values[key], after.made[key] if certain else None, schedule)
                break
        known += mistake
    return pieces


def _alike(a: float, b: float) -> bool:
    return a == b or math.isclose(a, b, rel_tol=1e-6)


def piece_of(key: Key, made: Tensor, target: Tensor, after: Tensor | None, schedule: Schedule) -> Piece | None:
    """The corner of a value where target and reference are furthest apart; of a value of heads, in one head."""
    axis = time_axis(key.site)
    if made.ndim < 3 or target.ndim != made.ndim or made.shape[axis] < target.shape[axis]:
        return None
    kept = target.shape[axis]
    made, target = (v.narrow(axis, v.shape[axis] - kept, kept)[0].detach().cpu().double() for v in (made, target))
    if made.shape != target.shape:
        return None
    after = None if after is None else after.narrow(axis, after.shape[axis] - kept, kept)[0].detach().cpu().double()
    if key.site.endswith("scores"):  # what the mask hides is not compared
        hidden = torch.ones(made.shape[-2:], dtype=torch.bool).triu(made.shape[-1] - kept + 1)
        made, target = (v.masked_fill(hidden, math.nan) for v in (made, target))
        after = None if after is None else after.masked_fill(hidden, math.nan)
    gap = (made - target).nan_to_num(0, 0, 0).abs()
    what = ""
    if gap.ndim == 3:  # (heads, queries, keys) or (time, heads, lanes)
        heads = 0 if axis == 2 else 1
        head = int(gap.square().sum([d for d in range(3) if d != heads]).argmax())
        what = f"head {head} of {gap.shape[heads]}"
        made, target, gap = (v.select(heads, head) for v in (made, target, gap))
        after = None if after is None else after.select(heads, head)
    elif gap.ndim != 2:
        return None
    rows = _window(gap.square().sum(1), ROWS)
    columns = _window(gap[rows].square().sum(0), COLUMNS)
    first = (schedule.prefill + key.step if key.phase == "decode" else schedule.prefill - 1) - kept + 1
    return Piece(
        site=key.site,
        what=what,
        across="key" if axis == 2 else "token" if key.site == "logits" else "lane",
        rows=tuple(first + i for i in range(rows.start, rows.stop)),
        columns=tuple(range(columns.start, columns.stop)),
        reference=_numbers(made[rows, columns]),
        target=_numbers(target[rows, columns]),
        after=None if after is None else _numbers(after[rows, columns]),
    )


def _window(power: Tensor, most: int) -> slice:
    """The stretch of at most so many that holds most of it; of equals the first."""
    if len(power) <= most:
        return slice(0, len(power))
    sums = power.unfold(0, most, 1).sum(1)
    start = int((sums >= sums.max() * (1 - 1e-9)).nonzero()[0])
    return slice(start, start + most)


def _numbers(matrix: Tensor) -> Rows:
    return tuple(tuple(float(f"{x:.6g}") if math.isfinite(x) else None for x in row) for row in matrix.tolist())


def _guesses(
    schedule: Schedule, natural: Mapping[Key, Tensor], values: Mapping[Key, Tensor], patched: Mapping[Key, Tensor]
) -> list[Guess]:
    guesses = []
    for phase, step, positions in schedule.passes():
        key = Key(phase, step, "logits")
        if key not in values or key not in natural or values[key].ndim != 3:
            continue
        count = min(values[key].shape[1], len(positions))
        for back in range(count, 0, -1):
            guesses.append(
                Guess(
                    position=positions[-back],
                    reference=_top(natural[key][0, -back]),
                    target=_top(values[key][0, -back]),
                    after=_top(patched[key][0, -back]) if key in patched else None,
                )
            )
    return guesses


def _top(logits: Tensor) -> tuple[int, float]:
    """The most probable token; of logits that are not all finite, the first largest as an engine's argmax takes it."""
    probs = logits.detach().double().softmax(-1)
    token = int(logits.argmax())
    return token, float(probs[token]) if math.isfinite(float(probs[token])) else math.nan
