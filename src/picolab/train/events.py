"""What does a training tell while it runs? Facts, as they happen; who listens decides what to show.

Reading* -> Counting* -> Started -> (Step | Evaluated | Sampled | Saved)* -> Stopped
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Reason = Literal["finished", "early stop", "interrupted", "diverged", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What the run will take, from a few steps measured just before it: wall-clock seconds and bytes.

    `seconds_low` and `seconds_high` span the steps measured; `memory_bytes` is the peak, on the GPU where one is used.
    """

    measured_steps: int
    step_seconds: float
    seconds: float
    seconds_low: float
    seconds_high: float
    memory_bytes: int
    checkpoint_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """Before the first run on a corpus its text becomes tokens: bytes done."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Counting:
    """Before a model that is computed from counts can start, its training text is counted: tokens done, of every table."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """Everything is ready and the next step is `step` + 1; `resumed` if earlier ones lie in the folder."""

    run: Path
    preset: str
    parameters: int
    trainable: int
    vocab_size: int
    device: str
    processes: int
    dtype: str
    dtype_reason: str
    step: int
    steps: int
    tokens_planned: int
    resumed: bool
    estimate: Estimate | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One optimizer step. `loss` in nats a token; `tokens` scored so far; rate and ETA from the latest steps.

    `figures` are what else the objective counts; then `loss` is in its unit.
    """

    step: int
    steps: int
    tokens: int
    loss: float
    lr: float
    grad_norm: float
    seconds: float
    tokens_per_second: float
    eta_seconds: float
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """The validation loss, in nats a token and in bits a byte of text (None where bytes are unknown), and what else was judged."""

    step: int
    loss: float
    bits_per_byte: float | None
    best: bool
    without_improvement: int
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """What the model writes at this point."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """A checkpoint is on disk, whole."""

    step: int
    path: Path
    best: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped:
    """The run is over, or paused: `says` is a sentence, `go_on` the command that continues it (None: nothing is left to do)."""

    reason: Reason
    step: int
    seconds: float
    says: str
    go_on: str | None


Event = Reading | Counting | Started | Step | Evaluated | Sampled | Saved | Stopped
