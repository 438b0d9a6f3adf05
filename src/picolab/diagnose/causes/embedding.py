"""The first step: `embed-scale embed-norm-missing position-missing position-offset`.

scale       embeddings times sqrt(d_model), as in Gemma, where none is meant, or not where it is; the number is fitted
norm        nanochat norms its embeddings before the first block
position    learned positions not added, or those of a neighbour: position 1 for the first token, 0 at every decode step
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.walk import Pass

EMBED = frozenset({"embed"})


def words(at: Pass, like: Tensor) -> Tensor:
    """The rows of the embedding, nothing added."""
    weight = at.line("embed").weight
    assert weight is not None
    return weight[torch.tensor([[at.tokens[p] for p in at.positions]], device=weight.device)].to(like.dtype)


def places(at: Pass, positions: Sequence[int], like: Tensor) -> Tensor:
    """The learned vectors of these positions; those beyond the table are its last."""
    table = at.model.get_submodule("position_embedding").get_parameter("weight").detach()
    return table[torch.tensor(positions, device=table.device).clamp(0, len(table) - 1)][None].to(like.dtype)


def has_positions(anatomy: Anatomy) -> bool:
    return hasattr(anatomy.model, "position_embedding")


def has_norm(anatomy: Anatomy) -> bool:
    return hasattr(anatomy.model, "embed_norm")


def embeds(anatomy: Anatomy) -> bool:
    line = anatomy.lines.get("embed")
    return line is not None and line.weight is not None


@dataclass(frozen=True, kw_only=True)
class EmbedScale(Bend):
    """What enters the first block is `factor` times too large; with `words_only` positions are added after that."""

    cause = "embed-scale"
    places = EMBED
    dial = ("factor", 1e-3, 1e3)
    factor: float
    name: str = ""
    words_only: bool = False

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        return value + (self.factor - 1) * words(at, value) if self.words_only else value * self.factor

    def says(self) -> str:
        what = "embeddings, before positions are added," if self.words_only else "embeddings"
        return f"{what} are {self.factor:.6g} times the reference's" + (f", which is {self.name}" if self.name else "")

    @property
    def evidence(self) -> dict[str, Any]:
        return {"factor": self.factor, "which is": self.name, "before positions": self.words_only}


@dataclass(frozen=True, kw_only=True)
class EmbedNormMissing(Bend):
    cause = "embed-norm-missing"
    places = EMBED

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        return words(at, value)

    def says(self) -> str:
        return "embeddings enter the first block without the norm that follows them"


@dataclass(frozen=True, kw_only=True)
class PositionMissing(Bend):
    """Positions counted `times` times: 0, not added."""

    cause = "position-missing"
    places = EMBED
    times: float = 0.0

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        return value + (self.times - 1) * places(at, at.positions, value)

    def says(self) -> str:
        return (
            "learned positions are not added"
            if self.times == 0
            else f"learned positions are added {self.times:g} times"
        )

    @property
    def evidence(self) -> dict[str, Any]:
        return {"times": self.times}


@dataclass(frozen=True, kw_only=True)
class PositionOffset(Bend):
    """Token p has the vector of position p + `by`; with `restarts` every pass begins at position `by` again."""

    cause = "position-offset"
    places = EMBED
    by: int
    restarts: bool = False

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        first = at.positions[0] if self.restarts else 0
        wrong = [p - first + self.by for p in at.positions]
        return value - places(at, at.positions, value) + places(at, wrong, value)

    def says(self) -> str:
        if self.restarts:
            return f"every pass counts its positions from {self.by}, so that a decode step stands at {self.by} for ever"
        return f"tokens have the learned vector of the position {abs(self.by)} {'later' if self.by > 0 else 'earlier'}"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"by": self.by, "restarts": self.restarts}


class EmbedScaleCause(Cause):
    name = "embed-scale"
    places = EMBED
    says = "embeddings are multiplied by a number"
    look_for = (
        "Gemma's `hidden_states * sqrt(d_model)`; the scale of the original transformer; a multiplier in the config"
    )

    def propose(self, case: Case) -> Iterable[Bend]:
        if not embeds(case.anatomy):
            return
        named = factors(case.anatomy)
        for words_only in (False, True) if has_positions(case.anatomy) else (False,):
            fitted = fitted_scale(case, words_only=words_only)
            exact = [f for f in named if fitted is None or math.isclose(f, fitted, rel_tol=1e-4)]
            guesses = exact if exact or fitted is None else [fitted]
            for factor in guesses:
                yield EmbedScale(factor=factor, name=named.get(factor, ""), words_only=words_only, phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        if not embeds(anatomy):
            return []
        scaled = [EmbedScale(factor=factor, name=name) for factor, name in factors(anatomy).items()]
        more = [EmbedScale(factor=0.3, words_only=True)] if has_positions(anatomy) else [EmbedScale(factor=0.3)]
        return [*scaled, *more]


class EmbedNormMissingCause(Cause):
    name = "embed-norm-missing"
    places = EMBED
    says = "the norm between the embedding and the first block is left out"
    look_for = "nanochat and BLOOM norm their embeddings; most others do not"

    def propose(self, case: Case) -> Iterable[Bend]:
        if has_norm(case.anatomy):
            yield EmbedNormMissing(phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [EmbedNormMissing()] if has_norm(anatomy) else []


class PositionMissingCause(Cause):
    name = "position-missing"
    places = EMBED
    says = "learned positions are not added, or twice"
    look_for = "`wpe` loaded and not used; a decode path that adds only the token's vector"

    def propose(self, case: Case) -> Iterable[Bend]:
        if has_positions(case.anatomy):
            for times in (0.0, 2.0):
                yield PositionMissing(times=times, phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [PositionMissing(), PositionMissing(times=2.0)] if has_positions(anatomy) else []


class PositionOffsetCause(Cause):
    name = "position-offset"
    places = EMBED
    says = "tokens have the learned vectors of other positions"
    look_for = "OPT's offset of 2; positions from 1; `position_ids` that restart at 0 at every decode step"

    def propose(self, case: Case) -> Iterable[Bend]:
        if not has_positions(case.anatomy):
            return
        for by in (1, -1, 2, -2):
            yield PositionOffset(by=by, phases=case.phases)
        for by in (0, 1):
            yield PositionOffset(by=by, restarts=True, phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        if not has_positions(anatomy):
            return []
        late = PositionOffset(by=-1, phases=frozenset({"decode"}))
        return [PositionOffset(by=1), PositionOffset(by=2), late, PositionOffset(by=0, restarts=True)]


def factors(anatomy: Anatomy) -> dict[float, str]:
    """Factors that code multiplies embeddings by, with what each is."""
    wide = anatomy.model.config.d_model
    return {
        math.sqrt(wide): f"sqrt(d_model) = sqrt({wide})",
        1 / math.sqrt(wide): f"1/sqrt(d_model) = 1/sqrt({wide})",
    }


def fitted_scale(case: Case, *, words_only: bool) -> float | None:
    """The factor that fits the target's embeddings best; None where they are not shown."""
    top = bottom = 0.0
    for sight in case.sights(EMBED):
        if sight.target is None or sight.target.shape != sight.made.shape:
            return None
        made, target = sight.made.double(), sight.target.double()
        if words_only:
            part = words(sight.at, sight.made).double()
            made, target = part, target - made + part
        top, bottom = top + float((made * target).sum()), bottom + float((made * made).sum())
    return top / bottom if bottom else None
