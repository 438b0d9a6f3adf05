"""What is a wrong continuation of integers? One that no rule of the world can have written.

    2 4 6 | 8 10 12        chosen
          | 8 13 12        off          one number is another
          | 9 12 15        other-rule   goes on by another step
          | 12 8 10        shuffled     the right numbers in another order
          | 8 8 8          loop         the first one again and again

Three numbers name at most one rule without chance (`numeric.py`), so a prompt has three at least. Whatever is drawn is thrown away
while the world could have written it: next to a random walk, `5 6 7 9` is no mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from picolab.data.corpus import numeric_world
from picolab.data.numeric import WALK, World, parse, rule_of
from picolab.data.preferences_words import Pair, Room
from picolab.errors import UnknownName
from picolab.text.tokenizer import Tokenizer

TELLING = 3
TRIES = 20
Numbers = tuple[int, ...]


def numeric_pairs(
    spec: str,
    texts: Sequence[str],
    tokenizer: Tokenizer,
    room: Room,
    kinds: Sequence[str],
    count: int,
    seed: tuple[int, int],
    *,
    even: bool = False,
) -> list[Pair]:
    """`count` pairs from sequences in turn, the mistake drawn for each; with `even`, every sequence gets each of them."""
    ways = kinds or tuple(KINDS)
    ways = tuple(dict.fromkeys(ways)) if even else ways
    for kind in ways:
        if kind not in KINDS:
            raise UnknownName("mistake in integers", kind, KINDS)
    world, _ = numeric_world(spec)
    rng = np.random.default_rng([*seed, 8])
    sequences = [numbers for text in texts if len(numbers := parse(text, world)) > TELLING]
    sequences = [sequences[i] for i in rng.permutation(len(sequences))]
    pairs: list[Pair] = []
    for turn in range(3 * count):  # a short sequence allows few mistakes
        if len(pairs) == count or not sequences or (even and turn >= len(sequences) * len(ways)):
            break
        numbers = sequences[(turn // len(ways) if even else turn) % len(sequences)]
        kind = ways[turn % len(ways)] if even else ways[int(rng.integers(len(ways)))]
        cut = int(rng.integers(TELLING, min(len(numbers), room.prompt + 1)))
        prompt, right = numbers[:cut], numbers[cut : cut + room.response]
        for _ in range(TRIES):
            wrong = KINDS[kind](prompt, right, world, rng)
            if wrong is not None and not is_possible(prompt + wrong, world):
                source, ended = f"pair {len(pairs) + 1} of `{spec}`", cut + len(right) == len(numbers)
                pairs.append(Pair(_text(prompt), " " + _text(right), " " + _text(wrong), kind, ended, source))
                break
    return pairs


def is_possible(numbers: Numbers, world: World) -> bool:
    """Whether some rule of the world can have written these numbers."""
    if rule_of(numbers, world) is not None:
        return True
    return WALK in world.families and all(0 < abs(b - a) <= world.width for a, b in pairwise(numbers))


def _text(numbers: Numbers) -> str:
    return " ".join(map(str, numbers))


# The mistakes; None where there is no room for one.


def _off(prompt: Numbers, right: Numbers, world: World, rng: np.random.Generator) -> Numbers | None:
    wrong = list(right)
    wrong[rng.integers(len(wrong))] += int(rng.integers(1, world.difference + 1)) * (1 if rng.random() < 0.5 else -1)
    return tuple(wrong) if all(0 <= x < world.numbers for x in wrong) else None


def _other_rule(prompt: Numbers, right: Numbers, world: World, rng: np.random.Generator) -> Numbers | None:
    step = int(rng.integers(1, world.difference + 1)) * (1 if rng.random() < 0.5 else -1)
    wrong = tuple(prompt[-1] + step * (i + 1) for i in range(len(right)))
    return wrong if all(0 <= x < world.numbers for x in wrong) else None


def _shuffled(prompt: Numbers, right: Numbers, world: World, rng: np.random.Generator) -> Numbers | None:
    return tuple(right[i] for i in rng.permutation(len(right))) if len(right) > 1 else None


def _loop(prompt: Numbers, right: Numbers, world: World, rng: np.random.Generator) -> Numbers | None:
    return (right[0],) * len(right) if len(right) > 1 else None


KINDS: dict[str, Callable[[Numbers, Numbers, World, np.random.Generator], Numbers | None]] = {
    "off": _off,
    "other-rule": _other_rule,
    "shuffled": _shuffled,
    "loop": _loop,
}
"""Mistakes: (prompt, right continuation, world, chance) -> a continuation that may be wrong."""
