"""A smaller model out of a model: fewer blocks, heads and words, the numbers that are left being the same.

blocks        0 1 2 3   ->  0 2             heads     whole groups: a key head and the query heads that read it
vocabulary    the words that are kept, numbered anew; positions beyond the text go as well
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.models.contract import LanguageModel
from picolab.zoo import build

BLOCK = re.compile(r"^blocks\.(\d+)\.(.*)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """What is kept: blocks, key heads, query heads of each group, words, positions."""

    blocks: tuple[int, ...]
    groups: tuple[int, ...]
    heads: tuple[int, ...]
    words: tuple[int, ...]
    positions: int

    @classmethod
    def whole(cls, model: LanguageModel) -> Cut:
        config = model.config
        groups = getattr(config, "n_kv_heads", config.n_heads)
        return cls(
            blocks=tuple(range(config.n_layers)),
            groups=tuple(range(groups)),
            heads=tuple(range(config.n_heads // groups)),
            words=tuple(range(config.vocab_size)),
            positions=config.context_length,
        )


def can_lose_heads(model: LanguageModel) -> bool:
    """Whether the width of a head is a setting of its own, so that it stays when heads go."""
    return hasattr(model.config, "head_dim") and hasattr(model.config, "n_kv_heads")


def can_be_cut(model: LanguageModel) -> bool:
    """Whether it is a stack of equal blocks with attention."""
    return all(hasattr(model.config, name) for name in ("n_layers", "n_heads", "vocab_size", "context_length"))


def cut_down(model: LanguageModel, cut: Cut) -> LanguageModel:
    """The smaller model, with this one's numbers; its own settings besides (theta, eps, window) stay."""
    config = model.config
    settings = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    settings |= {"n_layers": len(cut.blocks), "vocab_size": len(cut.words), "context_length": cut.positions}
    if can_lose_heads(model):
        settings |= {"n_kv_heads": len(cut.groups), "n_heads": len(cut.groups) * len(cut.heads)}
    with torch.random.fork_rng(devices=[]):
        small = build(model.architecture, settings).to(model.head.weight.dtype).eval()
    theirs = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, parameter in small.named_parameters():
            found = BLOCK.match(name)
            source = name if found is None else f"blocks.{cut.blocks[int(found[1])]}.{found[2]}"
            parameter.copy_(_kept(source, theirs[source].detach(), config, cut))
    return small


def _kept(name: str, value: Tensor, config: Any, cut: Cut) -> Tensor:
    """Of one parameter what is left of it."""
    if name.startswith(("embedding.", "head.")):
        return value[list(cut.words)]
    if name.startswith("position_embedding."):
        return value[: cut.positions]
    if not hasattr(config, "head_dim"):
        return value
    per_group = config.n_heads // config.n_kv_heads
    heads = [group * per_group + head for group in cut.groups for head in cut.heads]
    if ".attention.q_proj." in name:
        return value[_lanes(heads, config.head_dim)]
    if ".attention.k_proj." in name or ".attention.v_proj." in name:
        return value[_lanes(cut.groups, config.head_dim)]
    if name.endswith(".attention.out_proj.weight"):
        return value[:, _lanes(heads, config.head_dim)]
    return value[heads] if name.endswith(".attention.sinks") else value


def _lanes(heads: Sequence[int], width: int) -> list[int]:
    return [head * width + lane for head in heads for lane in range(width)]
