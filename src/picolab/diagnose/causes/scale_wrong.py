"""Scores scaled by the wrong number, or not at all: `scale-wrong`, `scale-missing`.

    right    q . k / sqrt(head_dim)          wrong    q . k,  q . k / head_dim,  q . k / sqrt(d_model),  scaled twice, ..

The number is fitted, then looked up among those that code gets wrong.
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


@dataclass(frozen=True, kw_only=True)
class ScaleWrong(Bend):
    """Scores `factor` times too large."""

    cause = "scale-wrong"
    places = frozenset({"attention.scores"})
    dial = ("factor", 1e-3, 1e3)
    factor: float
    name: str = ""

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        return value * self.factor

    def says(self) -> str:
        return f"scores are {self.factor:.6g} times the reference's" + (f", which is {self.name}" if self.name else "")

    @property
    def evidence(self) -> dict[str, Any]:
        return {"factor": self.factor, "which is": self.name}


class ScaleWrongCause(Cause):
    name = "scale-wrong"
    places = frozenset({"attention.scores"})
    says = "attention scores are scaled by another number than 1 / sqrt(head_dim), or scaled twice"
    look_for = "the `scale` given to the attention kernel, and whether queries were scaled before it as well"

    def propose(self, case: Case) -> Iterable[Bend]:
        layers = case.layers(self.places)
        named = factors(case.anatomy)
        fitted = fitted_factor(case)
        if fitted is not None:
            exact = next((f for f in named if math.isclose(f, fitted, rel_tol=1e-4)), fitted)
            yield ScaleWrong(factor=exact, name=named.get(exact, ""), layers=layers)
        else:
            for factor, name in named.items():
                yield ScaleWrong(factor=factor, name=name, layers=layers)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        if not any(line.kind == "scores" for line in anatomy.lines.values()):
            return []
        return [ScaleWrong(factor=factor, name=name) for factor, name in factors(anatomy).items()]


def factors(anatomy: Anatomy) -> dict[float, str]:
    """Factors that wrong code makes, with what each is."""
    config = anatomy.model.config
    head_dim = getattr(config, "head_dim", 0) or config.d_model // config.n_heads
    wide = config.d_model
    return {
        math.sqrt(head_dim): f"sqrt(head_dim) = sqrt({head_dim}): not scaled at all",
        1 / math.sqrt(head_dim): f"1/sqrt(head_dim) = 1/sqrt({head_dim}): scaled twice, or by 1/head_dim",
        math.sqrt(head_dim / wide): f"sqrt(head_dim/d_model) = sqrt({head_dim}/{wide}): scaled by 1/sqrt(d_model)",
        head_dim: f"head_dim = {head_dim}: multiplied by sqrt(head_dim) instead of divided",
    }


def fitted_factor(case: Case) -> float | None:
    """The factor that fits target = factor x made best, where the target shows scores."""
    top = bottom = 0.0
    for sight in case.sights(["attention.scores"]):
        if sight.target is None:
            return None
        made, target = sight.made.double(), sight.target.double()
        seen = torch.ones(made.shape[-2:], dtype=torch.bool).tril(made.shape[-1] - made.shape[-2])
        top += float((made * target)[..., seen].sum())
        bottom += float((made * made)[..., seen].sum())
    return top / bottom if bottom else None
