"""Another token was read than the one that is claimed: `token-ids`.

    claimed   5 17 200 9
    embed     rows of the embedding: 5 17 17 200       a token late from position 2 on

Every row of the embedding is a signature: what enters the first block says which token was read, whatever the target says it read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.causes.embedding import EMBED, embeds, has_norm, has_positions, places, words
from picolab.diagnose.tokens import CAUSE, LOOK_FOR, departure
from picolab.diagnose.walk import Pass

NEAR = 1e-3
"""Relative: a vector that near to a row of the embedding is that row."""


@dataclass(frozen=True, kw_only=True)
class TokenIds(Bend):
    """At every position of the text the token in `ids` is looked up."""

    cause = CAUSE
    places = EMBED
    ids: tuple[int, ...]
    claimed: tuple[int, ...] = ()

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        rows = _table(at)[torch.tensor([[self.ids[p] for p in at.positions]], device=value.device)].to(value.dtype)
        return rows if has_norm(at.anatomy) else value - words(at, value) + rows

    def says(self) -> str:
        found = departure(self.claimed, self.ids)
        where = "" if found is None else f": {found.says}, from position {found.position} on"
        return f"other tokens enter the first block than are claimed{where}"

    @property
    def evidence(self) -> dict[str, Any]:
        wrong = [p for p, (a, b) in enumerate(zip(self.claimed, self.ids, strict=False)) if a != b]
        return {"read": list(self.ids), "claimed": list(self.claimed), "positions": wrong}


class TokenIdsCause(Cause):
    name = CAUSE
    places = EMBED
    says = "the rows of the embedding that are looked up are those of other tokens"
    look_for = LOOK_FOR

    def propose(self, case: Case) -> Iterable[Bend]:
        read = recovered(case)
        if read is not None and read[0] != read[1]:
            yield TokenIds(ids=read[0], claimed=read[1])

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        if not embeds(anatomy):
            return []
        vocab = int(anatomy.model.config.vocab_size)
        return [TokenIds(ids=tuple((7 * p + 3) % vocab for p in range(anatomy.model.config.context_length)))]


def recovered(case: Case) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The tokens whose rows the target shows at every position, and those it claims; None where some row is no token's."""
    ids: dict[int, int] = {}
    claimed: tuple[int, ...] = ()
    if not embeds(case.anatomy):
        return None
    for sight in case.sights(EMBED):
        claimed = sight.at.tokens
        if sight.target is None:
            return None
        rows = sight.target[0]
        if has_positions(case.anatomy):
            rows = rows - places(sight.at, sight.at.positions, rows)[0]
        table = _table(sight.at).to(rows.dtype)
        apart = torch.cdist(rows, table)
        best = apart.argmin(1)
        if not bool((apart.gather(1, best[:, None])[:, 0] <= NEAR * table[best].norm(dim=1)).all()):
            return None
        ids |= dict(zip(sight.at.positions, best.tolist(), strict=True))
    return None if not ids else (tuple(ids.get(p, token) for p, token in enumerate(claimed)), claimed)


def _table(at: Pass) -> Tensor:
    """What every token's row is when it enters the stream, positions not added."""
    weight = at.line("embed").weight
    assert weight is not None
    if not has_norm(at.anatomy):
        return weight
    with torch.no_grad():
        normed: Tensor = at.model.get_submodule("embed_norm")(weight[None])[0]
    return normed
