"""How well can integer sequences be predicted? Exactly: Bayes over every rule that could have written the prefix.

    P(x1 .. xt and more)  =  sum over rules without chance that start x1 .. xt   weight * P(length >= t)
                          +  sum over widths of a walk   weight * P(x1) P(x2 | x1) .. P(xt | xt-1) * P(length >= t)

    P(next = x | prefix)  =  P(prefix x) / P(prefix)            P(end | prefix)  =  P(document = prefix) / P(prefix)

The rules without chance are merged into a prefix tree, one sorted table of (node, number) a depth, so that a whole corpus is
looked up at once; a walk needs only one number a width, because each step has a known probability. A prefix like `2 4` may come
from all five families, and the posterior mixes them. No model that does not know the seed has a smaller loss on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from picolab.data.numeric import WALK, World, neighbours, parse, table
from picolab.errors import BadData

Array = NDArray[np.float64]


def next_distribution(prefix: Sequence[int], world: World) -> Array:
    """What follows a prefix: probabilities of the numbers 0 .. numbers - 1, then of end-of-text; they sum to 1."""
    law = _law(world)
    continued = np.empty((world.numbers, len(prefix) + 1), np.int64)
    continued[:, :-1] = prefix
    continued[:, -1] = np.arange(world.numbers)
    reach, stop = law.masses(continued)
    before = reach[0, -2]
    if before == 0:
        raise BadData(
            f"no rule of this world writes `{' '.join(map(str, prefix))}`", hint="families: " + " ".join(world.families)
        )
    after: Array = np.append(reach[:, -1], stop[0, -2])
    return after / before


def position_floors(documents: Sequence[str], world: World) -> list[Array]:
    """Nats of every position of every document, the end of the text last: -log P(what came | what came before)."""
    law = _law(world)
    parsed = [parse(text, world) for text in documents]
    lengths = np.array([len(p) for p in parsed], np.int64)
    padded = np.full((len(parsed), max(lengths, default=0) + 1), -1, np.int64)
    for row, numbers in zip(padded, parsed, strict=True):
        row[: len(numbers)] = numbers
    reach, stop = law.masses(padded)
    each = np.arange(len(parsed))
    ended = stop[each, lengths]
    for i in np.flatnonzero(ended == 0).tolist():
        raise BadData(
            f"no rule of this world writes `{documents[i][:60]}`", hint="families: " + " ".join(world.families)
        )
    reach[each, lengths + 1] = ended
    with np.errstate(divide="ignore", invalid="ignore"):  # beyond the end of a document the masses are 0
        nats = -np.diff(np.log(reach), axis=1)
    # Exactly certain is 0, not the rounding error of a long sum.
    return [np.maximum(row[: length + 1], 0.0) for row, length in zip(nats, lengths, strict=True)]


def document_floors(documents: Sequence[str], world: World) -> Array:
    """Nats of every document, its end included: divide by the number of scored tokens for nats a token."""
    return np.array([nats.sum() for nats in position_floors(documents, world)], np.float64)


class _Law:
    """The masses of all prefixes of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        known = table(world)
        self.start = float(known.weight.sum())
        self.keys: list[NDArray[np.int64]] = []
        self.reach: list[Array] = []
        self.stop: list[Array] = []
        node = np.zeros(len(known.fits), np.int64)
        spread = known.fits - world.shortest + 1  # how many lengths a rule may have
        for t in range(1, world.longest + 1):
            alive = np.flatnonzero(known.fits >= t)
            key = node[alive] * world.numbers + known.numbers[alive, t - 1]
            keys, child = np.unique(key, return_inverse=True)
            node[alive] = child
            share = known.weight[alive] / spread[alive]
            lengths_left = np.minimum(known.fits[alive] - t + 1, spread[alive])
            self.keys.append(keys)
            self.reach.append(np.bincount(child, share * lengths_left, len(keys)).astype(np.float64))
            self.stop.append(np.bincount(child, share * (t >= world.shortest), len(keys)).astype(np.float64))
        self.walk = 1 / (len(world.families) * world.numbers * world.width) if WALK in world.families else 0.0

    def masses(self, numbers: NDArray[np.int64]) -> tuple[Array, Array]:
        """`reach[i, t]` = P(a document begins with the first t of row i), `stop[i, t]` = P(it is just those); -1 is no number."""
        rows, depth = numbers.shape
        reach, stop = np.zeros((2, rows, depth + 1))
        reach[:, 0] = 1.0
        node = np.zeros(rows, np.int64)
        there = np.full(rows, True)
        walked = np.full((rows, self.world.width), self.walk)
        for t in range(1, min(depth, self.world.longest) + 1):
            x = numbers[:, t - 1]
            valid = (x >= 0) & (x < self.world.numbers)
            node, there = self._descend(t - 1, node, x, there & valid)
            reach[there, t] = self.reach[t - 1][node[there]]
            stop[there, t] = self.stop[t - 1][node[there]]
            walked = walked * (valid[:, None] if t == 1 else self._steps(numbers[:, t - 2], x, valid))
            lengths = self.world.longest - self.world.shortest + 1
            reach[:, t] += walked.sum(axis=1) * min(lengths, self.world.longest - t + 1) / lengths
            stop[:, t] += walked.sum(axis=1) * (t >= self.world.shortest) / lengths
        return reach, stop

    def _descend(
        self, depth: int, node: NDArray[np.int64], x: NDArray[np.int64], there: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        keys = self.keys[depth]
        if not len(keys):
            return node, np.zeros_like(there)
        key = node * self.world.numbers + x
        child = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        return child, there & (keys[child] == key)

    def _steps(self, x: NDArray[np.int64], y: NDArray[np.int64], valid: NDArray[np.bool_]) -> Array:
        widths = np.arange(1, self.world.width + 1)
        distance = np.abs(y - x)[:, None]
        possible = valid[:, None] & (distance >= 1) & (distance <= widths)
        down, up = neighbours(x[:, None], widths, self.world)
        chance: Array = possible / np.maximum(down + up, 1)
        return chance


@lru_cache(maxsize=8)
def _law(world: World) -> _Law:
    return _Law(world)
