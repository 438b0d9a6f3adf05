"""Where does each head look? The map of one text, and over many texts the mean share by distance.

    token   the   cat   sat   on   the          distance of `the` .. `on`: 1       .. `sat`: 2       the first token apart
            .1    .1    .1    .6   .1

The weights are those of the pass itself, at `probs`: of a softmax, or of linear attention, where they are implied and sum to 1 too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from picolab.errors import BadInput
from picolab.interpret.ablate import heads_of
from picolab.interpret.chance import Band, Numbers, band
from picolab.interpret.texts import Texts, at_rest, batches
from picolab.models.contract import LanguageModel
from picolab.parts.tap import listening
from picolab.trace.sites import sites_of

PLACE = ".attention.probs"

BACK = 8
"""Distances that are told apart."""

TOLD = 8
"""Heads that get a sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """Where a head looks on average: `back[d]` is the share d tokens back (0: itself), the first token left out, `first` its share.

    `even` is the same for a head that spreads its attention evenly over all it may see, in these texts.
    """

    layer: int
    head: int
    back: tuple[Band, ...]
    first: Band

    @property
    def name(self) -> str:
        return f"{self.layer}.{self.head}"

    @property
    def favourite(self) -> tuple[str, Band]:
        """The place with most attention, in words."""
        places = {words(distance): share for distance, share in enumerate(self.back)} | {"the first token": self.first}
        return max(places.items(), key=lambda pair: pair[1].mean)


@dataclass(frozen=True, kw_only=True, slots=True)
class Looks:
    """Every head's habits over `texts` texts of `source`, and `even`: distance -> share if attention were spread evenly."""

    heads: tuple[Look, ...]
    even: dict[str, float]
    texts: int
    source: str


@contextmanager
def weights_seen(model: LanguageModel, see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """While open, `see(layer, weights)` is called with the attention of every block, `(batch, heads, time, past)`.

    Raises `BadInput` for a model whose attention, if it has any, shows no weights.
    """
    heads_of(model)
    places = {site for site in sites_of(model) if site.endswith(PLACE)}
    if not places:
        raise BadInput(
            f"the attention of a `{model.architecture}` shows no weights",
            hint="its blocks have no site `attention.probs`",
        )

    def listen(site: str, value: Tensor) -> None:
        see(int(site.split(".")[1]), value)

    with listening(model, listen, places.__contains__):
        yield


def maps_of(model: LanguageModel, ids: Sequence[int]) -> list[Numbers]:
    """The attention over one text: for every block `(heads, time, time)`."""
    seen: dict[int, Numbers] = {}

    def see(layer: int, weights: Tensor) -> None:
        seen[layer] = weights[0].double().cpu().numpy()

    with at_rest(model), weights_seen(model, see):
        model(torch.tensor([list(ids)], device=model.device))
    return [seen[layer] for layer in sorted(seen)]


def looks_of(model: LanguageModel, texts: Texts) -> Looks:
    """Where every head looks on average over some texts."""
    found: dict[int, list[Tensor]] = {}
    evenly: list[Tensor] = []
    for batch in batches(texts.ids):
        real = batch.real.to(model.device)

        def see(layer: int, weights: Tensor, real: Tensor = real) -> None:
            found.setdefault(layer, []).append(_by_distance(weights, real).cpu())

        with at_rest(model), weights_seen(model, see):
            model(batch.tokens.to(model.device))
        time = real.shape[1]
        flat = torch.ones(time, time).tril() / torch.arange(1, time + 1)[:, None]
        evenly.append(_by_distance(flat.expand(len(real), 1, time, time), batch.real))
    heads = []
    for layer in sorted(found):
        whole = torch.cat(found[layer]).double().numpy()  # texts x heads x (distances, first)
        for head in range(whole.shape[1]):
            bands = [_known(whole[:, head, i]) for i in range(whole.shape[2])]
            heads.append(Look(layer=layer, head=head, back=tuple(bands[:-1]), first=bands[-1]))
    even = np.nanmean(torch.cat(evenly).double().numpy()[:, 0], axis=0).tolist()
    named = {**{words(i): even[i] for i in range(BACK)}, "the first token": even[-1]}
    return Looks(heads=tuple(heads), even=named, texts=len(texts), source=texts.source)


def says(looks: Looks) -> list[str]:
    """For the heads that look most at one place, a sentence each."""
    sure = sorted(looks.heads, key=lambda head: -head.favourite[1].mean)
    sentences = []
    for head in sure[:TOLD]:
        place, share = head.favourite
        sentences.append(
            f"Head {head.name} looks most at {place}, {share} of its attention over {looks.texts} texts; spread evenly it would "
            f"be {looks.even[place]:.3f}."
        )
    return sentences


def words(distance: int) -> str:
    """A distance as it is said."""
    return {0: "the token itself", 1: "the token before"}.get(distance, f"{distance} tokens back")


def _by_distance(weights: Tensor, real: Tensor) -> Tensor:
    """`(texts, heads, BACK + 1)`: the share at each distance, the first token left out; then the first token's. NaN where a text
    is too short for a distance."""
    time = weights.shape[-1]
    parts = []
    for distance in range(BACK):
        # Queries that have a key so far back that is not the first token.
        has = real[:, None, distance + 1 :] if time > distance + 1 else real[:, None, :0]
        there = (
            weights.float().diagonal(-distance, dim1=-2, dim2=-1)[..., 1:] if distance < time else weights[..., 0, :0]
        )
        parts.append((there * has).sum(-1) / has.sum(-1).where(has.sum(-1) > 0, torch.nan))
    queries = real[:, None, 1:]
    parts.append((weights.float()[..., 1:, 0] * queries).sum(-1) / queries.sum(-1))
    return torch.stack(torch.broadcast_tensors(*parts), dim=-1)


def _known(values: Numbers) -> Band:
    known = values[~np.isnan(values)]
    return band(known) if len(known) else Band(mean=0.0, low=0.0, high=0.0, count=0)
