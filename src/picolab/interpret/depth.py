"""At which depth is the answer found? The logit lens over many texts, not over one.

after every block: loss of what comes next, read by the final norm and head | how often its first choice is the last one
embedding   block 0   block 1 ..
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from picolab.interpret.chance import Band, Numbers, band
from picolab.interpret.logit_lens import Lens, logit_lens
from picolab.interpret.texts import Texts, at_rest, batches
from picolab.models.contract import LanguageModel
from picolab.parts.cross_entropy import IGNORE
from picolab.parts.tap import listening
from picolab.trace.sites import sites_of

LENS_TOKENS = 24
"""Tokens of the text that is shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Depth:
    """At one place: the loss of the next token in nats, and how often the first choice there is the model's last one."""

    place: str
    loss: Band
    agrees: Band


def lens_of(model: LanguageModel, ids: Sequence[int]) -> Lens:
    """The lens over one text. Raises `BadInput` for a model without a stream."""
    seen: dict[str, Tensor] = {}
    with at_rest(model), listening(model, seen.__setitem__, _wanted):
        model(torch.tensor([list(ids)[:LENS_TOKENS]], device=model.device))
    return logit_lens(model, seen)


def depths_of(model: LanguageModel, texts: Texts) -> tuple[Depth, ...]:
    """Loss and agreement at every depth, means over texts."""
    places = [site for site in sites_of(model) if _wanted(site)]
    found: dict[str, Numbers] = {place: np.zeros((len(texts), 2)) for place in places}
    for batch in batches(texts.ids):
        seen: dict[str, Tensor] = {}
        targets = batch.targets.to(model.device)
        scored = targets != IGNORE
        with at_rest(model):
            with listening(model, seen.__setitem__, _wanted):
                last = model(batch.tokens.to(model.device)).argmax(-1)
            for place in places:
                features = model.final_norm(seen[place])  # type: ignore[operator]
                losses = model.head.losses(features, targets)
                same = (model.head(features).argmax(-1) == last) & scored
                count = scored.sum(1).double()
                found[place][list(batch.rows)] = torch.stack(
                    [losses.double().sum(1) / count, same.double().sum(1) / count], dim=1
                ).cpu()
    return tuple(
        Depth(place=place, loss=band(values[:, 0]), agrees=band(values[:, 1])) for place, values in found.items()
    )


def says(depths: Sequence[Depth], texts: int) -> list[str]:
    """What was found, in sentences."""
    before = depths[:-1]
    found = next((depth for depth in before if depth.agrees.mean >= 0.5), None)
    last = before[-1]
    answer = (
        f"Read after {where(found.place)}, the model's last answer is already its first choice at {found.agrees} of the tokens of "
        f"{texts} texts; read from the {where(depths[0].place)} it is at {depths[0].agrees}."
        if found is not None
        else f"Only the last block finds most answers: read before it, after {where(last.place)}, the model's last answer is its "
        f"first choice at {last.agrees} of the tokens of {texts} texts."
    )
    walk = ", ".join(f"{where(depth.place)} {depth.loss.mean:.2f}" for depth in depths)
    steps = [(a.loss.mean - b.loss.mean, b) for a, b in pairwise(depths)]
    gain, best = max(steps, key=lambda pair: pair[0])
    return [
        answer,
        f"The loss read at each depth: {walk}; {where(best.place)} brings the most, {gain:.2f} nats.",
    ]


def where(place: str) -> str:
    """A place of the stream in words."""
    return "embedding" if place == "embed" else f"block {place.split('.')[1]}"


def _wanted(site: str) -> bool:
    return site == "embed" or site.endswith(".resid_post")
