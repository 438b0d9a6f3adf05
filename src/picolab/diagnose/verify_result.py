"""What is asked of a verification, and what does it answer? Checks, each with its worst place, and where to look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from picolab.diagnose.verify_read import Place
from picolab.errors import BadSetting

Status = Literal["pass", "fail", "skip"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """How much is compared. `tolerance` is how far logits may be apart at any position, relative to the reference's largest."""

    tolerance: float
    seed: int
    prompts: int = 6
    longest: int = 512
    greedy: int = 200

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < math.inf:
            raise BadSetting(f"`tolerance` is {self.tolerance}, not a number from 0 up")
        for name, least in (("prompts", 1), ("longest", 1), ("greedy", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise BadSetting(f"`{name}` is {getattr(self, name)}, not a whole number from {least} up")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asides:
    """What is known about the tokenizers: the tokens that have a text (all, if none is named), letters of control tokens to
    try, why none is compared (if none is), whether only texts are tried that composing characters leaves as they are, and whether
    nothing is decoded that has a space before punctuation."""

    readable: Sequence[int] = ()
    special: tuple[str, ...] = ()
    no_words: str | None = None
    composed: bool = False
    tidied: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One comparison. `worst` is the largest distance, and `where` it was; both are None where nothing was measured."""

    name: str
    compared: str
    status: Status
    worst: float | None = None
    where: Place | None = None
    tolerance: float | None = None
    says: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """Everything that was compared, what was not, and the verdict; the same `seed` draws the same texts."""

    here: str
    there: str
    verdict: Literal["equal", "different"]
    says: str
    seed: int
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    seconds: float

    def check(self, name: str) -> Check:
        return next(check for check in self.checks if check.name == name)


def summary(here: str, there: str, checks: Sequence[Check]) -> str:
    """The verdict in a sentence, with the place to look first."""
    status = {check.name: check.status for check in checks}
    failed = [name for name, how in status.items() if how == "fail"]
    if not failed:
        worst = max((check.worst or 0.0 for check in checks), default=0.0)
        allowed = next(check.tolerance for check in checks if check.tolerance is not None)
        return f"{here} and {there} compute the same function: {worst:.1e} apart at most, {allowed:.1e} is allowed"
    look = next((says for names, says in LOOK if names <= set(failed)), "")
    return f"{here} and {there} differ: {look}"


LOOK: tuple[tuple[set[str], str], ...] = (
    ({"vocabulary"}, "they have not the same vocabulary, so it is not the same model"),
    ({"prefill"}, "another function of the tokens already where they are read at once, without a cache"),
    ({"decode"}, "texts read at once are right, and read one by one they are not: look at the cache and at positions"),
    (
        {"chunks"},
        "tokens read one by one are right, and several at a time on top of others are not: look at mask and positions",
    ),
    ({"second text"}, "the first text is read right, and one after it is not: something is left in the cache"),
    ({"greedy"}, "the random texts are read right, and the greedy one is not"),
    ({"tokenizer"}, "the same function of the tokens, but texts become other tokens"),
)
"""Checks that fail, and where that points; the first that applies."""
