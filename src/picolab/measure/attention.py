"""Where does a model look? The attention probabilities of one text, as the real forward pass computed them.

    tokens -> model, watched at blocks.*.attention.probs -> AttentionMaps: layer, head, query -> weights over keys

A model without attention has no such site and gives None.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.parts.tap import listening
from picolab.shapes import Tokens

SITE = "blocks.*.attention.probs"


@dataclass(frozen=True, slots=True)
class AttentionMaps:
    """`probs[layer][head][query][key]`, float32 on the CPU; a row sums to 1 (less what a sink took)."""

    probs: Float[Tensor, "layers heads time time"]

    @property
    def layers(self) -> int:
        return self.probs.shape[0]

    @property
    def heads(self) -> int:
        return self.probs.shape[1]


def attention_of(model: LanguageModel, tokens: Tokens) -> AttentionMaps | None:
    """The attention of one row of `tokens` (1, time), every layer and head; None where the model has none."""
    if tokens.shape[0] != 1:
        raise BadInput(f"{tokens.shape[0]} rows of tokens were given", hint="attention maps are drawn for one row")
    seen: dict[int, Tensor] = {}

    def listener(site: str, value: Tensor) -> None:
        seen[int(site.split(".")[1])] = value.detach()[0].float().cpu()

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), listening(model, listener, lambda site: fnmatch.fnmatchcase(site, SITE)):
            model(tokens.to(model.device))
    finally:
        model.train(was_training)
    if not seen:
        return None
    return AttentionMaps(torch.stack([seen[layer] for layer in sorted(seen)]))
