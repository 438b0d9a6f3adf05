"""What does a benchmark read? Random tokens, in rows that are one document each: every token looks at all before it.

    ids   0 a b c | 0 d e f | ..  -> packed, shuffled and cut into batches as any corpus      training
          a b c d                 -> prompts                                                  reading, writing

A real corpus packs several documents into a row and so asks for less attention; its frequent tokens lie nearer in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from picolab.data.loader import Loader
from picolab.data.store import TokenStore
from picolab.models.contract import LanguageModel

ROWS = 64
"""Rows of random text at least; then they come again in another order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """How much at once, in which type, where."""

    batch_size: int
    length: int
    dtype: str
    device: torch.device
    compiled: bool
    seed: int


def loader_of(model: LanguageModel, shape: Shape) -> Loader:
    """Rows of random tokens; the first of every row is the end-of-text token, here 0."""
    rows = max(ROWS, shape.batch_size)
    ids = _random(model, shape, (rows, shape.length))
    ids[:, 0] = 0
    store = TokenStore(
        name="random tokens",
        ids=np.append(ids.ravel(), 0).astype(np.uint32),
        offsets=np.arange(rows + 1, dtype=np.int64) * shape.length,
        bytes=np.full(rows, shape.length - 1, np.int64),
        fill=0,
    )
    return Loader(store, batch_size=shape.batch_size, context_length=shape.length, seed=shape.seed)


def prompts_of(model: LanguageModel, shape: Shape, length: int) -> list[list[int]]:
    rows: list[list[int]] = _random(model, shape, (shape.batch_size, length)).tolist()
    return rows


def _random(model: LanguageModel, shape: Shape, size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng(shape.seed).integers(model.config.vocab_size, size=size)
