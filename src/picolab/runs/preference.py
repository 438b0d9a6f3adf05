"""What did preference training change? Read from the rows of a run, so that it says what anyone can read later.

metrics.jsonl   first row with figures, last one     ->  accuracy before and after, by kind; rewards; divergence
                val/loss of the same two rows        ->  what it cost on plain text
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from picolab.runs.folder import Run

REWARDS, LIKELIHOODS, DIVERGENCE = "val/rewards/accuracies", "val/logps/accuracies", "val/kl"
ALL = "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """Held-out pairs whose worse side was made one way (`all`: every pair). Shares between 0 and 1.

    `likelier_before` and `likelier_after`: pairs whose better side is the more likely one to the model. `rewarded`: pairs whose
    better side gained more than the worse one, measured against the reference; before training nothing has, and equal counts half.
    """

    name: str
    pairs: int
    likelier_before: float
    likelier_after: float
    rewarded: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """Before the first step and after the last one that was measured. Losses in nats a token of plain text."""

    step: int
    kinds: tuple[Kind, ...]
    loss_before: float
    loss_after: float
    kl: float
    rewards: Mapping[str, float]
    samples: tuple[dict[str, Any], ...]

    @property
    def cost(self) -> float:
        """By which share the loss on plain text rose; below 0 it fell."""
        return self.loss_after / self.loss_before - 1

    @property
    def overall(self) -> Kind:
        return self.kinds[-1]


def is_preference_run(run: Run) -> bool:
    return run.settings.dpo.base is not None


def changes_of(run: Run) -> Changes | None:
    """What a run has changed so far; None before anything was measured."""
    judged = [row for row in run.metrics() if REWARDS in row]
    if not judged:
        return None
    before, after = judged[0], judged[-1]
    counted: dict[str, int] = run.meta.get("data", {}).get("held_out_kinds", {})
    names = [name for name in sorted(counted) if f"{REWARDS}/{name}" in after]
    kinds = [_kind(name, f"/{name}", counted[name], before, after) for name in names]
    whole = _kind(ALL, "", sum(counted.values()), before, after)
    samples = run.samples
    return Changes(
        step=after["step"],
        kinds=(*kinds, whole),
        loss_before=before["val/loss"],
        loss_after=after["val/loss"],
        kl=after[DIVERGENCE],
        rewards={name: after[f"val/rewards/{name}"] for name in ("chosen", "rejected", "margins")},
        samples=tuple(samples[i] for i in dict.fromkeys((0, len(samples) - 1))) if samples else (),
    )


def _kind(name: str, suffix: str, pairs: int, before: Mapping[str, float], after: Mapping[str, float]) -> Kind:
    return Kind(
        name=name,
        pairs=pairs,
        likelier_before=before[LIKELIHOODS + suffix],
        likelier_after=after[LIKELIHOODS + suffix],
        rewarded=after[REWARDS + suffix],
    )
