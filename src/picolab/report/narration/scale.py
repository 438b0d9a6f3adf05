"""What does a model cost, and what would a deeper one? Counted on models that are built, not estimated from a formula of sizes.

    d_model = 64 x depth, heads as wide as here      d4 -> d8 -> .. -> d20 (nanochat's, 561 M with its vocabulary of 65,536)

The deeper ones are built on torch's `meta` device, where a tensor has a shape and no memory.

    FLOPs a token, forward    2 x (numbers of every matrix it goes through) + 4 x attention width x tokens looked at, a layer
    linear attention          its state is as much work as head_dim + 1 tokens looked at, however many there were
    training                  three times that: the backward pass multiplies twice (Kaplan et al. 2020, arXiv:2001.08361)
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from picolab.measure.parameters import count_parameters
from picolab.models.contract import LanguageModel
from picolab.parts.cache import KeyValueCache
from picolab.parts.linear_state import LinearState
from picolab.zoo import ARCHITECTURES, build, settings_of

DEPTHS = (4, 8, 12, 16, 20)
LANES_A_LAYER = 64
PUBLISHED_VOCABULARY = {"nanochat": 65536}
"""Where the published models of a family share a vocabulary, the ladder has it too."""

ADAM_BYTES = 16
"""Bytes a parameter while AdamW trains in float32: weight, gradient, two running means."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one token costs. `context` is how many tokens it looks back over, itself included, or what a state is worth in them."""

    parameters: int
    flops_forward: float
    flops_training: float
    context: float
    cache_bytes: float | None
    weight_bytes: int
    training_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """One depth of a family."""

    depth: int
    d_model: int
    heads: int
    cost: Cost


def cost_of(model: LanguageModel, time: int) -> Cost:
    """The cost of a token, on average over a text of `time` tokens."""
    parameters = count_parameters(model)
    context = _mean_context(model, time)
    flops = 2.0 * _multiplied(model) + 4.0 * sum(_attention_widths(model)) * context
    return Cost(
        parameters=parameters.total,
        flops_forward=flops,
        flops_training=3 * flops,
        context=context,
        cache_bytes=_cache_bytes(model),
        weight_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        training_bytes=ADAM_BYTES * parameters.trainable,
    )


def ladder(model: LanguageModel, time: int) -> tuple[Rung, ...]:
    """The same architecture at other depths; nothing where it has no attention, or heads that do not fit the widths."""
    known = {field.name for field in fields(ARCHITECTURES[model.architecture].config)}
    settings = settings_of(model)
    if not {"n_layers", "n_heads", "d_ff"} <= known:
        return ()
    head_dim = settings.get("head_dim") or settings["d_model"] // settings["n_heads"]
    rungs = []
    for depth in DEPTHS:
        larger = _deeper(model.architecture, settings, depth, head_dim)
        if larger is None:
            continue
        with torch.device("meta"):
            built = build(model.architecture, larger)
        rungs.append(Rung(depth=depth, d_model=larger["d_model"], heads=larger["n_heads"], cost=cost_of(built, time)))
    return tuple(rungs)


def _deeper(architecture: str, settings: dict[str, Any], depth: int, head_dim: int) -> dict[str, Any] | None:
    d_model = LANES_A_LAYER * depth
    heads = d_model // head_dim
    shared = settings["n_heads"] // settings.get("n_kv_heads", settings["n_heads"])
    if d_model % head_dim or not heads or heads % shared:
        return None
    larger = {
        **settings,
        "d_model": d_model,
        "n_layers": depth,
        "n_heads": heads,
        "d_ff": round(d_model * settings["d_ff"] / settings["d_model"]),
        "vocab_size": PUBLISHED_VOCABULARY.get(architecture, settings["vocab_size"]),
    }
    if "n_kv_heads" in settings:
        larger["n_kv_heads"] = heads // shared
    if "rope_scaling" in settings and settings["rope_scaling"] is not None:
        larger["rope_scaling"] = None
    return larger


def _multiplied(model: nn.Module) -> int:
    """Numbers of matrices that every token is multiplied by: not the embedding's, which is looked up, unless the head shares it."""
    looked_up = ("embedding.weight", "position_embedding.weight")
    total = 0
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if (parameter.ndim == 2 and not name.endswith(looked_up)) or name == "input.kernel":
            total += parameter.numel()
    return total


def _attention_widths(model: LanguageModel) -> list[int]:
    c = model.config
    if not hasattr(c, "n_heads"):
        return []
    return [c.n_heads * (getattr(c, "head_dim", 0) or c.d_model // c.n_heads)] * int(c.n_layers)


def _mean_context(model: LanguageModel, time: int) -> float:
    """Tokens looked at, on average over positions; layers with a window see less."""
    if isinstance(_empty_cache(model), LinearState):
        return float(model.config.d_model // model.config.n_heads + 1)
    whole = (time + 1) / 2
    windows = [getattr(m, "window", None) for m in model.modules() if hasattr(m, "layer") and hasattr(m, "n_heads")]
    if not windows:
        return whole if hasattr(model.config, "n_heads") else 1.0
    seen = [whole if not w else sum(min(t + 1, w) for t in range(time)) / time for w in windows]
    return sum(seen) / len(seen)


def _cache_bytes(model: LanguageModel) -> float | None:
    """What generation keeps of every token; None where what it keeps does not grow."""
    cache = _empty_cache(model)
    if not isinstance(cache, KeyValueCache):
        return None
    return float(cache.memory.nbytes)


def _empty_cache(model: LanguageModel) -> Any:
    with torch.device("meta"):
        return model.new_cache(1, 1)
