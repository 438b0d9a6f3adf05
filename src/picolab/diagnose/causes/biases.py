"""A bias that is missing, added twice, or where none belongs: `bias-missing`, `bias-extra`.

right    x W^T + b          missing    x W^T          twice    x W^T + 2 b          extra    x W^T + the same vector at every token
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy, Line
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.causes.weights import PLACES as LINES
from picolab.diagnose.causes.weights import flat
from picolab.diagnose.walk import Pass, local

PLACES = LINES | {"attention_norm", "mlp_norm", "final_norm"}


@dataclass(frozen=True, kw_only=True)
class Biased(Bend):
    """The line's bias is counted `times` times."""

    places = PLACES
    of: str
    times: float = 0.0

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset({self.of})

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        bias = at.line(site).bias
        return value if bias is None else (flat(value) + (self.times - 1) * bias).reshape(value.shape)

    @property
    def evidence(self) -> dict[str, Any]:
        return {"line": self.of, "bias counted": self.times}


@dataclass(frozen=True, kw_only=True)
class BiasMissing(Biased):
    cause = "bias-missing"

    def says(self) -> str:
        return f"the bias of {self.of} is not added"


@dataclass(frozen=True, kw_only=True)
class BiasExtra(Biased):
    cause = "bias-extra"

    def says(self) -> str:
        return f"the bias of {self.of} is added {self.times:g} times"


@dataclass(frozen=True, kw_only=True)
class VectorExtra(Bend):
    """One vector is added at every token, by block."""

    cause = "bias-extra"
    places = PLACES
    of: str
    vectors: tuple[tuple[str, tuple[float, ...]], ...]

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset({self.of})

    def applies(self, site: str, at: Pass) -> bool:
        return site in dict(self.vectors) and super().applies(site, at)

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        vector = torch.tensor(dict(self.vectors)[site], dtype=value.dtype, device=value.device)
        return (flat(value) + vector).reshape(value.shape)

    def says(self) -> str:
        sizes = [sum(x * x for x in vector) ** 0.5 for _, vector in self.vectors]
        return f"the same vector, {max(sizes):.3g} long, is added to {self.of} at every token"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"line": self.of, "vectors": {site: list(vector[:8]) for site, vector in self.vectors}}


class BiasMissingCause(Cause):
    name = "bias-missing"
    places = PLACES
    says = "a bias of the reference is not added"
    look_for = (
        "`bias=False` where the checkpoint has one; a fast path that drops it; a tensor that was loaded and never used"
    )
    times: tuple[float, ...] = (0.0,)
    bend: type[Biased] = BiasMissing

    def propose(self, case: Case) -> Iterable[Bend]:
        for of in biased_lines(case):
            for times in self.times:
                yield self.bend(of=of, times=times, layers=case.layers([of]), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        lines = [line for line in anatomy.lines.values() if line.bias is not None and line.site.startswith("blocks.0.")]
        kinds = [local(line.site) for line in lines if local(line.site) in PLACES]
        return [self.bend(of=kind, times=self.times[0]) for kind in kinds[:4]]


class BiasExtraCause(BiasMissingCause):
    name = "bias-extra"
    says = "a bias is added twice, or one the reference does not have"
    look_for = "a bias added by a kernel and again after it; one copied to every rank and summed"
    times = (2.0, 3.0, -1.0)
    bend = BiasExtra

    def propose(self, case: Case) -> Iterable[Bend]:
        yield from super().propose(case)
        for of in sorted(set(case.suspects) & PLACES):
            found = constant_residuals(case, of)
            if found:
                yield VectorExtra(of=of, vectors=found, phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        line = anatomy.lines.get("blocks.1.attention.out")
        if line is None or line.weight is None:
            return super().examples(anatomy)
        vector = tuple(torch.linspace(-1, 1, line.weight.shape[0]).tolist())
        return [*super().examples(anatomy)[:1], VectorExtra(of="attention.out", vectors=((line.site, vector),))]


def biased_lines(case: Case) -> Iterator[str]:
    """Kinds of lines under suspicion that have a bias."""

    def has_bias(line: Line) -> bool:
        return line.bias is not None and local(line.site) in PLACES

    kinds = {local(line.site) for line in case.anatomy.lines.values() if has_bias(line)}
    yield from sorted(kinds & set(case.suspects))


def constant_residuals(case: Case, of: str) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """By block, the vector by which the target is off at every one of at least three tokens; empty where it is no vector."""
    gaps: dict[str, list[Tensor]] = {}
    for sight in case.sights([of]):
        if sight.target is None or sight.target.shape != sight.made.shape:
            return ()
        gaps.setdefault(sight.key.site, []).append((flat(sight.target) - flat(sight.made)).flatten(0, 1).double())
    found = []
    for site, parts in gaps.items():
        rows = torch.cat(parts)
        mean = rows.mean(0)
        if len(rows) < 3 or float((rows - mean).norm(dim=1).max()) > 1e-3 * float(mean.norm()):
            return ()
        found.append((site, tuple(mean.tolist())))
    return tuple(found)
