"""What is a difference like whose cause nobody knows? Its size, where it sits, what simple thing was done to the right value.

    scale, sign, offset     target = a right, = -right, = right + one vector at every position
    order, shift            the same lanes or positions in another order
    element by element      every number a function of the right number alone
    where                   which heads, which lanes, which positions; does it grow with position; of what rank

Descriptions, not causes: each says how much of the error it takes away, and none is ever certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.walk import difference, time_axis

SHARE = 0.99
"""Of the squared error: what sits in these heads, lanes or positions sits there alone."""

WORTH = 0.5
"""Share of the error that something simple must take away to be worth saying."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recognised:
    """Something simple that was done to the right value, the share of the squared error that it takes away, and what it leaves."""

    name: str
    says: str
    explained: float
    residual: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """In words and numbers: `says` is a list of clauses, `recognised` what simple things come near, best first."""

    says: str
    evidence: dict[str, Any] = field(default_factory=dict)
    recognised: tuple[Recognised, ...] = ()


def describe(made: Tensor, target: Tensor, site: str) -> Description:
    """How a target's value differs from the right one at the same place, `(batch, time, ..)`, heads before time in scores."""
    if target.shape != made.shape:
        axis = time_axis(site)
        made = made.narrow(axis, made.shape[axis] - target.shape[axis], target.shape[axis])
    a, b = _rows(made, site), _rows(target, site)
    if not bool(torch.isfinite(b).all()):
        bad = (~torch.isfinite(b)).any(dim=tuple(range(1, b.ndim)))
        where = _listed(torch.nonzero(bad).flatten().tolist())
        return Description(says=f"numbers that are not finite at position {where}", evidence={"not finite at": where})
    error = (b - a).flatten(1)
    flat = a.flatten(1)
    size = float(flat.square().mean().sqrt())
    worst = difference(made, target, site)
    alike = _cosine(flat, b.flatten(1))
    evidence: dict[str, Any] = {"relative error": worst, "correlation": alike}
    clauses = [f"off by {worst:.2g} of its size, correlation {alike:.4f}"]
    clauses += _where(error, flat, a.shape, site, evidence)
    rank = _rank(error)
    evidence["rank"] = rank
    if rank <= 2 < min(error.shape):
        clauses.append(f"the error has rank {rank}")
    found = tuple(sorted(_recognised(made, target, site), key=lambda one: -one.explained))
    evidence["recognised"] = {one.name: one.explained for one in found}
    evidence["size"] = size
    return Description(
        says="; ".join([*clauses, *(one.says for one in found[:2])]), evidence=evidence, recognised=found
    )


def _rows(value: Tensor, site: str) -> Tensor:
    """Float64, of one text, position first: `(time, heads, lanes)` or `(time, lanes)`; of scores what a mask leaves."""
    value = value[0].double()
    if time_axis(site) == 1:
        return value
    seen = torch.ones(value.shape[-2:], dtype=torch.bool).tril(value.shape[-1] - value.shape[-2])
    return value.masked_fill(~seen.to(value.device), 0.0).transpose(0, 1)


def _where(error: Tensor, right: Tensor, shape: torch.Size, site: str, evidence: dict[str, Any]) -> list[str]:
    clauses = []
    if len(shape) == 3:
        heads = _few(error.unflatten(1, shape[1:]).square().sum((0, 2)))
        if heads is not None:
            evidence["heads"] = heads
            clauses.append(f"only in head {_listed(heads)} of {shape[1]}")
    lanes = _few(error.square().sum(0), most=0.25) if len(shape) == 2 else None
    if lanes is not None:
        evidence["lanes"] = lanes
        clauses.append(f"only in lanes {_listed(lanes)} of {error.shape[1]}")
    usual = float(right.norm(dim=1).square().mean().sqrt()) or 1.0
    by_position = error.norm(dim=1) / right.norm(dim=1).clamp(min=usual)
    evidence["by position"] = [round(float(x), 6) for x in by_position]
    n = len(by_position)
    if n >= 3:
        positions = _few(by_position.square(), most=0.34)
        if positions is not None:
            evidence["positions"] = positions
            clauses.append(f"only at position {_listed(positions)} of {n}")
        else:
            clauses.append(_shape(by_position, evidence))
    return clauses


