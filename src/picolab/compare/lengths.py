"""What does a longer text cost a model? Seconds to read it, bytes to remember it, and how they grow.

    reads n tokens at once, n = 512 .. 4096      seconds, median of three passes
    has read n tokens                            bytes of its cache: what generation carries from token to token
    growth                                       slope of log(cost) over log(n): 1 in proportion, 2 as the square, 0 not at all

Measured on a twin with random weights and a context that long: how long a pass takes does not depend on what was learned.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from picolab.models.contract import LanguageModel
from picolab.zoo import build, settings_of

LENGTHS = (512, 1024, 2048, 4096)
REPEATS = 3
PATIENCE = 3.0
"""Seconds of one pass after which no longer text is tried."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LengthCost:
    """What a text of `length` tokens takes."""

    length: int
    seconds: float
    memory: int


def costs_by_length(model: LanguageModel, lengths: Sequence[int] = LENGTHS) -> tuple[LengthCost, ...]:
    """The costs of reading texts of these lengths, shortest first; none for a model that counts."""
    if hasattr(model, "estimate"):
        return ()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        twin = build(model.architecture, {**settings_of(model), "context_length": max(lengths)})
    twin = twin.to(model.device).eval()
    tokens = torch.zeros(1, max(lengths), dtype=torch.int64, device=model.device)
    found: list[LengthCost] = []
    for length in lengths:
        seconds = [_seconds(twin, tokens[:, :length]) for _ in range(REPEATS + 1)][1:]  # the first one warms up
        found.append(LengthCost(length=length, seconds=statistics.median(seconds), memory=_memory(twin, length)))
        if found[-1].seconds > PATIENCE:
            break
    return tuple(found)


def growth(lengths: Sequence[int], costs: Sequence[float]) -> float | None:
    """The exponent of the power of the length that fits these costs best; None where there are too few, or nothing is used."""
    if len(costs) < 2 or min(costs) <= 0:
        return None
    return float(np.polyfit(np.log(lengths), np.log(costs), 1)[0])


@torch.inference_mode()
def _seconds(model: LanguageModel, tokens: Tensor) -> float:
    start = time.perf_counter()
    model.features(tokens)
    if tokens.device.type == "cuda":
        torch.cuda.synchronize(tokens.device)
    return time.perf_counter() - start


@torch.inference_mode()
def _memory(model: LanguageModel, length: int) -> int:
    """Bytes of a cache that has room for so many tokens."""
    cache = vars(model.new_cache(1, length))
    return sum(_bytes(value) for value in cache.values())


def _bytes(value: object) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0
