"""What causes about rotary positions share: what a rotation reads, by which angles the model turns, by which the target turned.

(target_low + i target_high) / (x_low + i x_high) = e^(i angle) at every position, pair and head
neighbouring positions: angle(p) - angle(p - 1) = speed of the pair          one position: angle(p) - p speed = offset
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cause import Case, Sight
from picolab.diagnose.walk import Pass, local
from picolab.parts.rope import Rope, Rotation, frequencies, rotate

PLACES = frozenset({"attention.q_rope", "attention.k_rope"})


def rotates(anatomy: Anatomy) -> bool:
    return any(line.kind == "rotation" for line in anatomy.lines.values())


def rope_of(at: Pass) -> Rope:
    rope = at.model.get_submodule("rope")
    assert isinstance(rope, Rope)
    return rope


def speeds_of(anatomy: Anatomy) -> Float[Tensor, " half"]:
    """Radians a position of every pair, as the reference turns them, its sense included."""
    rope = anatomy.model.get_submodule("rope")
    assert isinstance(rope, Rope)
    return frequencies(rope.head_dim, rope.theta, rope.scaling).double() * rope.sense


def turn_by(x: Tensor, positions: Tensor, speeds: Tensor, magnitude: float = 1.0) -> Tensor:
    """Pairs (i, half + i) turned by position x speed."""
    angle = positions.double()[None, :, None, None] * speeds.double()
    return rotate(x, Rotation((angle.cos() * magnitude).to(x.dtype), (angle.sin() * magnitude).to(x.dtype)))


def positions_of(at: Pass, device: torch.device) -> Tensor:
    return torch.tensor(at.positions, device=device)


@dataclass(frozen=True, slots=True)
class Turned:
    """By what the target turned its pairs: speeds in radians a position, an offset in positions, how well that fits (1: whole)."""

    speeds: Float[Tensor, " half"]
    offset: float
    fit: float


def turned(case: Case) -> Turned | None:
    """The target's rotation, if its queries or keys after it are shown for a run of positions; pairs as the reference has them."""
    steps: list[Tensor] = []
    phases: list[tuple[Tensor, Tensor]] = []
    for sight in _shown(case):
        spun = _spin(sight)
        where = positions_of(sight.at, spun.device).double()
        phases.append((where, spun))
        if spun.shape[0] > 1:
            steps.append((spun[1:] * spun[:-1].conj()).sum(0))
    if not steps:
        return None
    total = torch.stack(steps).sum(0)
    speeds = torch.angle(total)
    left = torch.stack([(spun * torch.exp(-1j * where[:, None] * speeds)).sum(0) for where, spun in phases]).sum(0)
    weight = torch.stack([spun.abs().sum(0) for _, spun in phases]).sum(0)
    # The fastest pair tells the offset, if it is a whole number; slower ones tell which multiple of a turn it is.
    offset = _offset(torch.angle(left), speeds)
    model = torch.exp(1j * offset * speeds)
    fit = float(((left * model.conj()).real / weight.clamp(min=1e-12)).min())
    return Turned(speeds=speeds, offset=offset, fit=fit)


def _shown(case: Case) -> Iterator[Sight]:
    for sight in case.sights(PLACES):
        if sight.target is not None and sight.target.shape == sight.made.shape:
            yield sight


def _spin(sight: Sight) -> Complex[Tensor, "time half"]:
    """Target over source as complex numbers, summed over heads with the sizes as weights."""
    x, y = sight.input().double(), sight.target
    assert y is not None
    low, high = x.chunk(2, dim=-1)
    a, b = y.double().chunk(2, dim=-1)
    return (torch.complex(a, b) * torch.complex(low, -high)).sum(dim=(0, 2))


def _offset(phase: Tensor, speeds: Tensor) -> float:
    """The whole number of positions that explains the phases that are left."""
    candidates = range(-64, 65)
    agree = [float(torch.cos(phase - k * speeds).sum()) for k in candidates]
    best = max(range(len(agree)), key=lambda i: (round(agree[i], 6), -abs(candidates[i])))
    return float(candidates[best])


def wrong_places(case: Case) -> list[frozenset[str]]:
    """Of queries and keys those whose rotation is wrong; with one of them not shown, both as well; with neither, every choice."""
    wrong = frozenset(local(key.site) for key in case.born) & PLACES
    shown = frozenset(local(key.site) for key in case.target) & PLACES
    if not wrong:
        return [PLACES, *(frozenset({place}) for place in sorted(PLACES))]
    return [wrong] if shown == PLACES else [PLACES, wrong]


def spoken(of: frozenset[str]) -> str:
    """`q and k`."""
    return " and ".join(sorted((place[10] for place in of), reverse=True))


def theta_of(anatomy: Anatomy, speeds: Tensor) -> float | None:
    """The theta that gives these speeds, under the reference's own scaling; None where no theta comes near."""
    rope = anatomy.model.get_submodule("rope")
    assert isinstance(rope, Rope)
    if float(speeds.abs().min()) < 1e-12:
        return None
    wanted = speeds.abs().log()

    def off(log_theta: float) -> float:
        made = frequencies(rope.head_dim, math.exp(log_theta), rope.scaling).double()
        return float((made.log() - wanted).square().mean())

    steps = [1.0 + 0.5 * i for i in range(40)]  # theta from 2.7 to 4e8
    best = min(steps, key=off)
    a, b = best - 0.5, best + 0.5
    for _ in range(60):
        c, d = b - (b - a) * 0.6180339887498949, a + (b - a) * 0.6180339887498949
        a, b = (a, d) if off(c) < off(d) else (c, b)
    theta = (a + b) / 2
    return math.exp(theta) if off(theta) < 1e-4 else None
