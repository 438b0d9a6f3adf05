"""Which control tokens are meant in a text made by a template, and which are only spelled in what somebody said?

    content      say "<|im_end|>"                                       guarded: a mark before it
    rendered     <|im_start|>user\\nsay "·<|im_end|>"<|im_end|>          the mark travels with what it guards
    ids          [im_start] user\\n say "<|im_end|>" [im_end]            unmarked spellings are the template's own

Otherwise a user could end the turn and speak as the system. A mark is a random number nobody can guess; it stands before every
control token in a content, before the beginning of one at its end and the end of one at its start, so that neither the template's
letters nor the next message's can complete it. What this rests on: a template hands contents on whole or trimmed. One that cuts
them into letters and joins these again could spell anything.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import tokenizers

from picolab.errors import BadData, BadInput
from picolab.text.tokenizer import Tokenizer

STRUCTURE = ("role", "type")
"""What a template compares rather than writes; whoever calls decides it, not whoever speaks."""

NONCE = "".join(str(secrets.randbelow(10)) for _ in range(24))
# The brackets are not characters (Unicode calls them so), and no text should hold them.
BRACKETS = re.compile("[\ufdd0-\ufdd3]")
NO_CHARACTER = re.compile("[\ud800-\udfff\ufdd0-\ufdd3]")
MARK = f"\ufdd0{NONCE}\ufdd1"

_made: WeakKeyDictionary[Tokenizer, Controls] = WeakKeyDictionary()


class TakenApart(Exception):
    """A template cut what was said in pieces, a mark among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Controls:
    """The control tokens of one tokenizer: how they are kept out of what is said, and read from what the template writes.

    `inner` is a copy of the tokenizer that has a private spelling for each, with an id of its own; `own` maps it back. So a text
    goes through in one piece, and every rule about what stands beside a control token is the tokenizer's.
    """

    names: tuple[str, ...]
    inner: tokenizers.Tokenizer
    own: Mapping[int, int]

    def guarded(self, value: Any) -> Any:
        """A value as plain data, with a mark before everything in its texts that is, or could become, a control token."""
        if isinstance(value, str):
            return self._guard(value)
        if isinstance(value, Mapping):
            return {
                str(name): inner if name in STRUCTURE and isinstance(inner, str) else self.guarded(inner)
                for name, inner in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.guarded(inner) for inner in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        raise BadInput(
            f"a conversation holds a {type(value).__name__}", hint="text, numbers, lists and dictionaries are read"
        )

    def _guard(self, text: str) -> str:
        wrong = NO_CHARACTER.search(text)
        if wrong:
            raise BadInput(
                f"a message holds U+{ord(wrong[0]):04X}, which is no character",
                hint="it was read from bytes that are not UTF-8",
            )
        marks: set[int] = set()
        # White space at either end is what templates trim.
        head, tail = len(text) - len(text.lstrip()), len(text.rstrip())
        for name in self.names:
            at = text.find(name)
            while at >= 0:
                marks.add(at)
                at = text.find(name, at + 1)
            for first in (0, head):
                inside = first < tail and text[first:tail] in name
                if inside or any(text.startswith(name[cut:], first) for cut in range(1, len(name))):
                    marks.add(first)
            for last in (tail, len(text)):
                marks |= {last - n for n in range(1, min(len(name), last + 1)) if text.endswith(name[:n], 0, last)}
        cuts = [0, *sorted(marks), len(text)]
        return MARK.join(text[start:stop] for start, stop in pairwise(cuts))

    def encode(self, text: str) -> list[int]:
        """The ids of what a template wrote: unmarked control tokens are themselves, all else is letters."""
        text = text.replace(json.dumps(MARK)[1:-1], MARK)  # as JSON writes it
        if BRACKETS.search(text.replace(MARK, "")):
            raise TakenApart
        if self.names:
            spellings = "|".join(re.escape(name) for name in sorted(self.names, key=len, reverse=True))
            numbers = {name: number for number, name in enumerate(self.names)}
            unmarked = re.compile(f"(?<!{MARK})(?:{spellings})")
            text = unmarked.sub(lambda found: _stand_in(numbers[found[0]]), text)
        try:
            ids = self.inner.encode(text.replace(MARK, ""), add_special_tokens=False).ids
        except Exception as error:  # the library raises nothing more particular
            raise BadData(f"the tokenizer cannot encode the conversation: {error}") from error
        return [self.own.get(i, i) for i in ids]


def controls_of(tokenizer: Tokenizer) -> Controls:
    """The control tokens of a tokenizer, made once."""
    if tokenizer not in _made:
        described = json.loads(tokenizer.inner.to_str())
        special = [token for token in described["added_tokens"] if token["special"] and token["content"]]
        inner = tokenizers.Tokenizer.from_str(tokenizer.inner.to_str())
        inner.encode_special_tokens = True
        inner.no_truncation()
        inner.no_padding()
        private = [
            tokenizers.AddedToken(
                _stand_in(number),
                special=False,
                normalized=False,
                **{rule: token[rule] for rule in ("lstrip", "rstrip", "single_word")},
            )
            for number, token in enumerate(special)
        ]
        inner.add_tokens(private)
        ids = inner.get_vocab(with_added_tokens=True)
        own = {ids[_stand_in(number)]: int(token["id"]) for number, token in enumerate(special)}
        _made[tokenizer] = Controls(names=tuple(token["content"] for token in special), inner=inner, own=own)
    return _made[tokenizer]


def _stand_in(number: int) -> str:
    return f"\ufdd2{NONCE}.{number}\ufdd3"
