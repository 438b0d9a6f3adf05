"""Next-token prediction: how surprised the model is, on average, by each token that follows.

mean = sum over scored positions of -ln p(target | tokens so far) / how many positions were scored        (nats a token)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from picolab.data.batch import Batch
from picolab.models.contract import LanguageModel


@dataclass(frozen=True, slots=True)
class Loss:
    """The mean to be made small, the sum it came from, and over how many terms; `figures` are other sums over the same terms."""

    mean: Float[Tensor, ""]
    total: Float[Tensor, ""]
    count: int
    figures: Mapping[str, Tensor] = field(default_factory=dict)


def next_token(model: LanguageModel, batch: Batch) -> Loss:
    """Cross entropy of every scored position of the batch, padding left out."""
    total = model.losses(batch.tokens, batch.targets, documents=batch.documents).sum()
    count = batch.scored
    return Loss(total / max(count, 1), total.detach(), count)
