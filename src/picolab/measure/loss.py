"""How well does a model predict? Its mean surprise at every token, and the same per byte of text.

    batches -> model.losses -> total nats -> / scored tokens        nats a token   (compares models of one tokenizer)
                                          -> / ln 2 / bytes of text bits a byte    (compares models of any tokenizer)

The logits of a whole batch never exist at once: `model.losses` computes them in chunks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from picolab.data.batch import Batch
from picolab.errors import BadData
from picolab.shapes import Documents, TokenLosses, Tokens


class Scores(Protocol):
    """What can be evaluated: a model, neural or not, that gives a loss to every position."""

    @property
    def device(self) -> torch.device: ...

    @property
    def training(self) -> bool: ...

    def train(self, mode: bool = True) -> object: ...

    def losses(self, tokens: Tokens, targets: Tokens, *, documents: Documents | None = None) -> TokenLosses: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The loss over a set of batches: `nats_per_token` (lower is better; a uniform guess gives ln(vocab_size)).

    `bits_per_byte` is None where nobody said how many bytes of text the batches stand for. `figures` is what else was measured
    with it.
    """

    nats_per_token: float
    bits_per_byte: float | None
    tokens: int
    total_nats: float
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def perplexity(self) -> float:
        """exp of the mean loss: among how many equally likely tokens the model hesitates."""
        return math.exp(min(self.nats_per_token, 700.0))


def evaluate(model: Scores, batches: Iterable[Batch], *, n_bytes: int | None = None) -> Evaluation:
    """The model's loss over `batches`, padding left out; the model leaves in the mode (train, eval) it came in.

    `n_bytes` is the size of the text in the batches. The end-of-text tokens are scored too and have no bytes, so bits per byte
    include the cost of knowing where a text ends.
    """
    if n_bytes is not None and n_bytes <= 0:
        raise BadData(
            f"{n_bytes} bytes of text cannot be scored", hint="give `n_bytes` the size of the text, or leave it out"
        )
    was_training = model.training
    total, tokens = 0.0, 0
    model.train(False)
    try:
        with torch.no_grad():  # not inference_mode: FSDP trains on in the memory it gathers parameters into here
            for batch in batches:
                here = batch.to(model.device)
                losses = model.losses(here.tokens, here.targets, documents=here.documents)
                # float64: a sum of millions of float32 terms loses digits that a comparison of seeds needs.
                total += float(losses.sum(dtype=torch.float64))
                tokens += batch.scored
    finally:
        model.train(was_training)
    if tokens == 0:
        raise BadData("there is no token to score", hint="the batches are empty or all padding: use a larger split")
    return Evaluation(
        nats_per_token=total / tokens,
        bits_per_byte=None if n_bytes is None else total / math.log(2) / n_bytes,
        tokens=tokens,
        total_nats=total,
    )
