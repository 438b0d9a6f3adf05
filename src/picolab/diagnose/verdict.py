"""What is said in the end: whether two engines compute the same function, and of every fault where it is born and why.

equal         not a bit apart, or apart only inside           noise         apart by what rounding explains
diverged      apart by more: `born` says where and why        incomparable  they did not read the same tokens
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from picolab.diagnose.exhibit import Exhibit

UNKNOWN = "unknown"

SEVERAL = "Any one of the certain causes gives the same numbers at all places shown; more arrays would tell which"
"""What is said where several are certain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """One explanation of a fault. `explained` is the share of the squared error that vanishes when the reference makes the same
    mistake, `residual` the worst error that is then left; it is `certain` where that is only rounding, and a lead otherwise."""

    cause: str
    says: str
    explained: float
    residual: float
    certain: bool
    evidence: Mapping[str, Any] = field(default_factory=dict)
    look_for: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Born:
    """One fault: the first place where it shows, the lines among which it sits (by the places they make), and its explanations.

    `inherited` is the error that place had from before, `added` what its own lines added, both relative. `also` are the other
    places where the same fault adds error.
    """

    site: str
    lines: tuple[str, ...]
    phase: str
    step: int
    inherited: float
    added: float
    explanations: tuple[Told, ...]
    also: tuple[str, ...] = ()

    @property
    def cause(self) -> str:
        """The first cause's name, if it is certain."""
        return self.explanations[0].cause if self.explanations and self.explanations[0].certain else UNKNOWN

    @property
    def causes(self) -> tuple[str, ...]:
        """Every cause that is certain, each once: where there are several, they give the same numbers at all places shown."""
        return tuple(dict.fromkeys(told.cause for told in self.explanations if told.certain))


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """How an array of the target was paired: by the site's own name, by a table of an engine's names, by content, or not at all.

    `how` says what was done to it, or why it stayed unpaired; `site` is then None.
    """

    name: str
    site: str | None
    matcher: str
    how: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The outcome of a comparison. Errors are relative to the usual size of a position's values at their place.

    `before` is how far the logits are apart, `remaining` how far when the reference makes every mistake that was found, and
    `noise_floor` how far two correct engines may be. `exhibit` is what a report shows besides, where one was asked for.
    """

    verdict: Literal["equal", "noise", "diverged", "incomparable"]
    says: str
    noise_floor: float
    before: float
    remaining: float
    first_divergence: str | None = None
    born: tuple[Born, ...] = ()
    notes: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    curve: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    seconds: float = 0.0
    exhibit: Exhibit | None = None