def _shape(by_position: Tensor, evidence: dict[str, Any]) -> str:
    """Whether an error grows with position."""
    n = len(by_position)
    order = by_position.argsort().argsort().double()
    trend = _cosine(order - order.mean(), torch.arange(n, dtype=torch.float64) - (n - 1) / 2)
    evidence["grows with position"] = trend > 0.8
    first, rest = float(by_position[0]), float(by_position[1:].median())
    if first < 1e-3 * rest:
        return "nothing at the first position, " + ("growing after it" if trend > 0.8 else "then everywhere")
    if trend > 0.8 and float(by_position[-3:].mean()) > 2 * float(by_position[:3].mean()):
        return "it grows with position"
    if float(by_position.max()) < 3 * float(by_position.min()):
        return "much the same at every position"
    return "it does not grow with position"


def _few(energy: Tensor, most: float = 0.5) -> list[int] | None:
    """Which entries hold nearly all of it, if they are few."""
    total = float(energy.sum())
    if total == 0 or len(energy) < 2:
        return None
    order = energy.argsort(descending=True)
    count = int((energy[order].cumsum(0) < SHARE * total).sum()) + 1
    return sorted(order[:count].tolist()) if count <= most * len(energy) else None


def _rank(error: Tensor) -> int:
    """How many directions hold 99.9 % of it."""
    power = torch.linalg.svdvals(error).square()
    return int((power.cumsum(0) < 0.999 * power.sum()).sum()) + 1 if float(power.sum()) else 0


def _recognised(made: Tensor, target: Tensor, site: str) -> list[Recognised]:
    """Simple things that would make the target of the right value, each with what it leaves."""
    a, b = _rows(made, site), _rows(target, site)
    before = float((b - a).square().sum()) or 1.0
    found: list[Recognised] = []

    def weigh(name: str, says: str, guess: Tensor) -> None:
        explained = 1 - float((b - guess).square().sum()) / before
        if explained > WORTH:
            scale = float(a.flatten(1).norm(dim=1).square().mean().sqrt()) or 1.0
            residual = float((b - guess).flatten(1).norm(dim=1).max()) / scale
            share = f"{says} ({100 * explained:.2f} % of the error)"
            found.append(Recognised(name=name, says=share, explained=explained, residual=residual))

    power = float(a.square().sum()) or 1.0
    factor = float((a * b).sum()) / power
    if abs(factor + 1) < 1e-3:
        weigh("sign", "the sign is turned", -a)
    elif factor:
        weigh("scale", f"{factor:.6g} times the right value", factor * a)
    if len(a) > 2 and time_axis(site) == 1:
        weigh("offset", "one vector added at every position", a + (b - a).mean(0, keepdim=True))
        for shift in (1, -1):
            weigh("shift", f"the value of the position {'before' if shift > 0 else 'after'}", a.roll(shift, 0))
        order = _lane_order(a.flatten(1), b.flatten(1))
        if order is not None:
            words = _head_order(order, a.shape) or f"lanes in another order, {_listed(order[:8])}.."
            weigh("order", words, a.flatten(1)[:, order].reshape(a.shape))
    smooth = _by_element(a.flatten(), b.flatten())
    if smooth is not None:
        weigh("function", "every number a function of the right number alone", smooth.reshape(a.shape))
    return found


def _lane_order(a: Tensor, b: Tensor) -> list[int] | None:
    """Which lane of the right value every lane of the target's is nearest to, if that is an order."""
    if a.shape[1] > 4096 or a.shape[0] < 3:
        return None
    order = torch.cdist(b.T, a.T).argmin(1).tolist()
    return order if len(set(order)) == len(order) and order != list(range(len(order))) else None


def _head_order(order: Sequence[int], shape: torch.Size) -> str | None:
    """In words, where whole heads changed places."""
    if len(shape) != 3:
        return None
    width = shape[2]
    heads = torch.tensor(order).reshape(shape[1], width)
    if bool((heads % width == torch.arange(width)).all()):
        return f"heads in the order {_listed([int(row[0]) // width for row in heads])}"
    return None


def _by_element(a: Tensor, b: Tensor) -> Tensor | None:
    """The best guess of every number from the right number alone: the middle of those whose right numbers are next to it."""
    if not 64 <= len(a) <= 2**20:
        return None
    order = a.argsort()
    sorted_b = b[order]
    neighbours = (sorted_b.roll(1) + sorted_b.roll(-1)) / 2
    neighbours[0], neighbours[-1] = sorted_b[0], sorted_b[-1]
    guess = torch.empty_like(b)
    guess[order] = neighbours
    return guess


def _cosine(a: Tensor, b: Tensor) -> float:
    size = float(a.norm() * b.norm())
    return float((a * b).sum()) / size if size else 0.0


def _listed(numbers: Sequence[int]) -> str:
    """`0-8, 12`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [
        str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" if len(run) > 2 else f"{run[0]}, {run[-1]}"
        for run in runs
    ]
    return ", ".join(parts[:8]) + (", .." if len(parts) > 8 else "")
