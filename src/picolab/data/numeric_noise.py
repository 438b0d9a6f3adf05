"""How probable is the beginning of a noisy integer sequence, and what may follow it? The forward algorithm (Baum and Petrie 1966).

    hidden     x1 -> x2 -> x3 ..      a rule without chance, or a walk of some width
                |     |     |
    seen       y1    y2    y3         y = x, or with probability e any number: P(y | x) = (1 - e) [y = x] + e / numbers

A rule without chance has one hidden path, so one number tells how probable it is still; a walk needs one for every number it may
have reached. Nothing is impossible here, so no prefix tree helps: every rule is kept in mind.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from picolab.data.numeric import WALK, World, neighbours, table

Array = NDArray[np.float64]

ROWS = 128
"""Beginnings followed at once: a number for each rule of each."""


class NoisyLaw:
    """The masses of all prefixes of a world with noise."""

    def __init__(self, world: World) -> None:
        known = table(world)
        self.world = world
        self.terms, self.fits = known.numbers, known.fits
        self.share = known.weight / (known.fits - world.shortest + 1)
        self.spread = known.fits - world.shortest + 1
        self.slip = world.noise / 100 / world.numbers
        self.hold = 1 - world.noise / 100
        has_walks = WALK in world.families
        self.widths = np.arange(1, world.width + 1) if has_walks else np.arange(0)
        self.walk = 1 / (len(world.families) * world.numbers * world.width)
        self.step = (
            np.stack([_steps(world, int(w)) for w in self.widths])
            if has_walks
            else np.zeros((0, world.numbers, world.numbers))
        )

    def masses(self, numbers: NDArray[np.int64]) -> tuple[Array, Array]:
        """`reach[i, t]` = P(a document begins with the first t of row i), `stop[i, t]` = P(it is just those); -1 is no number."""
        rows, depth = numbers.shape
        reach, stop = np.zeros((2, rows, depth + 1))
        reach[:, 0] = 1.0
        for begun in range(0, rows, ROWS):
            some = slice(begun, begun + ROWS)
            for t, (ruled, walked) in enumerate(self._read(numbers[some]), start=1):
                left, ends = self._lengths(t)
                all_walked = walked.sum(axis=(1, 2))
                reach[some, t] = ruled @ left + all_walked * self._walk_left(t)
                stop[some, t] = ruled @ ends + all_walked * self._walk_ends(t)
        return reach, stop

    def following(self, numbers: NDArray[np.int64]) -> Array:
        """`[i, t, x]` = P(a document begins with the first t of row i, then x); x = `numbers` is its end."""
        rows, depth = numbers.shape
        n = self.world.numbers
        mass = np.zeros((rows, depth + 1, n + 1))
        for begun in range(0, rows, ROWS):
            some = numbers[begun : begun + ROWS]
            start = np.broadcast_to(self.share, (len(some), len(self.share)))
            states = [(start, np.zeros((len(some), 0, n))), *self._read(some)]
            for t, (ruled, walked) in enumerate(states):
                here = mass[begun : begun + ROWS, t]
                if t:
                    here[:, n] = ruled @ self._lengths(t)[1] + walked.sum(axis=(1, 2)) * self._walk_ends(t)
                if t < self.world.longest:
                    here[:, :n] = self._next(t, ruled, walked)
        return mass

    def agreed(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """As `Law.agreed`, always: with noise every rule can have written everything, and only the odds tell them apart."""
        return np.full((numbers.shape[0], numbers.shape[1] + 1), True)

    def _next(self, t: int, ruled: Array, walked: Array) -> Array:
        """Masses of every number as the next one, seen through the noise."""
        left, _ = self._lengths(t + 1)
        alive = self.fits > t
        one_hot = np.zeros((len(left), self.world.numbers))
        one_hot[alive, self.terms[alive, t]] = left[alive]
        hidden = ruled @ one_hot
        if len(self.widths):
            if t:
                walks = np.einsum("iwx,wxy->iy", walked, self.step)
            else:
                walks = np.full((len(ruled), self.world.numbers), self.walk * len(self.widths))
            hidden = hidden + walks * self._walk_left(t + 1)
        seen: Array = self.hold * hidden + self.slip * hidden.sum(axis=1, keepdims=True)
        return seen

    def _read(self, numbers: NDArray[np.int64]) -> list[tuple[Array, Array]]:
        """After each number: of every rule its mass times that of what was seen, of every width and place of a walk the same."""
        rows, depth = numbers.shape
        n = self.world.numbers
        ruled = np.tile(self.share, (rows, 1))
        walked = np.full((rows, len(self.widths), n), self.walk)
        found = []
        for t in range(min(depth, self.world.longest)):
            x = numbers[:, t]
            valid = ((x >= 0) & (x < n)).astype(np.float64)
            ruled = ruled * (self.slip + self.hold * (self.terms[:, t] == x[:, None])) * valid[:, None]
            if t:
                walked = np.einsum("iwx,wxy->iwy", walked, self.step)
            walked = walked * (self.slip + self.hold * (np.arange(n) == x[:, None]))[:, None] * valid[:, None, None]
            found.append((ruled, walked))
        return found

    def _lengths(self, t: int) -> tuple[Array, Array]:
        """Of every rule, how many of its lengths are t or more, and whether one is t."""
        alive = self.fits >= t
        left = np.where(alive, np.minimum(self.fits - t + 1, self.spread), 0)
        return left.astype(np.float64), (alive & (t >= self.world.shortest)).astype(np.float64)

    def _walk_left(self, t: int) -> float:
        lengths = self.world.longest - self.world.shortest + 1
        return min(lengths, self.world.longest - t + 1) / lengths

    def _walk_ends(self, t: int) -> float:
        return (t >= self.world.shortest) / (self.world.longest - self.world.shortest + 1)


def _steps(world: World, width: int) -> Array:
    """Where a walk goes from each number, and how probably."""
    x = np.arange(world.numbers)
    down, up = neighbours(x, width, world)
    distance = np.abs(x[:, None] - x[None])
    chance: Array = ((distance >= 1) & (distance <= width)) / (down + up)[:, None]
    return chance
