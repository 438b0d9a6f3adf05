"""Does it matter that a head looks where the picture shows it? Only that look is taken away; the rest of the head stays.

    probs   .05 .10 .80 .05    -> its score is -inf ->    .25 .50  0  .25        the rest shared out anew
                     ^^^
    the same with the place beside it, two back: the control, which should matter less

Taking a whole head out (`causes.py`) cannot tell a head that matters for what it looks at from one that matters anyhow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from picolab.interpret.ablate import Head
from picolab.interpret.attention import words as _words
from picolab.interpret.chance import Band, Numbers, band
from picolab.interpret.claims import FEW, OWN, measures_of, signed
from picolab.interpret.heads import HeadScores
from picolab.models.contract import LanguageModel
from picolab.parts.tap import listening
from picolab.trace.sites import sites_of

LEAST = 1e-30
"""Least sum of weights that is divided by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """A look of a head, `back` tokens back, and what the loss rises without it; `control` is without the look one further back."""

    pattern: str
    layer: int
    head: int
    back: int
    measure: str
    effect: Band
    control: Band
    is_confirmed: bool

    @property
    def says(self) -> str:
        verb = "needs" if self.is_confirmed else "does not clearly need"
        return (
            f"The model {verb} the look of head {self.layer}.{self.head} at {_words(self.back)}: {signed(self.effect)} nats on "
            f"{self.measure} if only that is taken from it, {signed(self.control)} if it is the look at {_words(self.back + 1)}."
        )


@contextmanager
def without_look(model: LanguageModel, head: Head, back: int) -> Iterator[None]:
    """While open, one head cannot look `back` tokens back: that share goes to the others, in proportion.

    Under a softmax its score there is -inf; linear attention, which has no scores, gets its weights changed and summed anew.
    """
    layer, index = head
    place = f"blocks.{layer}.attention."
    has_scores = f"{place}scores" in sites_of(model)

    def cut(site: str, value: Tensor) -> Tensor:
        changed = value.clone()
        mine = changed[:, index]
        mine.diagonal(-back, dim1=-2, dim2=-1).fill_(-torch.inf if has_scores else 0)
        if not has_scores:
            mine /= mine.sum(-1, keepdim=True).clamp(min=LEAST)
        return changed

    with listening(model, cut, f"{place}{'scores' if has_scores else 'probs'}".__eq__):
        yield


def edges_of(
    model: LanguageModel, scores: HeadScores, losses: Mapping[str, Callable[[], Numbers]], *, copies: bool
) -> list[Edge]:
    """The looks of the named heads, the strongest of each name. `losses`: what is read -> its losses, as the model now is."""
    backs = {"previous token": 1, "induction": scores.length - 1, "same token": scores.length}
    edges = []
    for pattern, back in backs.items():
        for measure in measures_of(pattern, copies=copies, has_data=len(losses) > 1):
            if measure == OWN and pattern != "previous token":
                continue  # nothing comes again there after so many tokens
            loss = losses[measure]
            whole = loss()
            for head in scores.named(pattern)[:FEW]:
                with without_look(model, head.place, back):
                    cut = loss() - whole
                with without_look(model, head.place, back + 1):
                    beside = loss() - whole
                edges.append(
                    Edge(
                        pattern=pattern,
                        layer=head.layer,
                        head=head.head,
                        back=back,
                        measure=measure,
                        effect=band(cut),
                        control=band(beside),
                        is_confirmed=band(cut).low > 0 and band(cut - beside).low > 0,
                    )
                )
    return edges
