"""Rotation by the wrong angles: `rope-theta`, `rope-scaling`, `rope-offset`, `rope-partial`, `rope-missing`.

    right angle of pair i at position p     p theta^(-2i/d)
    theta      another base: slow pairs are off most, and more with every position
    scaling    speeds slowed, or not, all alike (linear) or by band (llama3, yarn)
    offset     positions counted from 1, or restarted, or the cache's length taken for the position
    partial    only the first pairs turn; the rest stay
    missing    nothing turns

The target's speeds and offset are measured from its own queries and keys; only then are they given a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.causes.rotation import (
    PLACES,
    Turned,
    positions_of,
    rope_of,
    rotates,
    speeds_of,
    spoken,
    theta_of,
    turn_by,
    turned,
    wrong_places,
)
from picolab.diagnose.walk import Pass
from picolab.parts.rope import Rope, frequencies

ALIKE = 1e-3
"""How near measured speeds must be to a rule's, relatively, to be worth a replay."""


@dataclass(frozen=True, kw_only=True)
class RopeAngles(Bend):
    """Pairs turn by (position + offset) x speed, of other speeds or another offset than the reference's."""

    places = PLACES
    of: frozenset[str] = PLACES

    @property
    def kinds(self) -> frozenset[str]:
        return self.of

    def speeds(self, at: Pass) -> Tensor:
        return speeds_of(at.anatomy)

    def shift(self) -> float:
        return 0.0

    def magnitude(self, at: Pass) -> float:
        return rope_of(at).magnitude

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        positions = positions_of(at, value.device).double() + self.shift()
        return turn_by(at.read(site), positions, self.speeds(at).to(value.device), self.magnitude(at))


@dataclass(frozen=True, kw_only=True)
class RopeTheta(RopeAngles):
    cause = "rope-theta"
    dial = ("theta", 10.0, 1e8)
    theta: float
    right: float

    def speeds(self, at: Pass) -> Tensor:
        rope = rope_of(at)
        return frequencies(rope.head_dim, self.theta, rope.scaling).double() * rope.sense

    def says(self) -> str:
        return f"{spoken(self.of)} turned with theta {self.theta:.6g} where the reference has {self.right:.6g}"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"theta": self.theta, "reference theta": self.right, "of": sorted(self.of)}


@dataclass(frozen=True, kw_only=True)
class RopeScalingWrong(RopeAngles):
    """Every pair at `factors` times the reference's speed."""

    cause = "rope-scaling"
    factors: tuple[float, ...]
    size: float | None = None
    name: str = ""

    def speeds(self, at: Pass) -> Tensor:
        return speeds_of(at.anatomy) * torch.tensor(self.factors, dtype=torch.float64)

    def magnitude(self, at: Pass) -> float:
        return super().magnitude(at) if self.size is None else self.size

    def says(self) -> str:
        if self.name:
            return f"{spoken(self.of)} turned {self.name}"
        if max(self.factors) - min(self.factors) < 1e-6:
            return f"{spoken(self.of)} turned {self.factors[0]:.5g} times as fast as the reference, all pairs alike"
        low, high = min(self.factors), max(self.factors)
        return f"{spoken(self.of)} turned at {low:.4g} to {high:.4g} times the reference's speeds, pair by pair"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"speed of each pair over the reference's": list(self.factors), "of": sorted(self.of)}


@dataclass(frozen=True, kw_only=True)
class RopeOffset(RopeAngles):
    cause = "rope-offset"
    offset: int

    def shift(self) -> float:
        return float(self.offset)

    def says(self) -> str:
        return f"{spoken(self.of)} turned as if at position p {'+' if self.offset > 0 else '-'} {abs(self.offset)}" + (
            " when decoding" if self.phases == frozenset({"decode"}) else ""
        )

    @property
    def evidence(self) -> dict[str, Any]:
        return {"offset": self.offset, "of": sorted(self.of)}


@dataclass(frozen=True, kw_only=True)
class RopePartial(RopeAngles):
    """Only the first `pairs` pairs turn. `own` says that they turn at the speeds of a head only so wide."""

    cause = "rope-partial"
    pairs: int
    total: int

    def speeds(self, at: Pass) -> Tensor:
        speeds = speeds_of(at.anatomy).clone()
        speeds[self.pairs :] = 0.0
        return speeds

    def says(self) -> str:
        return f"only {self.pairs} of {self.total} pairs of lanes of {spoken(self.of)} turn"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"pairs that turn": self.pairs, "pairs": self.total, "of": sorted(self.of)}


@dataclass(frozen=True, kw_only=True)
class RopeMissing(RopeAngles):
    cause = "rope-missing"

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        return at.read(site)

    def says(self) -> str:
        return f"{spoken(self.of)} not turned at all"


class RopeCause(Cause):
    """What the five have in common."""

    places = PLACES

    def propose(self, case: Case) -> Iterable[Bend]:
        if not rotates(case.anatomy):
            return
        measured = turned(case)
        for of in wrong_places(case):
            yield from self.guesses(case, measured, of)

    def guesses(self, case: Case, measured: Turned | None, of: frozenset[str]) -> Iterable[Bend]:
        raise NotImplementedError


