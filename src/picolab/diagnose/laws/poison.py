"""Memory that was not written yet must not be read: `poison` (I22).

    a new cache    |.. .. .. .. ..|   filled with large numbers before anything is written
    after a read   |k0 k1 k2 .. ..|   and again behind what was written

The slots are found by asking for a larger cache: the axis that grows is theirs. Most caches start with zeros, which hide it; a
second text in a cache that is used again does not find zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.laws.law import Finding, Law, Patient, gap

ALLOWED = 2e-4

POISONS = {"large numbers": 3e3, "NaN": float("nan")}

Place = tuple[Tensor, int]
"""A tensor of a cache, and its axis of slots."""


class Poison(Law):
    name = "poison"
    id = "I22"
    says = "what lies in slots of the cache that were not written yet does not matter"
    hint = "a slot read before it is written, a length that is one too long, a mask that ends too late"
    order = 21
    compares = True

    def check(self, patient: Patient) -> Finding:
        if patient.new_memory is None or patient.read is None:
            return self.skips("the model offers no `new_cache` and no `cache=`")
        tokens = patient.random(1, 12, salt=81)
        time = tokens.shape[1]
        capacity = time + 4 if patient.context_length is None else min(time + 4, patient.context_length)
        if not _slots(patient, capacity):
            return self.skips("its cache has no slots set aside: it grows, or is a state")
        wanted = _read(patient, tokens, capacity, None)
        gaps = {name: gap(wanted, _read(patient, tokens, capacity, value)) for name, value in POISONS.items()}
        if not gaps["large numbers"] <= ALLOWED:
            return self.fails(
                f"large numbers in unused slots of the cache move the logits by {gaps['large numbers']:.2g} of the largest",
                gaps=gaps,
            )
        if not gaps["NaN"] <= ALLOWED:
            return self.passes(
                "unused slots of the cache do not matter; they are multiplied by zero, so a NaN there would spread"
            )
        return self.passes("unused slots of the cache may hold anything, NaN too", gaps=gaps)


@torch.no_grad()
def _read(patient: Patient, tokens: Tensor, capacity: int, poison: float | None) -> Tensor:
    """Logits of a text read in four pieces, with poison in every slot that nothing was written to."""
    assert patient.read is not None and patient.new_memory is not None
    memory = patient.new_memory(1, capacity)
    pieces, done = [], 0
    for size in (tokens.shape[1] - 3, 1, 1, 1) if tokens.shape[1] > 3 else (1,) * tokens.shape[1]:
        if poison is not None:
            _fill(memory, _slots(patient, capacity), done, poison)
        pieces.append(patient.read(tokens[:, done : done + size], memory).detach().float().cpu())
        done += size
    return torch.cat(pieces, dim=1)


def _slots(patient: Patient, capacity: int) -> dict[tuple[str, ...], int]:
    """Where a cache keeps one entry a position: the way to each tensor, and its axis."""
    assert patient.new_memory is not None
    small, large = (dict(_tensors(patient.new_memory(1, capacity - less))) for less in (1, 0))
    found = {}
    for way, tensor in large.items():
        other = small.get(way)
        if other is None or other.ndim != tensor.ndim or not tensor.is_floating_point():
            continue
        axes = [a for a in range(tensor.ndim) if other.shape[a] == capacity - 1 and tensor.shape[a] == capacity]
        if len(axes) == 1:
            found[way] = axes[0]
    return found


def _fill(memory: Any, slots: Mapping[tuple[str, ...], int], written: int, poison: float) -> None:
    for way, tensor in _tensors(memory):
        axis = slots.get(way)
        if axis is not None and tensor.shape[axis] > written:
            tensor.narrow(axis, written, tensor.shape[axis] - written).fill_(poison)


def _tensors(value: Any, way: tuple[str, ...] = (), depth: int = 0) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Every tensor in a cache, whatever it is made of."""
    if isinstance(value, Tensor):
        yield way, value
    elif depth < 4 and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, (*way, str(key)), depth + 1)
    elif depth < 4 and isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _tensors(item, (*way, str(number)), depth + 1)
    elif depth < 4 and hasattr(value, "__dict__"):
        for key, item in vars(value).items():
            yield from _tensors(item, (*way, key), depth + 1)
