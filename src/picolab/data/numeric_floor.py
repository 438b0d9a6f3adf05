"""How well can integer sequences be predicted? Exactly: Bayes over every rule that could have written the prefix.

    P(next = x | prefix)  =  P(prefix x) / P(prefix)            P(end | prefix)  =  P(document = prefix) / P(prefix)

The probabilities are those of `numeric_law.py`, or with noise of `numeric_noise.py`. A prefix like `2 4` may come from all five
families, and the posterior mixes them. No model that does not know the seed has a smaller loss on average.

    next_distribution    of one prefix                       document_floors    least nats of every document
    following            of every prefix of many documents   position_floors    the same, position by position
    agreed               whether a prefix leaves one next number, walks and the end of the text aside
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from picolab.data.numeric import World, parse
from picolab.data.numeric_law import Law
from picolab.data.numeric_noise import NoisyLaw
from picolab.errors import BadData

Array = NDArray[np.float64]

AT_ONCE = 2**22
"""Probabilities computed together, 32 MB."""


def next_distribution(prefix: Sequence[int], world: World) -> Array:
    """What follows a prefix: probabilities of the numbers 0 .. numbers - 1, then of end-of-text; they sum to 1."""
    mass = _law(world).following(np.array([prefix], np.int64).reshape(1, -1))[0, -1]
    if mass.sum() == 0:
        raise _impossible(prefix, world)
    after: Array = mass / mass.sum()
    return after


def following(documents: Sequence[Sequence[int]], world: World) -> Iterator[Array]:
    """For every document `(length + 1, numbers + 1)`: what follows its first 0, 1, .. numbers, as `next_distribution` has it."""
    longest = max(map(len, documents), default=0)
    rows = max(1, AT_ONCE // ((longest + 1) * (world.numbers + 1)))
    for begun in range(0, len(documents), rows):
        some = documents[begun : begun + rows]
        masses = _law(world).following(_padded(some))
        for numbers, mass in zip(some, masses, strict=True):
            own = mass[: len(numbers) + 1]
            total = own.sum(axis=1, keepdims=True)
            if not total.all():
                raise _impossible(numbers, world)
            yield own / total


def agreed(documents: Sequence[Sequence[int]], world: World) -> Iterator[NDArray[np.bool_]]:
    """For every document `(length + 1)`: whether what was read leaves no two rules without chance that go on differently.

    `21 42` leaves two, `21 42 84` and `21 42 21`: that the first is likelier follows from how few geometric rules there are, and
    somebody who was never shown it cannot know.
    """
    for numbers, row in zip(documents, _law(world).agreed(_padded(documents)), strict=True):
        yield row[: len(numbers) + 1]


def position_floors(documents: Sequence[str], world: World) -> list[Array]:
    """Nats of every position of every document, the end of the text last: -log P(what came | what came before)."""
    parsed = [parse(text, world) for text in documents]
    lengths = np.array([len(p) for p in parsed], np.int64)
    reach, stop = _law(world).masses(_padded(parsed))
    reach = np.append(reach, np.zeros((len(parsed), 1)), axis=1)
    each = np.arange(len(parsed))
    ended = stop[each, lengths]
    for i in np.flatnonzero(ended == 0).tolist():
        raise _impossible(parsed[i], world)
    reach[each, lengths + 1] = ended
    with np.errstate(divide="ignore", invalid="ignore"):  # beyond the end of a document the masses are 0
        nats = -np.diff(np.log(reach), axis=1)
    # Exactly certain is 0, not the rounding error of a long sum.
    return [np.maximum(row[: length + 1], 0.0) for row, length in zip(nats, lengths, strict=True)]


def document_floors(documents: Sequence[str], world: World) -> Array:
    """Nats of every document, its end included: divide by the number of scored tokens for nats a token."""
    return np.array([nats.sum() for nats in position_floors(documents, world)], np.float64)


def _padded(documents: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Documents side by side, -1 behind their ends."""
    padded = np.full((len(documents), max(map(len, documents), default=0)), -1, np.int64)
    for row, numbers in zip(padded, documents, strict=True):
        row[: len(numbers)] = numbers
    return padded


def _impossible(numbers: Sequence[int], world: World) -> BadData:
    return BadData(
        f"no rule of this world writes `{' '.join(map(str, numbers))[:60]}`",
        hint="families: " + " ".join(world.families),
    )


@lru_cache(maxsize=8)
def _law(world: World) -> Law | NoisyLaw:
    return NoisyLaw(world) if world.noise else Law(world)