class RopeMissingCause(RopeCause):
    name = "rope-missing"
    says = "queries or keys are not rotated"
    look_for = "a rotation computed and not assigned, applied to one of the two, or left out in the decode path"

    def guesses(self, case: Case, measured: Turned | None, of: frozenset[str]) -> Iterable[Bend]:
        yield RopeMissing(of=of, layers=case.layers(PLACES), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [RopeMissing(), RopeMissing(of=frozenset({"attention.k_rope"}))] if rotates(anatomy) else []


class RopeThetaCause(RopeCause):
    name = "rope-theta"
    says = "the base of the rotation is another number"
    look_for = (
        "`rope_theta` read from the config (top level or under `rope_parameters`), and the default where it is not"
    )

    def guesses(self, case: Case, measured: Turned | None, of: frozenset[str]) -> Iterable[Bend]:
        right = _rope(case.anatomy).theta
        theta = None if measured is None else theta_of(case.anatomy, measured.speeds)
        thetas = [10000.0, 500000.0, 1000000.0] if theta is None else [*_usual(theta), theta]
        for guess in thetas:
            if abs(guess / right - 1) > 1e-9:
                yield RopeTheta(theta=guess, right=right, of=of, layers=case.layers(PLACES), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return (
            [RopeTheta(theta=theta, right=_rope(anatomy).theta) for theta in (10000.0, 61.0)]
            if rotates(anatomy)
            else []
        )


class RopeScalingCause(RopeCause):
    name = "rope-scaling"
    says = "pairs are slowed by another rule than the reference's, or not slowed"
    look_for = (
        "`rope_scaling` or `rope_parameters` in the config, and whether the engine reads its kind and all its numbers"
    )

    def guesses(self, case: Case, measured: Turned | None, of: frozenset[str]) -> Iterable[Bend]:
        rope = _rope(case.anatomy)
        layers, phases = case.layers(PLACES), case.phases
        right = speeds_of(case.anatomy)
        if rope.scaling is not None:
            plain = frequencies(rope.head_dim, rope.theta).double() * rope.sense / right
            name = f"without the reference's `{rope.scaling.kind}` scaling"
            for size in dict.fromkeys((1.0, rope.magnitude)):
                yield RopeScalingWrong(
                    factors=tuple(plain.tolist()), size=size, name=name, of=of, layers=layers, phases=phases
                )
        if measured is None:
            factors = [(f,) * len(right) for f in (0.5, 0.25, 0.125, 2.0)]
        else:
            ratio = measured.speeds / right
            middle = float(ratio.median())
            alike = float((ratio - middle).abs().max()) < ALIKE * abs(middle)
            factors = [(_round(middle),) * len(right)] if alike else [tuple(ratio.tolist())]
        for each in factors:
            yield RopeScalingWrong(factors=each, of=of, layers=layers, phases=phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        half = len(speeds_of(anatomy)) if rotates(anatomy) else 0
        return [RopeScalingWrong(factors=(0.25,) * half)] if half else []


class RopeOffsetCause(RopeCause):
    name = "rope-offset"
    says = "tokens are turned as if they stood elsewhere"
    look_for = (
        "positions while decoding: the number of tokens read before, not after; positions that restart with every chunk"
    )

    def guesses(self, case: Case, measured: Turned | None, of: frozenset[str]) -> Iterable[Bend]:
        offsets = [1, -1, 2] if measured is None or not measured.offset else [int(measured.offset)]
        for offset in offsets:
            yield RopeOffset(offset=offset, of=of, layers=case.layers(PLACES), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        if not rotates(anatomy):
            return []
        decode, queries = frozenset({"decode"}), frozenset({"attention.q_rope"})
        return [RopeOffset(offset=1, phases=decode), RopeOffset(offset=1, of=queries)]


class RopePartialCause(RopeCause):
    name = "rope-partial"
    says = "only some of the pairs turn"
    look_for = "`rotary_dim`, `partial_rotary_factor`, or a width of heads that was written into the code"

    def guesses(self, case: Case, measured: Turned | None, of: frozenset[str]) -> Iterable[Bend]:
        half = len(speeds_of(case.anatomy))
        if measured is None:
            counts = [half // 2]
        else:
            counts = [int((measured.speeds.abs() > 1e-6).sum())]
        for pairs in counts:
            if 0 < pairs < half:
                yield RopePartial(pairs=pairs, total=half, of=of, layers=case.layers(PLACES), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        half = len(speeds_of(anatomy)) if rotates(anatomy) else 0
        return [RopePartial(pairs=half // 2, total=half)] if half > 1 else []


def _rope(anatomy: Anatomy) -> Rope:
    rope = anatomy.model.get_submodule("rope")
    assert isinstance(rope, Rope)
    return rope


def _usual(theta: float) -> list[float]:
    """The round number that a measured theta stands for."""
    rounded = float(f"{theta:.3g}")
    return [rounded] if abs(rounded / theta - 1) < 1e-2 else []


def _round(factor: float) -> float:
    """1/4 for 0.2500001."""
    near = [n for n in (2.0, 4.0, 8.0, 16.0, 32.0) for n in (n, 1 / n)]
    return next((n for n in near if abs(factor / n - 1) < 1e-3), factor)
