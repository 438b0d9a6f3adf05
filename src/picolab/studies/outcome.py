"""What came of one trial: the course of its run and its last figures, or the reason why there are none."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter

from picolab.studies.study import Value

Status = Literal["finished", "pruned", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A trial that is over. `course` has columns of equal length, one entry an evaluation: `step`, `tokens`, `loss`, what
    judges gave. `data` says of its data: `vocab_size`, `floor` (nats a token, None where unknown), `held_out`."""

    name: str
    number: int
    point: Mapping[str, Value]
    seed: int
    run: str
    status: Status
    reason: str | None
    figures: Mapping[str, float]
    course: Mapping[str, tuple[float | None, ...]]
    device: str
    started: str
    seconds: float
    process: int
    data: Mapping[str, Any] = field(default_factory=dict)


@functools.cache
def typed() -> TypeAdapter[Outcome]:
    """Outcomes to and from JSON; making the rules takes longer than following them a hundred times."""
    return TypeAdapter(Outcome)
