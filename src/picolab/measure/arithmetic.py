"""How much arithmetic does a token ask for, and how many bytes must be read for it? Counted from the model, nothing is run.

    a matrix               2 FLOP a number and token            n numbers, n multiplications, n additions
    a look at one key      4 FLOP a lane                        q . k, and the sum of values
    a state (linear)       4 FLOP a number                      written once, read once
    training               three times that                     each product comes back as two; as one where a matrix is frozen

    one step of writing    every matrix once, for all rows together; keys and values of each row

Products alone are counted, as is usual (Kaplan et al. 2020, arXiv:2001.08361; Chowdhery et al. 2022, arXiv:2204.02311). But a token
looks at the keys before it and inside its window: half of a square, not all of it. Tables in which a row is looked up cost nothing.
What an implementation computes beyond that is no work done, and lowers its share of a limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from picolab.models.contract import LanguageModel
from picolab.models.kgram import OneHotInput
from picolab.models.linear import LinearAttention
from picolab.parts.cache import KeyValueCache
from picolab.parts.embedding import Embedding
from picolab.parts.head import Head
from picolab.parts.linear_state import LinearState
from picolab.parts.quantised import Quantised
from picolab.weights.plan import bytes_in

LOOKED_UP = (nn.Embedding, Embedding, OneHotInput)
"""Modules whose matrices are tables."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One layer of softmax attention: lanes of all query heads, and how many keys back they see (None: all)."""

    lanes: int
    window: int | None = None

    def pairs(self, time: int, past: int = 0) -> int:
        """Query and key pairs of `time` tokens after `past`."""
        return sum(self.seen(past + t) for t in range(1, time + 1))

    def seen(self, past: int) -> int:
        """Keys that the last of `past` tokens looks at."""
        return past if self.window is None else min(past, self.window)


@dataclass(frozen=True, kw_only=True, slots=True)
class Arithmetic:
    """Numbers of matrices that are learned, frozen, and in the head; layers that look; numbers of linear attention's states."""

    learned: int
    frozen: int
    head: int
    looks: tuple[Look, ...]
    states: int

    @property
    def multiplies(self) -> bool:
        """Whether there is anything to count; a model that counts tokens multiplies nothing."""
        return self.learned + self.frozen + self.head > 0

    def forward(self, time: int, *, past: int = 0, scored: int | None = None) -> int:
        """FLOPs of `time` tokens of one row after `past` others, with logits for `scored` of them (None: for all)."""
        products = (self.learned + self.frozen) * time + self.head * (time if scored is None else scored)
        looked = sum(look.lanes * look.pairs(time, past) for look in self.looks)
        return 2 * products + 4 * looked + 4 * self.states * time

    def training(self, time: int) -> int:
        """FLOPs of learning from a row of `time` tokens, all of one document."""
        return 3 * self.forward(time) - 2 * self.frozen * time


def arithmetic_of(model: LanguageModel) -> Arithmetic:
    """What a model multiplies with."""
    counts = {"learned": 0, "frozen": 0, "head": 0}
    for module, parameter in _weights(model):
        if parameter.ndim > 1:
            kind = "head" if isinstance(module, Head) else "learned" if parameter.requires_grad else "frozen"
            counts[kind] += parameter.numel()
    looks, states = [], 0
    for name, module in model.named_modules():
        if isinstance(module, LinearAttention):
            head_dim = module.out_proj.in_features // module.n_heads
            states += module.n_heads * head_dim * (head_dim + 1)
        elif name.endswith(".attention"):
            window = cast("int | None", getattr(module, "window", None))
            looks.append(Look(lanes=cast(nn.Linear, module.out_proj).in_features, window=window))
    return Arithmetic(looks=tuple(looks), states=states, **counts)


def weight_bytes(model: LanguageModel) -> int:
    """Bytes of all weights that one pass reads, tables left out."""
    return sum(_bytes_of(parameter) for _, parameter in _weights(model))


def cache_bytes(model: LanguageModel, past: int) -> int:
    """Bytes of what is remembered of one row that the last of `past` tokens reads: keys and values it looks at, or a state."""
    cache = model.new_cache(1, 1)
    if isinstance(cache, KeyValueCache):
        layer = bytes_in(cache.memory) // len(cache.memory)
        return sum(layer * look.seen(past) for look in arithmetic_of(model).looks)
    if isinstance(cache, LinearState):
        return bytes_in(cache.memory)
    return bytes_in(vars(cache))


def _weights(model: LanguageModel) -> Iterator[tuple[nn.Module, Tensor]]:
    """Every parameter that all tokens meet, once, with its module; a tied matrix belongs to the head."""
    seen: set[int] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in seen and not isinstance(module, LOOKED_UP):
                seen.add(id(parameter))
                yield module, parameter


def _bytes_of(parameter: Tensor) -> int:
    data = parameter.data if isinstance(parameter, nn.Parameter) else parameter
    if isinstance(data, Quantised):
        return data.bytes_kept
    return parameter.numel() * parameter.element_size()
