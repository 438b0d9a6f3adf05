"""What the stream keeps: `residual-missing residual-twice residual-scale norm-place`.

right           x + f(norm(x))
missing         f(norm(x)): the stream is thrown away                or x: the layer is left out
twice           x + 2 f(norm(x)), 2 x + f(norm(x))
scale           a x + b f(norm(x)): the two numbers are fitted
norm's place    norm(x) + f(norm(x)), norm(x + f(x)), the feed-forward beside attention, the two norms exchanged
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.walk import Pass, local
from picolab.trace.sites import layer_of

SUMS = frozenset({"resid_mid", "resid_post"})
NORM_BEFORE = {"resid_mid": "attention_norm", "resid_post": "mlp_norm"}
SUM_AFTER = {norm: total for total, norm in NORM_BEFORE.items()}


@dataclass(frozen=True, kw_only=True)
class Residual(Bend):
    """`stream` times the stream plus `branch` times what the layer adds."""

    places = SUMS
    of: frozenset[str] = SUMS
    stream: float = 1.0
    branch: float = 1.0

    @property
    def kinds(self) -> frozenset[str]:
        return self.of

    @property
    def cause(self) -> str:  # type: ignore[override]
        if 0.0 in (self.stream, self.branch):
            return "residual-missing"
        return "residual-twice" if {self.stream, self.branch} == {1.0, 2.0} else "residual-scale"

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        return self.stream * at.read(site, 0) + self.branch * at.read(site, 1)

    def says(self) -> str:
        where = " and ".join("attention" if place == "resid_mid" else "the feed-forward" for place in sorted(self.of))
        if self.stream == 0:
            return f"after {where} the stream is thrown away: only what the layer made goes on"
        if self.branch == 0:
            return f"what {where} made is not added to the stream"
        return f"after {where} the sum is {self.stream:.6g} x stream + {self.branch:.6g} x layer"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"of": sorted(self.of), "stream": self.stream, "layer": self.branch}


PLACEMENTS: Mapping[str, tuple[frozenset[str], str]] = {
    "normed stream": (frozenset({"sum"}), "the layer's outcome is added to the normed stream, not to the stream itself"),
    "after": (frozenset({"norm", "sum"}), "the norm stands after the sum, where the reference norms what the layer reads"),
    "after the layer": (frozenset({"norm", "sum"}), "the norm stands between the layer and the sum"),
    "parallel": (frozenset({"norm"}), "the feed-forward reads the stream from before attention, not from after it"),
    "exchanged": (frozenset({"norm"}), "the two norms of a block have each other's weights"),
}  # fmt: skip
"""Name -> which lines are wrong, in words."""


@dataclass(frozen=True, kw_only=True)
class NormPlace(Bend):
    cause = "norm-place"
    places = SUMS | frozenset(SUM_AFTER)
    place: str
    of: frozenset[str] = SUMS
    """The sums whose norm is misplaced."""

    @property
    def kinds(self) -> frozenset[str]:
        lines = PLACEMENTS[self.place][0]
        if self.place == "parallel":
            return frozenset({"mlp_norm"})
        norms = frozenset(NORM_BEFORE[total] for total in self.of)
        return (norms if "norm" in lines else frozenset()) | (self.of if "sum" in lines else frozenset())

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        place, here = local(site), f"blocks.{layer_of(site)}."
        if place in SUMS:
            stream, branch, norm = at.read(site, 0), at.read(site, 1), at.line(here + NORM_BEFORE[place]).module
            assert norm is not None
            if self.place == "normed stream":
                return at.flowed[here + NORM_BEFORE[place]] + branch
            made: Tensor = norm(stream + branch) if self.place == "after" else stream + norm(branch)
            return made
        if self.place == "parallel":
            norm = at.line(site).module
            assert norm is not None
            parallel: Tensor = norm(at.flowed[at.anatomy.before(site)])
            return parallel
        if self.place == "exchanged":
            norm = at.line(here + ("mlp_norm" if place == "attention_norm" else "attention_norm")).module
            assert norm is not None
            exchanged: Tensor = norm(at.read(site))
            return exchanged
        return at.read(site)

    def says(self) -> str:
        return PLACEMENTS[self.place][1]

    @property
    def evidence(self) -> dict[str, Any]:
        return {"place": self.place, "of": sorted(self.of)}


class ResidualCause(Cause):
    """The wrong sums that go by one name: each a share of the stream and of the layer."""

    places = SUMS
    shares: Sequence[tuple[float, float]] = ()

    def propose(self, case: Case) -> Iterable[Bend]:
        for of in places_of(case):
            for stream, branch in self.shares:
                yield Residual(of=of, stream=stream, branch=branch, layers=case.layers(of), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        if not adds(anatomy):
            return []
        mid = frozenset({"resid_mid"})
        some = [Residual(stream=a, branch=b, of=mid, layers=frozenset({1})) for a, b in self.shares]
        return [*some, *(Residual(stream=a, branch=b) for a, b in self.shares if a)]


class ResidualMissingCause(ResidualCause):
    name = "residual-missing"
    says = "the stream is thrown away at a sum, or a layer's outcome is not added"
    look_for = "`x = self.attn(..)` where `x = x + self.attn(..)` is meant; a layer that is skipped"
    shares = ((0.0, 1.0), (1.0, 0.0))


class ResidualTwiceCause(ResidualCause):
    name = "residual-twice"
    says = "the stream or a layer's outcome is added twice"
    look_for = "an in-place `+=` on a tensor that is added again; a fused kernel that adds the residual itself"
    shares = ((1.0, 2.0), (2.0, 1.0))


class ResidualScaleCause(Cause):
    name = "residual-scale"
    places = SUMS
    says = "the stream or what a layer adds is multiplied by a number"
    look_for = "residual multipliers (Granite); 1/sqrt(2 n_layers) applied when running, not only when initialising"

    def propose(self, case: Case) -> Iterable[Bend]:
        for of in places_of(case):
            fitted = fitted_shares(case, of)
            if fitted is None:
                guesses = [(1.0, factor) for factor in scales(case.anatomy)]
                guesses += [(factor, 1.0) for factor in scales(case.anatomy)]
            else:
                guesses = [fitted]
            for stream, branch in guesses:
                if 0.0 not in (stream, branch) and {stream, branch} != {1.0, 2.0}:
                    yield Residual(of=of, stream=stream, branch=branch, layers=case.layers(of), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        if not adds(anatomy):
            return []
        return [Residual(branch=scales(anatomy)[0]), Residual(of=frozenset({"resid_post"}), stream=0.9, branch=1.1)]


class NormPlaceCause(Cause):
    name = "norm-place"
    places = NormPlace.places
    says = "a norm stands at another place of the block than in the reference"
    look_for = (
        "post-norm code for a pre-norm model; `residual = norm(x)`; GPT-J's parallel layers; ln_1 and ln_2 exchanged"
    )

    def propose(self, case: Case) -> Iterable[Bend]:
        for place in placements(case.anatomy):
            for of in (SUMS, *(frozenset({total}) for total in sorted(SUMS))):
                bend = NormPlace(place=place, of=of, layers=case.layers(self.places), phases=case.phases)
                if bend.kinds & set(case.suspects) and (of == SUMS or place not in ("parallel", "exchanged")):
                    yield bend

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [NormPlace(place=place) for place in placements(anatomy)] if adds(anatomy) else []


def placements(anatomy: Anatomy) -> list[str]:
    """The misplacements that change anything: norms without weights can be exchanged freely."""
    weighted = any(line.weight is not None for line in anatomy.lines.values() if local(line.site) in SUM_AFTER)
    return [place for place in PLACEMENTS if weighted or place != "exchanged"]


def adds(anatomy: Anatomy) -> bool:
    return any(line.kind == "sum" for line in anatomy.lines.values())


def places_of(case: Case) -> list[frozenset[str]]:
    """Which sums may be wrong: those shown to be, else both, else each that is under suspicion."""
    shown = frozenset(local(key.site) for key in case.born) & SUMS
    suspects = sorted(SUMS & set(case.suspects))
    return list(dict.fromkeys([shown or SUMS, SUMS, *(frozenset({place}) for place in suspects)]))


def scales(anatomy: Anatomy) -> list[float]:
    """Numbers by which code multiplies."""
    layers = anatomy.model.config.n_layers
    return [1 / math.sqrt(2 * layers), 1 / math.sqrt(layers), 1 / math.sqrt(2), 0.5, math.sqrt(2)]


def fitted_shares(case: Case, of: frozenset[str]) -> tuple[float, float] | None:
    """Shares of stream and layer that fit the target's sums best; None where a sum or its parts are not shown."""
    left, right = torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    shown = False
    for sight in case.sights(of):
        if sight.target is None or sight.target.shape != sight.made.shape:
            return None
        parts = torch.stack([sight.input(0).double().flatten(), sight.input(1).double().flatten()])
        left += parts @ parts.T
        right += parts @ sight.target.double().flatten()
        shown = True
    if not shown or float(torch.linalg.cond(left)) > 1e12:
        return None
    stream, branch = torch.linalg.solve(left, right).tolist()
    return _rounded(stream), _rounded(branch)


def _rounded(number: float) -> float:
    """The round number that a fit means."""
    return next((x for x in (0.0, 0.5, 1.0, 2.0) if abs(number - x) < 1e-4), number)
