"""What a benchmark found: a row for every model and work, and what may be said about two rows.

Models take turns, so each round has a figure of every model under the same weather. Two models are told apart only where one was
faster in every round: with 7 rounds chance does that to two equal ones once in 64. `picolab bench --json` is a `Bench`:

    {"format": "picolab-bench/1", "asked": {models, what, batch_size, length, seconds, rounds, ...}, "machine": {...},
     "limits": {"dtype", "products" FLOP/s, "copy" bytes/s read and written, "read" bytes/s}, "interrupted": false,
     "rows": [{"model", "source", "what", "parameters", "vocab_size", "rounds", "tokens_per_second", "low", "high" (over rounds),
               "step_tokens", "step_seconds", "stages" {name: seconds of a step, together step_seconds}, "ratio" (to the first),
               "ratio_low", "ratio_high", "told_apart" (from the first), "same_as" [models], "peak_bytes", "flops_per_token",
               "share_of_products", "bytes_per_token", "share_of_read" (decode), "share_of_copy" (the optimizer), "notes" [..]}],
     "skipped": [{"model", "what", "says"}]}

Figures that do not apply are null.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from picolab.compare.bench_work import What, Work
from picolab.measure.limits import Limits
from picolab.measure.parameters import count_parameters

FORMAT = "picolab-bench/1"

ENOUGH_ROUNDS = 5
"""Fewer rounds tell nothing apart: two equal models agree in four by chance once in eight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One model at one work; medians over rounds, `stages` those of the round in the middle."""

    model: str
    source: str
    what: What
    parameters: int
    vocab_size: int
    rounds: int
    tokens_per_second: float
    low: float
    high: float
    step_tokens: int
    step_seconds: float
    stages: Mapping[str, float]
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    told_apart: bool | None
    same_as: tuple[str, ...]
    peak_bytes: int
    flops_per_token: float | None
    share_of_products: float | None
    bytes_per_token: float | None
    share_of_read: float | None
    share_of_copy: float | None
    notes: tuple[str, ...]

    @property
    def spread(self) -> float:
        """How far the rounds lie apart, as a share of the median."""
        return (self.high - self.low) / self.tokens_per_second


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A model that has no such work, and why."""

    model: str
    what: What
    says: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """Everything that was measured; `interrupted`: by Ctrl-C, and rows hold the rounds there were."""

    asked: Mapping[str, Any]
    machine: Mapping[str, Any]
    limits: Limits | None
    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]
    interrupted: bool
    format: str = FORMAT


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What does not change while a work is measured; FLOPs and bytes are of one unit."""

    parameters: int
    vocab_size: int
    tokens: int
    steps: int
    stages: tuple[str, ...]
    flops: float | None
    bytes_moved: float | None
    notes: tuple[str, ...]

    @classmethod
    def of(cls, work: Work) -> Facts:
        return cls(
            parameters=count_parameters(work.model).total,
            vocab_size=work.model.config.vocab_size,
            tokens=work.tokens,
            steps=work.steps,
            stages=work.stages,
            flops=work.flops,
            bytes_moved=work.bytes_moved,
            notes=work.notes,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One model at one work; a round is the seconds of one unit, by stage."""

    name: str
    source: str
    what: What
    facts: Facts
    peak_bytes: int
    rounds: list[Mapping[str, float]] = field(default_factory=list)

    @property
    def speeds(self) -> list[float]:
        """Tokens a second of every round."""
        return [self.facts.tokens / sum(stages.values()) for stages in self.rounds]


def rows_of(measured: Sequence[Measured], limits: Limits) -> tuple[Row, ...]:
    """The rows of one work, those that have a round; the first model is the reference."""
    some = [one for one in measured if one.rounds]
    return tuple(_row(one, some, limits) for one in some)


def told_apart(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether one was faster in every round that both have, and there were enough."""
    signs = [(a > b) - (a < b) for a, b in zip(one, other, strict=False)]
    return len(signs) >= ENOUGH_ROUNDS and abs(sum(signs)) == len(signs)


def _row(one: Measured, all_: Sequence[Measured], limits: Limits) -> Row:
    facts, speeds, first = one.facts, one.speeds, all_[0]
    middle = sorted(one.rounds, key=lambda stages: sum(stages.values()))[(len(speeds) - 1) // 2]
    seconds = sum(middle.values())
    ratios = [mine / theirs for mine, theirs in zip(speeds, first.speeds, strict=False)] if one is not first else []
    flops, moved = facts.flops, facts.bytes_moved
    decoding, training = one.what == "decode", one.what == "train"
    return Row(
        model=one.name,
        source=one.source,
        what=one.what,
        parameters=facts.parameters,
        vocab_size=facts.vocab_size,
        rounds=len(speeds),
        tokens_per_second=facts.tokens / seconds,
        low=min(speeds),
        high=max(speeds),
        step_tokens=facts.tokens // facts.steps,
        step_seconds=seconds / facts.steps,
        stages={stage: middle[stage] / facts.steps for stage in facts.stages},
        ratio=statistics.median(ratios) if ratios else None,
        ratio_low=min(ratios, default=None),
        ratio_high=max(ratios, default=None),
        told_apart=told_apart(speeds, first.speeds) if ratios else None,
        same_as=tuple(other.name for other in all_ if other is not one and not told_apart(speeds, other.speeds)),
        peak_bytes=one.peak_bytes,
        flops_per_token=None if flops is None else flops / facts.tokens,
        share_of_products=None if flops is None else flops / seconds / limits.products,
        bytes_per_token=moved / facts.tokens if decoding and moved is not None else None,
        share_of_read=moved / seconds / limits.read if decoding and moved is not None else None,
        share_of_copy=moved / middle["optimizer"] / limits.copy if training and moved is not None else None,
        notes=facts.notes,
    )
