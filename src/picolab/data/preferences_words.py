"""What is a preference pair before it is tokens, and how long may it be?

Pair(prompt, chosen, rejected, kind, ended)        Limits(prompt_tokens, response_tokens, pairs, held_out)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from picolab.errors import BadSetting

WORD = re.compile(r"\s*\S+")
USUAL = 64
"""Tokens of a prompt, and of a response, where nobody says."""

ENDS = re.compile(r"[.!?][\"'”’)]*$")


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and two responses that continue it, white space included.

    `ended` says that the better text ends there: both responses then close with end-of-text, so that closing is no sign of the
    better one. `source` names the pair in an error.
    """

    prompt: str
    chosen: str
    rejected: str
    kind: str
    ended: bool
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How many pairs are made and how many tokens their sides have at most; None: what suits the model, `USUAL` at most."""

    prompt_tokens: int | None = None
    response_tokens: int | None = None
    pairs: int = 3200
    held_out: int = 400

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "response_tokens", "pairs", "held_out"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadSetting(f"`{name}` is {value}", hint="at least 1")

    def within(self, context_length: int) -> Room:
        """Tokens of prompt and response that fit a model together; refused where a response asked for leaves no prompt."""
        # One token opens a text and one ends it, and the last is only predicted.
        room = context_length - 1
        response = min(USUAL, room // 2) if self.response_tokens is None else self.response_tokens
        if not 1 <= response < room:
            raise BadSetting(
                f"`response_tokens` {response} and a prompt are more than the model's context of {context_length}",
                hint=f"at most {max(1, room // 2)} leave room for a prompt",
            )
        prompt = min(self.prompt_tokens or USUAL, room - response)
        return Room(prompt, response)


class Room(NamedTuple):
    """Tokens that a prompt and a response may have."""

    prompt: int
    response: int


def words_of(text: str) -> list[str]:
    """The words of a text, each with the white space before it: joined they are the text."""
    return WORD.findall(text)
