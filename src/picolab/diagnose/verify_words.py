"""Do two engines cut every text into the same tokens, and put tokens together to the same text?

words of many scripts, emoji, runs of white space, digits, control characters, every character of one byte and its neighbours,
the letters of control tokens, and all of these stirred                ->  ids equal, and their text equal
ids of text drawn at random                                            ->  text equal

Bytes that are no text are shown in several ways, one U+FFFD for each or for a few: where both show some, nothing is compared.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from picolab.errors import BadInput
from picolab.trace.engines.engine import Engine

TIDIED = re.compile(r" [.?!,']")
NO_TEXT = "\N{REPLACEMENT CHARACTER}"
STIRRED, RANDOM_IDS = 200, 100
"""Texts made of several kinds, and lists of ids."""

SCRIPTS = (
    "The quick brown fox jumps over the lazy dog, isn't it? I'LL say: we've DONE it.",
    "naïve café déjà Ærøskøbing Straße İstanbul ǅ ﬁ Łódź",
    "Быстрая лисица, ёж",
    "αβγ Ωμέγα",
    "שָׁלוֹם עולם",
    "مرحبا بالعالم ١٢٣",
    "नमस्ते दुनिया १२३",
    "ภาษาไทยไม่มีช่องว่าง",
    "漢字とひらがなとカタカナ。全角　ＡＢＣ１２３",
    "한국어 조합형 한글",
    "𝒜𝔅ℂ 𐍈 𓀀 🀄",
    "½ ² ③ Ⅳ 12345 1,000.5 3.14e-10 0x7F 007",
)
EMOJI = ("🙂", "👩‍👩‍👧", "🇫🇷🇯🇵", "👍🏽", "❤️", "🏴‍☠️")
SPACES = (
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    " \n ",
    "\u00a0",
    "\u2003",
    "\u3000",
    "\u200b",
    "\u2028",
    "\ufeff",
)
CONTROLS = tuple(chr(code) for code in (*range(32), 127, *range(0x80, 0xA0)))
BORDERS = tuple(map(chr, (0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFD, 0xFFFF, 0x10000, 0x10FFFF)))
"""Where UTF-8 needs another byte, and the ends of what is a character."""

MARKS = ("▁", "▁a", "Ġ", "<0x41>", "##a", "</w>", "$A", "{{x}}", "ĠĠ")
"""What vocabularies write for other things."""

CONTROL_TOKENS = ("<s>", "</s>", "<unk>", "<pad>", "[PAD]", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dispute:
    """A text or list of ids that two engines do not read alike; what each made of it is shortened."""

    about: str
    ours: str
    theirs: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """How many texts and lists of ids there were, how many lists were no text to either side, how many texts both refused, and
    those that differ."""

    texts: int
    lists: int
    broken: int
    refused: int
    disputes: tuple[Dispute, ...]


def corpus(rng: random.Random, special: Sequence[str] = (), *, composed: bool = False) -> list[str]:
    """Texts of every kind. With `composed`, only those that composing characters (Unicode's NFC) leaves as they are."""
    singles = [chr(code) for code in range(1, 0x100)]
    simple = [*SCRIPTS, *EMOJI, *SPACES, *CONTROLS, *BORDERS, *MARKS, *CONTROL_TOKENS, *special]
    marks = ["e\u0301", "A\u030a\u0301", "\u1100\u1161\u11a8", "q\u0307\u0323"]
    texts = ["", "\0", *singles, *simple, *marks, "a" * 300, " " * 70, "\n" * 40, "9" * 40, "🙂" * 20]
    texts += [f"{space}word{space}{space}word{space}" for space in SPACES]
    texts += [f"a{token}b {token}" for token in (*CONTROL_TOKENS, *special)]
    pieces = [*simple, *marks, *singles]
    texts += ["".join(rng.choices(pieces, k=rng.randint(2, 9))) for _ in range(STIRRED)]
    texts += ["".join(_any_characters(rng, rng.randint(1, 30))) for _ in range(STIRRED // 2)]
    texts = list(dict.fromkeys(texts))
    return [text for text in texts if not composed or unicodedata.is_normalized("NFC", text)]


def compare_words(
    here: Engine,
    there: Engine,
    texts: Sequence[str],
    rng: random.Random,
    readable: Sequence[int],
    *,
    tidied: bool = False,
) -> Words:
    """Every text encoded by both, its ids decoded by both, and `readable` ids at random decoded by both.

    `tidied` says that the other engine takes spaces before punctuation away: where there are some, nothing is decoded.
    """
    disputes: list[Dispute] = []
    refused = 0
    for text in texts:
        ours, theirs = _encoded(here, text), _encoded(there, text)
        if ours != theirs:
            disputes.append(_dispute(text, ours, theirs))
        refused += ours is None and theirs is None
        if ours is None or (tidied and TIDIED.search(text)):
            continue
        if (shown := _decoded(here, ours)) != (other := _decoded(there, ours)):
            disputes.append(_dispute(ours, shown, other))
    lists = [rng.choices(readable, k=rng.randint(1, 12)) for _ in range(RANDOM_IDS)]
    broken = 0
    for ids in lists:
        shown, other = _decoded(here, ids), _decoded(there, ids)
        if shown is not None and other is not None and NO_TEXT in shown and NO_TEXT in other:
            broken += 1
        elif shown != other and not (tidied and shown is not None and TIDIED.search(shown)):
            disputes.append(_dispute(ids, shown, other))
    return Words(texts=len(texts), lists=len(lists), broken=broken, refused=refused, disputes=tuple(disputes))


def _encoded(engine: Engine, text: str) -> list[int] | None:
    try:
        return engine.encode(text)
    except BadInput:
        return None


def _decoded(engine: Engine, ids: list[int]) -> str | None:
    try:
        return engine.decode(ids)
    except BadInput:
        return None


def _any_characters(rng: random.Random, count: int) -> Iterator[str]:
    """Characters of the whole of Unicode, half of them of its first plane; halves of surrogate pairs are none."""
    while count:
        code = rng.randrange(0x3000) if rng.random() < 0.5 else rng.randrange(0x110000)
        if not 0xD800 <= code <= 0xDFFF:
            count -= 1
            yield chr(code)


def _dispute(about: str | list[int], ours: str | list[int] | None, theirs: str | list[int] | None) -> Dispute:
    """Both sides from a little before they part."""
    if ours is not None and theirs is not None:
        parted = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), 0)
        start = max(0, parted - 5)
        return Dispute(about=_short(about), ours=_short(ours[start:]), theirs=_short(theirs[start:]))
    return Dispute(about=_short(about), ours=_short(ours), theirs=_short(theirs))


def _short(what: object, limit: int = 60) -> str:
    said = "nothing: it is refused" if what is None else ascii(what)
    return said if len(said) <= limit else said[: limit - 2] + ".."
