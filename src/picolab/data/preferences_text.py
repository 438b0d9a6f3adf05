"""How is a text spoiled? Cut it in two, keep the beginning, and put something worse in the place of what follows.

    Once upon a time there was   | a cat who slept all day.       chosen
                                 | day. cat slept a all who       shuffled       the same words in another order
                                 | The ship left at noon.         other-text     what follows in another text
                                 | a cat a cat a cat a cat        loop           its first words again and again
                                 | a cat whe slept ping day.      noise          some tokens replaced by others

Only the text differs: words keep the white space of their places, lengths stay the same but for other-text, and both sides end
where the better one does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from picolab.data.preferences_words import ENDS, Pair, Room, words_of
from picolab.errors import UnknownName
from picolab.text.tokenizer import Tokenizer

NOISE = 0.25
"""Share of tokens that `noise` replaces, at least one."""

FEWEST = 4
"""Words a response has at least: fewer cannot be shuffled or looped."""

TRIES = 20


@dataclass(frozen=True, slots=True)
class Cut:
    """A text in two; `ended` if the second part is all of the rest."""

    prompt: str
    response: str
    ended: bool


@dataclass(frozen=True, slots=True)
class Shelf:
    """What spoiling may draw on: the texts of one side of the split, cut, and the ids their responses are made of."""

    cuts: Sequence[Cut]
    ids: Sequence[int]
    tokenizer: Tokenizer


def text_pairs(
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
    """`count` pairs from texts in turn, the way of spoiling drawn for each; with `even`, every text is spoiled in each way.

    A kind named twice is drawn twice as often. Nobody names any: `MIX`.
    """
    ways = kinds or MIX
    ways = tuple(dict.fromkeys(ways)) if even else ways
    for kind in ways:
        if kind not in KINDS:
            raise UnknownName("way to spoil a text", kind, KINDS)
    rng = np.random.default_rng([*seed, 7])
    order = rng.permutation(len(texts))
    cost = _Cost(tokenizer)
    cuts = [cut for i in order if (cut := cut_text(texts[int(i)], cost, room, rng)) is not None]
    if not cuts:
        return []
    shelf = Shelf(cuts, _spellable(cuts, tokenizer), tokenizer)
    pairs: list[Pair] = []
    for turn in range(2 * count):  # twice: a text may be one that cannot be spoiled in the way drawn
        if len(pairs) == count or (even and turn >= len(cuts) * len(ways)):
            break
        cut = cuts[(turn // len(ways) if even else turn) % len(cuts)]
        kind = ways[turn % len(ways)] if even else ways[int(rng.integers(len(ways)))]
        for _ in range(TRIES):
            rejected = KINDS[kind](cut, shelf, rng)
            if rejected.split() != cut.response.split() and rejected.strip():
                source = f"pair {len(pairs) + 1} of `{spec}`"
                pairs.append(Pair(cut.prompt, cut.response, rejected, kind, cut.ended, source))
                break
    return [pair for pair in pairs if _fits(pair, tokenizer, room)]


def cut_text(text: str, cost: _Cost, room: Room, rng: np.random.Generator) -> Cut | None:
    """A prompt of whole sentences where one fits, and the sentences that follow it, as many as fit; None for a text too short."""
    words = words_of(text)
    if len(words) < FEWEST + 1:
        return None
    until = [0, *accumulate(cost(word) for word in words)]  # tokens of the first n words
    ends = [i + 1 for i, word in enumerate(words) if ENDS.search(word)]
    last = min(bisect_right(until, room.prompt) - 1, len(words) - FEWEST)
    if last < 1:
        return None
    places = [end for end in ends if end <= last] or list(range(max(1, last // 2), last + 1))
    cut = places[rng.integers(len(places))]
    furthest = bisect_right(until, until[cut] + room.response) - 1
    stops = [end for end in [*ends, len(words)] if cut + FEWEST <= end <= furthest]
    stop = max(stops) if stops else furthest
    if stop < cut + FEWEST:
        return None
    return Cut("".join(words[:cut]), "".join(words[cut:stop]), stop == len(words))


class _Cost:
    """Tokens of a word by itself; words recur, so each is spelled once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.known: dict[str, int] = {}

    def __call__(self, word: str) -> int:
        if word not in self.known:
            self.known[word] = len(self.tokenizer.encode(word))
        return self.known[word]


def _spellable(cuts: Sequence[Cut], tokenizer: Tokenizer) -> list[int]:
    """Ids of the responses, as often as they occur, of tokens that are whole characters."""
    ids = [i for row in tokenizer.encode_batch([cut.response for cut in cuts[:500]]) for i in row]
    whole = {i for i in set(ids) if _is_text(tokenizer.token_bytes(i))}
    return [i for i in ids if i in whole]


def _is_text(raw: bytes) -> bool:
    try:
        return bool(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return False


def _fits(pair: Pair, tokenizer: Tokenizer, room: Room) -> bool:
    """Whether a spoiled text still fits where the whole one did: other words may be spelled with more tokens."""
    most = room.prompt + room.response
    prompt, chosen, rejected = tokenizer.encode_batch([pair.prompt, pair.chosen, pair.rejected])
    return bool(rejected) and chosen != rejected and len(prompt) + max(len(chosen), len(rejected)) <= most


# The ways to spoil.


def _shuffled(cut: Cut, shelf: Shelf, rng: np.random.Generator) -> str:
    words = words_of(cut.response)
    return _in_places(words, [words[i].lstrip() for i in rng.permutation(len(words))])


def _other_text(cut: Cut, shelf: Shelf, rng: np.random.Generator) -> str:
    return shelf.cuts[int(rng.integers(len(shelf.cuts)))].response


def _loop(cut: Cut, shelf: Shelf, rng: np.random.Generator) -> str:
    words = words_of(cut.response)
    period = int(rng.integers(1, max(2, min(5, len(words) // 2) + 1)))
    return _in_places(words, [words[i % period].lstrip() for i in range(len(words))])


def _noise(cut: Cut, shelf: Shelf, rng: np.random.Generator) -> str:
    ids = shelf.tokenizer.encode(cut.response)
    places = rng.choice(len(ids), size=max(1, round(NOISE * len(ids))), replace=False)
    for place in places:
        ids[place] = shelf.ids[int(rng.integers(len(shelf.ids)))]
    text = shelf.tokenizer.decode(ids).replace("\ufffd", "")  # half a character may be left of one
    before = cut.response[: len(cut.response) - len(cut.response.lstrip())]
    return before + text.lstrip()


def _in_places(words: Sequence[str], others: Sequence[str]) -> str:
    """Other words with the white space of these."""
    return "".join(word[: len(word) - len(word.lstrip())] + other for word, other in zip(words, others, strict=True))


MIX = ("shuffled", "loop", "noise", "other-text", "other-text", "other-text")
"""Broken language is seen in a word or two; what does not belong to the beginning takes most of the learning."""

KINDS: dict[str, Callable[[Cut, Shelf, np.random.Generator], str]] = {
    "shuffled": _shuffled,
    "other-text": _other_text,
    "loop": _loop,
    "noise": _noise,
}
"""Ways to spoil a text: (what follows, everything else, chance) -> something worse."""
