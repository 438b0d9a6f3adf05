"""What does the model lose without one head? Its part of `mixed` is taken out while the model runs as it always does.

    mixed = | head 0 | head 1 | head 2 | ..      zero: nothing in its place
                       ^^^^^^                    mean: in its place what it gives on average over these texts

The mean takes away what a head says of a text and keeps what it always says; zero takes both, and a model that leans on the
constant part then breaks for another reason (Wang et al. 2022, arXiv:2211.00593, section 3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from picolab.errors import BadInput
from picolab.interpret.chance import Numbers
from picolab.interpret.texts import at_rest, batches
from picolab.models.contract import LanguageModel
from picolab.parts.tap import listening

Head = tuple[int, int]
"""A block and a head of it."""

WAYS = ("zero", "mean")


@dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """Nats of every token of every text, `(texts, time - 1)`, NaN after a text's end; column t is how well token t + 1 was told."""

    nats: Numbers

    def over(self, start: int = 0, stop: int | None = None) -> Numbers:
        """The mean of each text over some columns."""
        return np.asarray(np.nanmean(self.nats[:, start:stop], axis=1))


def heads_of(model: LanguageModel) -> list[Head]:
    """Every head of a model; a refusal where it has none."""
    n_heads, blocks = getattr(model.config, "n_heads", None), getattr(model, "blocks", None)
    if n_heads is None or blocks is None:
        raise BadInput(
            f"a `{model.architecture}` has no attention",
            hint="heads are those of transformers: softmax-pico, a checkpoint",
        )
    return [(layer, head) for layer in range(len(blocks)) for head in range(n_heads)]


def means_of(model: LanguageModel, ids: Sequence[Sequence[int]]) -> dict[int, Tensor]:
    """What the heads of every block give on average over all tokens of some texts."""
    sums: dict[int, Tensor] = {}
    count = 0
    for batch in batches(ids):
        real = batch.real.to(model.device)

        def see(site: str, value: Tensor, real: Tensor = real) -> None:
            layer = int(site.split(".")[1])
            sums[layer] = sums.get(layer, 0) + value[real].double().sum(dim=0)

        with at_rest(model), listening(model, see, _is_mixed):
            model(batch.tokens.to(model.device))
        count += int(batch.real.sum())
    return {layer: (total / count).float() for layer, total in sums.items()}


@contextmanager
def without(model: LanguageModel, heads: Collection[Head], means: Mapping[int, Tensor] | None = None) -> Iterator[None]:
    """While open, the model runs without these heads: zeros in their place, or with `means` their means."""
    n_heads = model.config.n_heads
    sites = {f"blocks.{layer}.attention.mixed" for layer, _ in heads}

    def replace(site: str, value: Tensor) -> Tensor:
        layer, lanes = int(site.split(".")[1]), value.shape[-1] // n_heads
        changed = value.clone()
        for head in (head for at, head in heads if at == layer):
            here = slice(head * lanes, (head + 1) * lanes)
            changed[..., here] = 0 if means is None else means[layer][here].to(value)
        return changed

    with listening(model, replace, sites.__contains__):
        yield


def losses_of(model: LanguageModel, ids: Sequence[Sequence[int]]) -> Losses:
    """How well the model tells every token of some texts from those before it."""
    nats = np.full((len(ids), max(len(row) for row in ids) - 1), np.nan)
    for batch in batches(ids):
        with at_rest(model):
            losses = model.losses(batch.tokens.to(model.device), batch.targets.to(model.device))
        found = losses.double().cpu().numpy()
        for at, row in enumerate(batch.rows):
            last = len(ids[row]) - 1
            nats[row, :last] = found[at, :last]
    return Losses(nats=nats)


def _is_mixed(site: str) -> bool:
    return site.startswith("blocks.") and site.endswith(".attention.mixed")
