"""How probable is the beginning of an integer sequence, and what may follow it? Bayes over every rule, on a whole corpus at once.

    P(x1 .. xt and more)  =  sum over rules without chance that start x1 .. xt   weight * P(length >= t)
                          +  sum over widths of a walk   weight * P(x1) P(x2 | x1) .. P(xt | xt-1) * P(length >= t)

The rules without chance are merged into a prefix tree, one sorted table of (node, number) a depth, so that a whole corpus is
looked up at once; a walk needs only one number a width, because each step has a known probability.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from picolab.data.numeric import WALK, World, neighbours, table

Array = NDArray[np.float64]
_Beginning = tuple[NDArray[np.int64], NDArray[np.bool_], Array]
"""Of every row: its node of the prefix tree, whether it is there at all, and the mass of walks of each width."""


class Law:
    """The masses of all prefixes of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        known = table(world)
        self.start = float(known.weight.sum())
        self.keys: list[NDArray[np.int64]] = []
        self.reach: list[Array] = []
        self.stop: list[Array] = []
        self.branches: list[NDArray[np.int64]] = []
        nodes = 1
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
            self.branches.append(np.bincount(keys // world.numbers, minlength=nodes))
            nodes = len(keys)
            self.reach.append(np.bincount(child, share * lengths_left, len(keys)).astype(np.float64))
            self.stop.append(np.bincount(child, share * (t >= world.shortest), len(keys)).astype(np.float64))
        self.walk = 1 / (len(world.families) * world.numbers * world.width) if WALK in world.families else 0.0

    def masses(self, numbers: NDArray[np.int64]) -> tuple[Array, Array]:
        """`reach[i, t]` = P(a document begins with the first t of row i), `stop[i, t]` = P(it is just those); -1 is no number."""
        rows, depth = numbers.shape
        reach, stop = np.zeros((2, rows, depth + 1))
        reach[:, 0] = 1.0
        beginning = self._none_read(rows)
        for t in range(1, min(depth, self.world.longest) + 1):
            before = numbers[:, t - 2] if t > 1 else None
            beginning = self._read(t, beginning, before, numbers[:, t - 1])
            reach[:, t], stop[:, t] = self._mass(t, beginning)
        return reach, stop

    def following(self, numbers: NDArray[np.int64]) -> Array:
        """`[i, t, x]` = P(a document begins with the first t of row i, then x); x = `numbers` is its end."""
        rows, depth = numbers.shape
        n = self.world.numbers
        mass = np.zeros((rows, depth + 1, n + 1))
        beginning = self._none_read(rows)
        for t in range(min(depth, self.world.longest) + 1):
            if t:
                before = numbers[:, t - 2] if t > 1 else None
                beginning = self._read(t, beginning, before, numbers[:, t - 1])
                mass[:, t, n] = self._mass(t, beginning)[1]
            if t < self.world.longest:
                node, there, walked = beginning
                each = np.repeat(node, n), np.repeat(there, n), np.repeat(walked, n, axis=0)
                before = np.repeat(numbers[:, t - 1], n) if t else None
                then = self._read(t + 1, each, before, np.tile(np.arange(n), rows))
                mass[:, t, :n] = self._mass(t + 1, then)[0].reshape(rows, n)
        return mass

    def agreed(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """`[i, t]`: all rules without chance that can have written the first t of row i say the same number next, or none does."""
        rows, depth = numbers.shape
        found = np.full((rows, depth + 1), True)
        beginning = self._none_read(rows)
        for t in range(min(depth, self.world.longest - 1) + 1):
            if t:
                beginning = self._read(t, beginning, numbers[:, t - 2] if t > 1 else None, numbers[:, t - 1])
            node, there, _ = beginning
            found[there, t] = self.branches[t][node[there]] <= 1
        return found

    def _none_read(self, rows: int) -> _Beginning:
        return np.zeros(rows, np.int64), np.full(rows, True), np.full((rows, self.world.width), self.walk)

    def _read(
        self, t: int, beginning: _Beginning, before: NDArray[np.int64] | None, x: NDArray[np.int64]
    ) -> _Beginning:
        """The same beginnings with x, their number t, after `before`."""
        node, there, walked = beginning
        valid = (x >= 0) & (x < self.world.numbers)
        node, there = self._descend(t - 1, node, x, there & valid)
        return node, there, walked * (valid[:, None] if before is None else self._steps(before, x, valid))

    def _mass(self, t: int, beginning: _Beginning) -> tuple[Array, Array]:
        node, there, walked = beginning
        reach, stop = np.zeros((2, len(node)))
        reach[there] = self.reach[t - 1][node[there]]
        stop[there] = self.stop[t - 1][node[there]]
        lengths = self.world.longest - self.world.shortest + 1
        reach += walked.sum(axis=1) * min(lengths, self.world.longest - t + 1) / lengths
        stop += walked.sum(axis=1) * (t >= self.world.shortest) / lengths
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
