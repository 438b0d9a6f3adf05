"""How large is a model, and where? Every number counted once.

    total = trainable + frozen        buffers (numbers kept but never learned) are counted apart
    by_part   embedding 93.7 %   blocks.mlp 3.8 %   blocks.attention 1.9 % ..        shares of the total, together 100 %

A tensor that two modules share (a tied head) belongs to the part that names it first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One part of a model: how many numbers, and which share of the total (0 to 1)."""

    count: int
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """Counts of numbers, not of tensors; `by_part` keeps the model's own order."""

    total: int
    trainable: int
    frozen: int
    buffers: int
    by_part: Mapping[str, Part]

    def percentages(self) -> dict[str, float]:
        """The shares as percentages with one decimal that add up to exactly 100.0 (largest remainders rounded up)."""
        if not self.total:
            return {}
        floors = {name: part.count * 1000 // self.total for name, part in self.by_part.items()}
        by_remainder = sorted(self.by_part, key=lambda name: self.by_part[name].count * 1000 % self.total, reverse=True)
        for name in by_remainder[: 1000 - sum(floors.values())]:
            floors[name] += 1
        return {name: tenths / 10 for name, tenths in floors.items()}


def count_parameters(model: nn.Module) -> Parameters:
    """Count what a model holds; `requires_grad` decides between trainable and frozen."""
    trainable = frozen = 0
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():  # each shared tensor comes once
        counts[part_of(name)] = counts.get(part_of(name), 0) + parameter.numel()
        if parameter.requires_grad:
            trainable += parameter.numel()
        else:
            frozen += parameter.numel()
    total = trainable + frozen
    return Parameters(
        total=total,
        trainable=trainable,
        frozen=frozen,
        buffers=sum(buffer.numel() for buffer in model.buffers()),
        by_part={name: Part(count=count, share=count / total if total else 0.0) for name, count in counts.items()},
    )


def part_of(name: str) -> str:
    """The part a parameter belongs to: `blocks.3.mlp.up_proj.weight` is in `blocks.mlp`, `embedding.weight` in `embedding`."""
    words = [word for word in name.split(".")[:-1] if not word.isdigit()]
    return ".".join(words[:2]) or name
