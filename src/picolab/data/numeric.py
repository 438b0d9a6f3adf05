"""Five families of integer sequences: data whose rule is known, so that the best possible loss is known too.

    counting      5 6 7 8 9            a start
    arithmetic    3 7 11 15            a start, a difference (1 is counting)
    geometric     2 6 18 54            a start, a ratio; `64 32 16 8` divides
    alternating   4 9 4 9 4            two numbers
    random-walk   7 9 8 11 10          a start, a width: each step is 1 .. width up or down, any that stays in range

A document: draw a family, a rule of that family, a length from `shortest` to the longest that fits, all uniformly. Its text is the
numbers with a space between; every number is 0 .. numbers - 1, so a tokenizer of integers needs `numbers` + 1 tokens (end-of-text).
With `noise`, each number of the text is, with so many percent, drawn blindly instead; the rule goes on as if nothing had happened.
`numeric_floor.py` says how well this can be predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from picolab.errors import BadData, BadSetting, UnknownName

WALK = "random-walk"
CHUNK = 1024
"""Documents drawn at once. Part of the meaning of a seed: changing it changes every corpus."""


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Which families, over which numbers, how long: everything but the seed."""

    families: tuple[str, ...] = ("counting", "arithmetic", "geometric", "alternating", WALK)
    numbers: int = 128
    shortest: int = 4
    longest: int = 16
    difference: int = 12
    ratio: int = 5
    width: int = 3
    noise: int = 0

    def __post_init__(self) -> None:
        for family in self.families:
            if family not in FAMILIES:
                raise UnknownName("integer family", family, FAMILIES)
        if not self.families or len(set(self.families)) < len(self.families):
            raise BadSetting(
                f"families {', '.join(self.families) or 'none'} are not a set of one or more",
                hint="name each family once: " + " ".join(FAMILIES),
            )
        if not 3 <= self.shortest <= self.longest:
            raise BadSetting(
                f"shortest {self.shortest} and longest {self.longest} leave no length",
                hint="3 <= shortest <= longest: two numbers do not tell a rule",
            )
        if self.numbers < 2 or min(self.difference, self.ratio, self.width) < 1:
            raise BadSetting(
                f"numbers {self.numbers}, difference {self.difference}, ratio {self.ratio} and width {self.width} "
                "are too small",
                hint="numbers of at least 2, the others at least 1",
            )
        if not 0 <= self.noise < 100:
            raise BadSetting(f"noise {self.noise} is not 0 to 99 percent", hint="noise=5 spoils one number in twenty")
        for family in self.families:
            if next(_rules(self, family), None) is None:
                raise BadSetting(
                    f"no `{family}` sequence of {self.shortest} numbers fits below {self.numbers}",
                    hint="raise `numbers` or lower `shortest`",
                )


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a family. `step` is its difference, its ratio (negative: divide), the other number or the width."""

    family: str
    start: int
    step: int

    def __str__(self) -> str:
        return f"{self.family} {self.start} {self.step}"


@dataclass(frozen=True, slots=True)
class Example:
    """A document and the rule it was drawn from."""

    rule: Rule
    numbers: tuple[int, ...]

    @property
    def text(self) -> str:
        return " ".join(map(str, self.numbers))


def sample(world: World, n: int, *, seed: int) -> Iterator[Example]:
    """`n` documents of the world, always the same for a seed; the first of a longer sample are a shorter sample."""
    for chunk, first in enumerate(range(0, n, CHUNK)):
        yield from _draw(world, np.random.default_rng([seed, chunk]), min(CHUNK, n - first))


def parse(text: str, world: World) -> tuple[int, ...]:
    """The numbers of a document; anything that `Example.text` cannot have written is refused."""
    try:
        return tuple(map(_words(world.numbers).__getitem__, text.split(" ")))
    except KeyError as error:
        raise BadData(
            f"`{text[:40]}` is no sequence of numbers below {world.numbers}",
            hint="whole numbers with one space between, as in `2 4 6 8`",
        ) from error


def rule_of(numbers: tuple[int, ...], world: World) -> Rule | None:
    """The rule without chance that explains a whole document, if one does: three numbers name at most one.

    Where there is noise, the one that agrees with most of the numbers, and with more than half of them.
    """
    if world.noise:
        return _nearest_rule(numbers, world)
    rule, explained = _begun(world).get(numbers[:3], (None, ()))
    return rule if len(numbers) >= 3 and explained[: len(numbers)] == numbers else None


def family_of(numbers: tuple[int, ...], world: World) -> str:
    """The family of a whole document: that of the rule which explains it, or else a walk."""
    rule = rule_of(numbers, world)
    return WALK if rule is None else rule.family


def terms(rule: Rule, world: World, count: int) -> tuple[int, ...]:
    """At most `count` numbers of a rule without chance: as many as stay in range."""
    found: list[int] = []
    x: int = rule.start
    while len(found) < count and 0 <= x < world.numbers:
        found.append(x)
        follower = _NEXT[rule.family](rule, x)
        if follower is None:
            break
        x = follower
    return tuple(found)


def rules(world: World, family: str) -> list[Rule]:
    """Every rule of a family that has at least `shortest` numbers in range, in a fixed order."""
    return list(_rules(world, family))


def _rules(world: World, family: str) -> Iterator[Rule]:
    for start in range(world.numbers):
        for step in FAMILIES[family](world, start):
            rule = Rule(family, start, step)
            if family == WALK or len(terms(rule, world, world.shortest)) == world.shortest:
                yield rule


def neighbours(
    x: NDArray[np.int64], width: int | NDArray[np.int64], world: World
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many numbers a walk of this width can step down to, and up to, from each x."""
    return np.minimum(x, width), np.minimum(world.numbers - 1 - x, width)


