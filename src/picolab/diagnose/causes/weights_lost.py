"""A matrix that is not the checkpoint's at all, or is it times a number: `weight-unloaded`, `weight-scaled`.

    unloaded   left as it was made: all zeros, or all the same number     y = c sum(x) + b, c recovered
    scaled     W times a number: a quantisation scale forgotten,           y = c W x + b, c recovered
               a parametrisation's ratio, a merge applied twice

A matrix left with random initial values cannot be proved from what comes out of it; it is described, not named. Where what a matrix
makes is not shown, only zeros are tried: nothing comes out of them, whatever goes in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import LINEAR, Anatomy
from picolab.diagnose.causes.cause import Bend, Case, Sight, close
from picolab.diagnose.causes.weights import At, LinearCause, finish, outcome
from picolab.diagnose.walk import Pass, local


@dataclass(frozen=True, kw_only=True)
class WeightUnloaded(At):
    """Every number of the matrix is `number`; its bias too is 0 where `bias_too`."""

    cause = "weight-unloaded"
    number: float = 0.0
    bias_too: bool = False

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        line = at.line(site)
        assert line.weight is not None
        bias = torch.zeros_like(line.bias) if self.bias_too and line.bias is not None else None
        weight = torch.full_like(line.weight, self.number)
        return finish(outcome(at.read(site), line, weight, bias), value, at, site)

    def says(self) -> str:
        also = ", its bias 0" if self.bias_too else ""
        return f"the matrix that makes {self.of} was never loaded: every number in it is {self.number:.4g}{also}"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"line": self.of, "number": self.number, "bias too": self.bias_too}


@dataclass(frozen=True, kw_only=True)
class WeightScaled(At):
    cause = "weight-scaled"
    factor: float
    bias_too: bool = False

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        line = at.line(site)
        assert line.weight is not None
        bias = line.bias * self.factor if self.bias_too and line.bias is not None else None
        return finish(outcome(at.read(site), line, line.weight * self.factor, bias), value, at, site)

    def says(self) -> str:
        what = "the matrix and the bias that make" if self.bias_too else "the matrix that makes"
        return f"{what} {self.of} are {self.factor:.6g} times the reference's" if self.bias_too else (
            f"{what} {self.of} is {self.factor:.6g} times the reference's"
        )  # fmt: skip

    @property
    def evidence(self) -> dict[str, Any]:
        return {"line": self.of, "factor": self.factor, "bias too": self.bias_too}


class WeightUnloadedCause(LinearCause):
    name = "weight-unloaded"
    places = frozenset(LINEAR)
    says = "a matrix still holds what it was made with"
    look_for = (
        "`strict=False`, names that match nothing, a tensor of a shard that was not read, weights made after loading"
    )

    def propose(self, case: Case) -> Iterable[Bend]:
        for of in self.lines(case):
            sight = next(_shown(case, of), None)
            if sight is None:
                if _has(case.anatomy, of):
                    yield WeightUnloaded(of=of, layers=case.layers([of]), phases=case.phases)
                continue
            for bias_too in (False, True) if sight.line.bias is not None else (False,):
                number = _constant(sight, bias_too)
                if number is not None:
                    yield WeightUnloaded(
                        of=of, number=number, bias_too=bias_too, layers=case.layers([of]), phases=case.phases
                    )

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [WeightUnloaded(of=of, layers=frozenset({1})) for of in ("mlp.up",) if _has(anatomy, of)]


class WeightScaledCause(LinearCause):
    name = "weight-scaled"
    places = frozenset(LINEAR)
    says = "a matrix is the right one times a number"
    look_for = "a scale of quantisation left out or applied twice, a ratio of muP or LoRA, a merge done again"

    def propose(self, case: Case) -> Iterable[Bend]:
        for of in self.lines(case):
            for sight in _shown(case, of):
                for bias_too in (False, True) if sight.line.bias is not None else (False,):
                    factor = _factor(sight, bias_too)
                    if factor is not None:
                        yield WeightScaled(
                            of=of, factor=factor, bias_too=bias_too, layers=case.layers([of]), phases=case.phases
                        )
                break

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [
            WeightScaled(of=of, factor=0.125, layers=frozenset({1})) for of in ("attention.v",) if _has(anatomy, of)
        ]


def _shown(case: Case, of: str) -> Iterator[Sight]:
    for sight in case.sights([of]):
        if sight.target is not None and sight.line.weight is not None:
            yield sight


def _parts(sight: Sight, bias_too: bool) -> tuple[Tensor, Tensor]:
    """What the matrix alone makes, and made in the target; both flat, the bias taken off unless it is part of the question."""
    assert sight.target is not None
    made, target = sight.made.double().flatten(2), sight.target.double().flatten(2)
    if bias_too or sight.line.bias is None:
        return made, target
    return made - sight.line.bias, target - sight.line.bias


def _factor(sight: Sight, bias_too: bool) -> float | None:
    """The number that makes the reference's outcome the target's, if one does."""
    made, target = _parts(sight, bias_too)
    factor = float((made * target).sum() / made.square().sum().clamp(min=1e-300))
    return factor if factor and close(made * factor, target) and abs(factor - 1) > 1e-6 else None


def _constant(sight: Sight, bias_too: bool) -> float | None:
    """The one number that all weights are, if what comes out says so: the same in every lane, in step with the input's sum."""
    assert sight.target is not None
    target = sight.target.double().flatten(2)
    if not bias_too and sight.line.bias is not None:
        target = target - sight.line.bias
    total = sight.input().double().sum(-1, keepdim=True).expand_as(target)
    size = float(sight.made.double().norm())
    if float(target.norm()) <= 1e-6 * size:
        return 0.0
    number = float((total * target).sum() / total.square().sum().clamp(min=1e-300))
    return number if close(total * number, target) else None


def _has(anatomy: Anatomy, of: str) -> bool:
    return any(line.weight is not None for site, line in anatomy.lines.items() if local(site) == of)
