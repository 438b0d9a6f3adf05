"""A comparison as data, in memory and on disk.

    OUT/comparison.json   Setup, rows (one a model; each seed in it), ranking in words     `Comparison`, without details
        details.json      curves, attention maps, positions of integer sequences: what the report draws
        comparison.csv    the table, one line a model
        plots/            loss.png loss.svg ..
        runs/MODEL_seed-K one ordinary run each
        report.html

All losses are nats a token on the held-out split, lower is better; memory is bytes, speed tokens a second. A figure that does
not exist is null, never 0 or NaN. `Comparison.schema()` is the JSON schema of comparison.json.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError

from picolab.compare.bands import Band
from picolab.compare.curves import Curve, Track, over_seeds
from picolab.compare.lengths import LengthCost
from picolab.compare.sequences import FamilyRow, Sequences
from picolab.errors import BadCheckpoint
from picolab.runs import atomic

FORMAT = "picolab-comparison/1"
SUMMARY, DETAILS, TABLE = "comparison.json", "details.json", "comparison.csv"
_DETAILS = ("curves", "attention", "sequences")


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What all models had in common; losses of two comparisons can be set side by side only where this agrees."""

    data: str
    tokenizer: str
    vocab_size: int
    context_length: int
    batch_size: int
    tokens: int
    seeds: tuple[int, ...]
    scored_split: str
    scored_tokens: int
    scored_bytes: int | None
    held_out: bool
    uniform: float
    floor: float | None
    prompt: str
    overrides: Mapping[str, str]
    device: str
    machine: str
    created: str
    picolab: str
    arms: Mapping[str, str] = field(default_factory=dict)
    """What those models are that are no presets: a preset and what it changes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Numbers in a model: total = trainable + frozen; buffers apart; shares of the total in percent, together 100."""

    total: int
    trainable: int
    frozen: int
    buffers: int
    percentages: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A continuation of the common prompt; `sampler` is `greedy`, `p=0.95` or `p=1`."""

    sampler: str
    seed: int
    prompt: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedRun:
    """One run: its folder (relative to the comparison's), and its figures or the reason why there are none."""

    seed: int
    run: str
    status: Literal["finished", "failed"]
    reason: str | None = None
    loss: float | None = None
    bits_per_byte: float | None = None
    tokens: int | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    peak_memory: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One model over its seeds. `excess` is the loss above the floor; `baseline` marks the n-gram that every table has."""

    model: str
    family: str
    says: str
    baseline: bool
    runs: tuple[SeedRun, ...]
    loss: Band | None
    bits_per_byte: Band | None
    excess: Band | None
    tokens_per_second: Band | None
    peak_memory: int | None
    size: Size | None
    samples: tuple[Sample, ...]

    @property
    def failures(self) -> tuple[SeedRun, ...]:
        """The seeds that did not finish."""
        return tuple(run for run in self.runs if run.status == "failed")

    @property
    def reasons(self) -> dict[str, tuple[int, ...]]:
        """Why seeds did not finish: each reason and the seeds it stopped."""
        reasons: dict[str, tuple[int, ...]] = {}
        for run in self.failures:
            why = run.reason or "no reason was recorded"
            reasons[why] = (*reasons.get(why, ()), run.seed)
        return reasons

    @property
    def losses(self) -> dict[int, float]:
        """The final loss of every finished seed."""
        return {run.seed: run.loss for run in self.runs if run.loss is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Attention:
    """Where a model looks in one text: `weights[layer][head]` is a lower triangle, row after row, in thousandths."""

    model: str
    seed: int
    tokens: tuple[str, ...]
    weights: tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """What longer texts cost one model; the growths are exponents of the length, `memory_growth` 0 where nothing grows."""

    model: str
    costs: tuple[LengthCost, ...]
    time_growth: float | None
    memory_growth: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The whole result. Rows are sorted by mean loss, best first, failed models last; `families` and `lengths` are for integer
    sequences."""

    format: str = FORMAT
    complete: bool
    setup: Setup
    rows: tuple[Row, ...]
    ranking: tuple[str, ...]
    families: tuple[FamilyRow, ...] = ()
    lengths: tuple[Lengths, ...] = ()
    curves: tuple[Curve, ...] = field(default=(), repr=False)
    attention: tuple[Attention, ...] = field(default=(), repr=False)
    sequences: tuple[Sequences, ...] = field(default=(), repr=False)

    @property
    def baseline(self) -> Row | None:
        """The n-gram row, where it finished."""
        return next((row for row in self.rows if row.baseline and row.loss is not None), None)

    def summary(self) -> dict[str, Any]:
        """The content of comparison.json: everything but curves, attention maps and positions."""
        return _summary(_adapter().dump_python(self, mode="json"))

    def table(self) -> str:
        """The rows as CSV, one line a model."""
        return _table(self)

    def save(self, folder: Path) -> None:
        """Write comparison.json, details.json and comparison.csv, each whole or not at all."""
        with atomic.reported(folder):
            folder.mkdir(parents=True, exist_ok=True)
        everything = _adapter().dump_python(self, mode="json")
        atomic.write_text(
            folder / DETAILS, json.dumps({k: everything[k] for k in _DETAILS}, separators=(",", ":")) + "\n"
        )
        atomic.write_text(folder / TABLE, self.table())
        # Last: whoever finds comparison.json finds the rest as well.
        atomic.write_text(folder / SUMMARY, json.dumps(_summary(everything), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The comparison saved in a folder."""
        try:
            summary, details = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (SUMMARY, DETAILS))
            found = summary.get("format") if isinstance(summary, dict) else None
            if found != FORMAT:
                raise BadCheckpoint(
                    f"`{folder / SUMMARY}` has format `{found}`, not `{FORMAT}`",
                    hint="run `picolab compare` again with this version",
                )
            loaded: Self = _adapter().validate_python({**summary, **details})
        except FileNotFoundError as error:
            raise BadCheckpoint(
                f"`{folder}` has no {Path(error.filename).name}", hint="a folder made by `picolab compare` is meant"
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError, ValidationError, TypeError) as error:
            first = str(error).splitlines()[0]
            raise BadCheckpoint(f"the comparison in `{folder}` cannot be read: {first}") from error
        return loaded

    @staticmethod
    def schema() -> dict[str, Any]:
        """The JSON schema of comparison.json."""
        schema = _adapter().json_schema()
        schema["properties"] = {k: v for k, v in schema["properties"].items() if k not in _DETAILS}
        return schema


def _summary(everything: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in everything.items() if name not in _DETAILS}


def tracks_of(comparison: Comparison, kind: Literal["train", "validation"]) -> dict[str, Track]:
    """Mean and band of every model but the baseline.

    A run that broke off would cut the others short: it counts only where no seed of its model finished.
    """
    tracks = {}
    for row in comparison.rows:
        mine = [curve for curve in comparison.curves if curve.model == row.model]
        finished = [curve for curve in mine if curve.seed in row.losses] or mine
        track = over_seeds([curve.train if kind == "train" else curve.validation for curve in finished])
        if len(track) and not row.baseline:
            tracks[row.model] = track
    return tracks


@functools.cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(Comparison)


COLUMNS = (
    "model", "family", "baseline", "seeds_finished", "seeds_failed",
    "loss_mean", "loss_low", "loss_high", "loss_standard_error", "bits_per_byte_mean", "excess_mean",
    "tokens_per_second_mean", "peak_memory_bytes",
    "parameters_total", "parameters_trainable", "parameters_frozen", "buffers", "reason",
)  # fmt: skip


def _table(comparison: Comparison) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in comparison.rows:
        size = dataclasses.asdict(row.size) if row.size else {}
        loss = dataclasses.asdict(row.loss) if row.loss else {}
        writer.writerow(
            {
                "model": row.model,
                "family": row.family,
                "baseline": str(row.baseline).lower(),
                "seeds_finished": len(row.losses),
                "seeds_failed": len(row.failures),
                **{f"loss_{name}": loss.get(name) for name in ("mean", "low", "high", "standard_error")},
                "bits_per_byte_mean": row.bits_per_byte and row.bits_per_byte.mean,
                "excess_mean": row.excess and row.excess.mean,
                "tokens_per_second_mean": row.tokens_per_second and row.tokens_per_second.mean,
                "peak_memory_bytes": row.peak_memory,
                **{f"parameters_{name}": size.get(name) for name in ("total", "trainable", "frozen")},
                "buffers": size.get("buffers"),
                "reason": "; ".join(f"seeds {' '.join(map(str, seeds))}: {why}" for why, seeds in row.reasons.items()),
            }
        )
    return out.getvalue()
