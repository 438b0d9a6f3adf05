"""A norm with another epsilon: `norm-eps`.

    x / sqrt(mean(x^2) + eps)        1e-5 against 1e-6 is a difference of five in a million for a stream of size 1

Recovered by solving each position's norm for eps; a wrong eps gives the same answer everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cause import Bend, Case, Cause, Sight
from picolab.diagnose.walk import Pass, local
from picolab.parts.norm import LayerNorm

NORMS = frozenset({"attention_norm", "mlp_norm", "final_norm", "attention.q_norm", "attention.k_norm"})

USUAL = (1e-5, 1e-6, 1e-8, 1e-12, 1e-3, 0.0)


@dataclass(frozen=True, kw_only=True)
class NormEps(Bend):
    """`eps` in place of `right`, at the norms in `of`."""

    cause = "norm-eps"
    places = NORMS
    dial = ("eps", 1e-12, 1.0)
    eps: float
    right: float
    of: frozenset[str] = NORMS

    @property
    def kinds(self) -> frozenset[str]:
        return self.of

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        x, line = at.read(site).double(), at.line(site)
        centred = x - x.mean(-1, keepdim=True) if isinstance(line.module, LayerNorm) else x
        power = centred.square().mean(-1, keepdim=True)
        ratio = torch.sqrt((power + self.right) / (power + self.eps)).to(value.dtype)
        return value * ratio if line.bias is None else (value - line.bias) * ratio + line.bias

    def says(self) -> str:
        which = "every norm" if self.of == NORMS else " and ".join(sorted(self.of))
        return f"{which} adds eps = {self.eps:.3g} where the reference adds {self.right:.3g}"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"eps": self.eps, "reference eps": self.right, "of": sorted(self.of)}


class NormEpsCause(Cause):
    name = "norm-eps"
    places = NORMS
    says = "a norm divides by the root of its input's power plus another epsilon"
    look_for = "the eps read from the config (`rms_norm_eps`, `layer_norm_epsilon`) against the one passed to the norm"

    def propose(self, case: Case) -> Iterable[Bend]:
        right = float(case.anatomy.model.config.norm_eps)
        shown = frozenset(local(key.site) for key in case.born) & NORMS
        hidden = sorted(NORMS & set(case.suspects))
        fitted = [eps for sight in case.sights(NORMS) if (eps := fitted_eps(sight, right)) is not None]
        guesses = [eps for eps in USUAL if eps != right]
        if fitted:
            middle = float(torch.tensor(fitted, dtype=torch.float64).median())
            near = [eps for eps in guesses if abs(eps - middle) <= 0.05 * abs(middle) + 1e-12]
            guesses = [*near, max(middle, 0.0)]
        for of in [shown] if shown else [NORMS, *(frozenset({place}) for place in hidden)]:
            for eps in guesses:
                yield NormEps(eps=eps, right=right, of=of, layers=case.layers(of), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        right = float(anatomy.model.config.norm_eps)
        return [NormEps(eps=eps, right=right) for eps in (1e-2, right * 10) if eps != right]


def fitted_eps(sight: Sight, right: float) -> float | None:
    """The eps that gives the target's size at the position where it shows most."""
    if sight.target is None:
        return None
    x, made, target = sight.input().double(), sight.made.double(), sight.target.double()
    if sight.line.bias is not None:
        made, target = made - sight.line.bias, target - sight.line.bias
    if isinstance(sight.line.module, LayerNorm):
        x = x - x.mean(-1, keepdim=True)
    power = x.square().mean(-1)
    ratio = (made * target).sum(-1) / (made * made).sum(-1)  # target = ratio x made
    position = int(power.flatten().argmin())
    solved = (power.flatten()[position] + right) / ratio.flatten()[position] ** 2 - power.flatten()[position]
    return float(solved) if torch.isfinite(solved) else None
