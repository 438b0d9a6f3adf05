"""A number that is none: `nonfinite`.

    made    0.3   1.2   70112   -0.1
    target  0.3   1.2   inf     -0.1        too large for float16, whose largest number is 65504: overflow
    target  0.3   nan   ..                  made here, from inputs that are finite

One NaN reaches every later token of every later block; the first place that has one, with finite inputs, is where to look.
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
from picolab.trace.sites import SITES, layer_of

LARGEST = {"float16": 65504.0, "float8 e4m3": 448.0, "float8 e5m2": 57344.0}

Spot = tuple[str, int, tuple[int, ...], str]
"""Phase, step, index of the number, what stands there."""

MOST = 100_000
"""Numbers of a place that are looked at one by one."""


EVERY = frozenset(site.removeprefix("blocks.{i}.") for site in SITES)
"""Every kind of place there is: a NaN can be made in any line."""


@dataclass(frozen=True, kw_only=True)
class Overflow(Bend):
    """Numbers beyond `largest` become infinite at places of this kind."""

    cause = "nonfinite"
    of: str
    largest: float
    type: str

    @property
    def places(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({self.of})

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        return torch.where(value.abs() > self.largest, value.sign() * torch.inf, value)

    def says(self) -> str:
        return f"{self.of} overflows: numbers beyond {self.largest:g}, the largest of {self.type}, became infinite"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"line": self.of, "type": self.type, "largest": self.largest}


@dataclass(frozen=True, kw_only=True)
class NonFinite(Bend):
    """At these spots of one place a NaN or an infinity stands."""

    cause = "nonfinite"
    site: str
    spots: tuple[Spot, ...]

    @property
    def places(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({local(self.site)})

    def applies(self, site: str, at: Pass) -> bool:
        return site == self.site

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        value = value.clone()
        for phase, step, index, number in self.spots:
            if (phase, step) == (at.phase, at.step):
                value[index] = float(number)
        return value

    def says(self) -> str:
        phase, step, index, number = self.spots[0]
        where = "the prefill" if phase == "prefill" else f"decode step {step}"
        many = f"{len(self.spots)} numbers, the first" if len(self.spots) > 1 else "a number"
        return f"{many} at index {list(index)} in {where}, is {number} here though everything it is made of is finite"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"site": self.site, "numbers": len(self.spots), "first": list(self.spots[0][2]), "is": self.spots[0][3]}


class NonFiniteCause(Cause):
    name = "nonfinite"
    places = EVERY
    says = "a NaN or an infinity is made"
    look_for = "overflow in half precision; a row whose keys are all masked; the root of a negative number; memory never written"

    def propose(self, case: Case) -> Iterable[Bend]:
        first = case.born[0]
        sight = next((s for s in case.sights([local(first.site)]) if s.key == first), None)
        if sight is None or not _breaks(sight):
            return
        of = local(first.site)
        for type_, largest in LARGEST.items():
            if bool((sight.made.abs() > largest).any()):
                yield Overflow(of=of, largest=largest, type=type_, layers=case.layers([of]), phases=case.phases)
        spots = [spot for s in case.sights([of]) if s.key.site == first.site for spot in spots_of(s)]
        if spots:
            layer = layer_of(first.site)
            yield NonFinite(site=first.site, spots=tuple(spots), layers=None if layer is None else frozenset({layer}))

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        spots: tuple[Spot, ...] = (("prefill", 0, (0, 3, 5), "nan"),)
        return [
            NonFinite(site=site, spots=spots)
            for site in ("blocks.1.mlp_norm", "blocks.0.mlp.down")
            if site in anatomy.lines
        ]


def _breaks(sight: Sight) -> bool:
    """Whether the target has a NaN or an infinity where the reference, on the same inputs, has none."""
    target = sight.target
    if target is None or target.shape != sight.made.shape:
        return False
    return bool((~target.isfinite() & sight.made.isfinite()).any())


def spots_of(sight: Sight) -> list[Spot]:
    """Where, and what."""
    if not _breaks(sight) or sight.made.numel() > MOST:
        return []
    assert sight.target is not None
    wrong = ~sight.target.isfinite() & sight.made.isfinite()
    phase, step, _ = sight.key
    return [
        (phase, step, tuple(index), str(float(sight.target[tuple(index)]))) for index in torch.nonzero(wrong).tolist()
    ]
