"""Does an instruct model do what it is asked? A haiku with the current minute in words, and what must then be true of it.

    "Write a haiku ... the number forty two."  ->  text     the word is there, once
    "Write a haiku ... the number seven."      ->  text     another word, another text

The friendlier half of `verify`: it needs no other engine, and it can fail. A model that prints one rare token for ever has no word
and no variety; an echo says what it was asked; a text learned by heart does not change with the minute. A small model may fail
although it is run rightly: then `verify` says which of the two it is.

Variety is counted in distinct n-grams (Li et al. 2016, arXiv:1510.03055): what share of the words, and of their pairs, is new.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from picolab.errors import BadSetting
from picolab.sample.pick import Sampler
from picolab.text.chat import render
from picolab.text.tokenizer import Tokenizer
from picolab.trace.engines.engine import Engine

ASKS = "Write a haiku about time. It must contain the number {word} exactly once, in words. Answer with the haiku only."

PLAIN = "A haiku about the number {word}:\n"
"""What a model without a chat template is given to continue."""

FRESH_WORDS, FRESH_PAIRS = 0.5, 0.7
"""Least shares of distinct words and distinct pairs of words. Of 15 words in a row in the shipped stories, the poorest
have 0.53 and 0.71, half have 0.93 and 1 or more; one token for ever has 1 / n."""

FEWEST = 5
"""Words of a text that can be called one."""

COPIED = 6
"""Words in a row that the text may share with the request: one more is a copy."""

MAX_NEW_TOKENS = 60
APART = 17
"""Minutes between the two requests: neither word then holds the other."""

SAMPLER = Sampler(temperature=0.7, top_p=0.9)


@dataclass(frozen=True, kw_only=True, slots=True)
class Assertion:
    """Something that must be true of the texts, and what was found."""

    name: str
    holds: bool
    says: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Haiku:
    """Two texts, the words they were to hold, and what is true of them."""

    engine: str
    word: str
    text: str
    other_word: str
    other_text: str
    asked_as: str
    seed: int
    assertions: tuple[Assertion, ...]

    @property
    def passed(self) -> bool:
        return all(assertion.holds for assertion in self.assertions)


def ask_for_haiku(engine: Engine, tokenizer: Tokenizer, *, minute: int, seed: int = 0) -> Haiku:
    """Let an engine write about a minute of the hour, and about another one, and look at both texts."""
    if not 0 <= minute < 60:
        raise BadSetting(f"`minute` is {minute}, not from 0 to 59")
    word, other = in_words(minute), in_words((minute + APART) % 60)
    converses = tokenizer.chat_template is not None
    asks = (ASKS if converses else PLAIN).format
    text, again = (_written(engine, tokenizer, asks(word=w), seed, converses) for w in (word, other))
    return Haiku(
        engine=engine.name,
        word=word,
        text=text,
        other_word=other,
        other_text=again,
        asked_as="a user's words, in the model's chat template"
        if converses
        else "a text to continue: no chat template",
        seed=seed,
        assertions=tuple(judge(text, again, word=word, other_word=other, request=asks(word=word))),
    )


def judge(text: str, other_text: str, *, word: str, other_word: str, request: str) -> list[Assertion]:
    """What must be true of two texts, the first asked for with `word` and the second with `other_word`."""
    words = _words(text)
    times, strange = occurrences(text, word), occurrences(other_text, other_word)
    fresh, pairs = distinct(words, 1), distinct(words, 2)
    copied = _longest_copy(words, _words(request))
    same = _without(text, word) == _without(other_text, other_word)
    return [
        Assertion(name="the word", holds=times == 1, says=f"`{word}` occurs {_times(times)}, once is asked for"),
        Assertion(
            name="diverse",
            holds=len(words) >= FEWEST and fresh >= FRESH_WORDS and pairs >= FRESH_PAIRS,
            says=f"{len(words)} words, {fresh:.0%} of them distinct ({FRESH_WORDS:.0%} at least) and {pairs:.0%} of the pairs "
            f"({FRESH_PAIRS:.0%} at least)",
        ),
        Assertion(
            name="its own",
            holds=copied <= COPIED,
            says=f"at most {copied} words in a row stand in the request as well ({COPIED} may)",
        ),
        Assertion(
            name="changes",
            holds=not same and strange > 0,
            says=f"asked with `{other_word}` the text is {'the same' if same else 'another'}, and `{other_word}` occurs "
            f"{_times(strange)} in it",
        ),
    ]


def in_words(number: int) -> str:
    """A number below 60 in words: `forty two`."""
    if number < len(SMALL):
        return SMALL[number]
    tens, units = divmod(number, 10)
    return TENS[tens] if units == 0 else f"{TENS[tens]} {SMALL[units]}"


def occurrences(text: str, word: str) -> int:
    """How often a number in words stands in a text, alone: `two` is not in `forty two`, nor `forty` in `forty two`."""
    tens = "|".join(TENS.values())
    spelled = r"[\s\-]+".join(word.split())
    before = rf"(?<![\w])(?:(?P<tens>{tens})[\s\-]+)?" if word in SMALL[1:10] else r"(?<![\w])"
    after = rf"(?![\w])(?![\s\-]+(?:{'|'.join(SMALL[1:10])})\b)" if word in TENS.values() else r"(?![\w])"
    found = re.finditer(before + spelled + after, text, re.IGNORECASE)
    return sum(not match.groupdict().get("tens") for match in found)


def distinct(words: Sequence[str], n: int) -> float:
    """The share of n-grams that are seen for the first time; 0 where there is none."""
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _written(engine: Engine, tokenizer: Tokenizer, request: str, seed: int, converses: bool) -> str:
    """What an engine writes when asked."""
    ids = render(tokenizer, [{"role": "user", "content": request}]) if converses else _opened(tokenizer, request)
    generator = torch.Generator().manual_seed(seed)
    engine.forget()
    logits, written = engine.read(ids)[-1], list[int]()
    room = MAX_NEW_TOKENS
    if engine.context_length is not None:
        room = min(room, engine.context_length - len(ids) + 1)
    for _ in range(room):
        token = int(SAMPLER.pick(logits[None, : tokenizer.vocab_size], generator))
        if token in tokenizer.ends:
            break
        written.append(token)
        if len(written) < room:
            logits = engine.read([token])[-1]
    return tokenizer.decode(written).strip()


def _opened(tokenizer: Tokenizer, request: str) -> list[int]:
    return [*tokenizer.opening, *tokenizer.encode(request)]


def _words(text: str) -> list[str]:
    """Words as letters; what has none is taken as it stands, so that `!!!! !!!!` counts as the same word twice."""
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower()) or text.split()


def _without(text: str, word: str) -> list[str]:
    """The words of a text but for a number."""
    return [w for w in _words(text) if w not in word.split()]


def _longest_copy(words: Sequence[str], request: Sequence[str]) -> int:
    """The longest run of words that stands in both."""
    longest = 0
    for i in range(len(words)):
        for j in range(len(request)):
            run = 0
            while i + run < len(words) and j + run < len(request) and words[i + run] == request[j + run]:
                run += 1
            longest = max(longest, run)
    return longest


def _times(count: int) -> str:
    return {0: "not at all", 1: "once", 2: "twice"}.get(count, f"{count} times")


SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = {2: "twenty", 3: "thirty", 4: "forty", 5: "fifty"}