@lru_cache(maxsize=8)
def table(world: World) -> Table:
    """All rules without chance of a world, their numbers and how probable each is."""
    families = [f for f in world.families if f != WALK]
    found = [
        (rule, 1 / (len(world.families) * len(group)))
        for f in families
        for group in [rules(world, f)]
        for rule in group
    ]
    numbers = np.full((len(found), world.longest), -1, np.int32)
    for row, (rule, _) in zip(numbers, found, strict=True):
        sequence = terms(rule, world, world.longest)
        row[: len(sequence)] = sequence
    counts = np.cumsum([0] + [sum(rule.family == f for rule, _ in found) for f in families])
    return Table(
        rules=tuple(rule for rule, _ in found),
        numbers=numbers,
        fits=(numbers >= 0).sum(axis=1),
        weight=np.array([weight for _, weight in found]),
        groups={f: (int(a), int(b)) for f, a, b in zip(families, counts, counts[1:], strict=False)},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`numbers` is (rule, longest), -1 where the range ends; `fits` how many are in range; `groups` the rows of each family."""

    rules: tuple[Rule, ...]
    numbers: NDArray[np.int32]
    fits: NDArray[np.int64]
    weight: NDArray[np.float64]
    groups: dict[str, tuple[int, int]]


@lru_cache(maxsize=8)
def _words(numbers: int) -> dict[str, int]:
    return {str(x): x for x in range(numbers)}


@lru_cache(maxsize=8)
def _begun(world: World) -> dict[tuple[int, ...], tuple[Rule, tuple[int, ...]]]:
    """By their first three numbers, all rules without chance and the numbers they explain."""
    known = table(world)
    rows = (tuple(row[:fits]) for row, fits in zip(known.numbers.tolist(), known.fits.tolist(), strict=True))
    return {row[:3]: (rule, row) for rule, row in zip(known.rules, rows, strict=True)}


def _nearest_rule(numbers: tuple[int, ...], world: World) -> Rule | None:
    known, length = table(world), len(numbers)
    if not known.rules or not length:
        return None
    agree = (known.numbers[:, :length] == np.array(numbers)).sum(axis=1) * (known.fits >= length)
    best = int(agree.argmax())
    return known.rules[best] if 2 * agree[best] > length else None


def _draw(world: World, rng: np.random.Generator, n: int) -> Iterator[Example]:
    # Always a whole chunk: the first documents must not depend on how many are wanted.
    family = rng.integers(len(world.families), size=CHUNK)
    pick, stop = rng.random(CHUNK), rng.random(CHUNK)
    walks = _walks(world, rng) if WALK in world.families else None
    known = table(world)
    spoiled = rng.random((CHUNK, world.longest)) < world.noise / 100
    others = rng.integers(world.numbers, size=(CHUNK, world.longest))
    for i in range(n):
        name = world.families[family[i]]
        if name == WALK:
            assert walks is not None
            rule, row, fits = Rule(WALK, int(walks[0][i, 0]), int(walks[1][i])), walks[0][i], world.longest
        else:
            low, high = known.groups[name]
            index = low + int(pick[i] * (high - low))
            rule, row, fits = known.rules[index], known.numbers[index], int(known.fits[index])
        length = world.shortest + int(stop[i] * (fits - world.shortest + 1))
        yield Example(rule, tuple(np.where(spoiled[i], others[i], row)[:length].tolist()))


def _walks(world: World, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    paths = np.empty((CHUNK, world.longest), np.int64)
    paths[:, 0] = rng.integers(world.numbers, size=CHUNK)
    width = rng.integers(1, world.width + 1, size=CHUNK)
    for t in range(1, world.longest):
        x = paths[:, t - 1]
        down, up = neighbours(x, width, world)
        step = rng.integers(down + up)  # 0 .. down - 1 go down, the others go up
        paths[:, t] = np.where(step < down, x - 1 - step, x + 1 + step - down)
    return paths, width


def _multiply(rule: Rule, x: int) -> int | None:
    if rule.step > 0:
        return x * rule.step
    return None if x % rule.step else x // -rule.step


_NEXT: dict[str, Callable[[Rule, int], int | None]] = {
    "counting": lambda rule, x: x + 1,
    "arithmetic": lambda rule, x: x + rule.step,
    "geometric": _multiply,
    "alternating": lambda rule, x: rule.start + rule.step - x,
}

FAMILIES: dict[str, Callable[[World, int], list[int]]] = {
    "counting": lambda world, start: [1],
    "arithmetic": lambda world, start: [d for d in range(-world.difference, world.difference + 1) if d not in (0, 1)],
    "geometric": lambda world, start: [s * r for r in range(2, world.ratio + 1) for s in (1, -1)] if start else [],
    "alternating": lambda world, start: [x for x in range(world.numbers) if x != start],
    WALK: lambda world, start: list(range(1, world.width + 1)),
}
"""Family -> every `step` worth trying at a start."""
