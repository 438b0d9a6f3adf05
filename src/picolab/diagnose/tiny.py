"""On which models is the tool examined? On tiny ones in which no number is neutral, and on one that has learned something.

sharp     every parameter random and so large that attention is far from uniform: no mistake hides behind a small number
trained   has learned a language whose next letter follows from the letter three before: it must look back, by position
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.walk import Schedule
from picolab.models.contract import LanguageModel
from picolab.zoo import build

VOCAB, CONTEXT = 43, 24
SIZES = {"vocab_size": VOCAB, "context_length": CONTEXT, "d_model": 36, "n_layers": 3, "n_heads": 6, "d_ff": 52}
ROTARY = {**SIZES, "n_kv_heads": 2, "head_dim": 10, "rope_theta": 137.0, "norm_eps": 3e-4}

HOSTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", ROTARY),
    "gpt2": ("gpt2", {**SIZES, "norm_eps": 3e-4}),
    "qwen2": ("qwen2", {**ROTARY, "head_dim": 6, "tied": False}),
    "nanochat": ("nanochat", ROTARY),
    "qwen3": ("qwen3", {**ROTARY, "tied": False}),
    "mistral": ("mistral", {**ROTARY, "window": 5}),
    "gpt_oss": ("gpt_oss", {**ROTARY, "window": 5}),
}
"""Name -> architecture and settings, none of them a default, neutral, or equal to another."""

LAG = 3
"""From how far back the next letter of the little language follows."""


@cache
def sharp(name: str, seed: int = 0) -> LanguageModel:
    """A tiny model of random parameters; the same object every time, so nobody may change it."""
    architecture, settings = HOSTS[name]
    with _seeded(seed):
        model = build(architecture, settings).eval()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.7 if parameter.ndim == 1 else 1.2 * parameter.shape[-1] ** -0.5
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(float(parameter.ndim == 1) + scale * noise)
    return model


def some_schedule(seed: int = 0, time: int = 15, steps: int = 2, vocab_size: int = VOCAB) -> Schedule:
    """Random tokens: some read at once, the last ones step by step."""
    generator = torch.Generator().manual_seed(seed)
    return Schedule(tuple(torch.randint(0, vocab_size, (time,), generator=generator).tolist()), time - steps)


def language(length: int, seed: int = 0) -> Tensor:
    """Letters of the little language: each follows from the one three before it, one in ten from nothing."""
    generator = torch.Generator().manual_seed(seed)
    follows = torch.randperm(VOCAB, generator=torch.Generator().manual_seed(99))
    letters = torch.randint(0, VOCAB, (length,), generator=generator)
    surprise = torch.rand(length, generator=generator) < 0.1
    for at in range(LAG, length):
        if not surprise[at]:
            letters[at] = follows[letters[at - LAG]]
    return letters


@cache
def trained(name: str = "llama", seed: int = 0, steps: int = 300) -> tuple[LanguageModel, Tensor]:
    """A tiny model that has learned the little language, and text of it that it has not seen; nobody may change either."""
    architecture, settings = HOSTS[name]
    with _seeded(seed), torch.enable_grad():
        model = build(architecture, settings).train()
        learner = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.0)
        letters = language(200_000, seed + 1)
        generator = torch.Generator().manual_seed(seed)
        for step in range(steps):
            for group in learner.param_groups:
                group["lr"] = 6e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps)
            starts = torch.randint(0, len(letters) - CONTEXT - 1, (32,), generator=generator)
            rows = torch.stack([letters[start : start + CONTEXT + 1] for start in starts])
            model.losses(rows[:, :-1], rows[:, 1:]).mean().backward()
            learner.step()
            learner.zero_grad()
    return model.eval(), language(4000, seed + 2)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """What is drawn inside follows from the seed, and nobody outside notices."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
