"""How different from each other can more vectors than dimensions be? Four ways to spread them, and the bound none can pass.

coherence   the largest |cosine| of two rows            Welch 1974:  max >= sqrt((V - d) / (d (V - 1)))

random        Gaussian rows                             nothing to pay; max about sqrt(4 ln V / d)
gram-schmidt  one orthonormal basis after another       within a basis exactly 0, between bases as random
annealing     move one row, keep it if that helps, and sometimes if not     Kirkpatrick, Gelatt, Vecchi 1983
gradient      descent on the sum of cos^P               P large is nearly the maximum, and has a gradient everywhere
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from picolab.counts.embeddings import orthonormal
from picolab.errors import BadSetting, UnknownName

BLOCK, POWER = 2048, 8

Rows = Float[Tensor, "vocab d_model"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Unit rows, how coherent they are, and what making them took; `welch` is the least that `largest` can be."""

    method: str
    rows: Rows
    largest: float
    mean: float
    welch: float
    seconds: float

    @property
    def says(self) -> str:
        """In a line: the method, its coherence beside the bound, and what it took."""
        return (
            f"{self.method}, two rows meet at a cosine of at most {self.largest:.3f}, {self.mean:.3f} on average; "
            f"{self.welch:.3f} is the least possible; {self.seconds:.1f} s"
        )


def welch(vocab_size: int, d_model: int) -> float:
    """The least coherence of so many vectors in so few dimensions; 0 where all can be orthogonal."""
    if vocab_size <= d_model:
        return 0.0
    return math.sqrt((vocab_size - d_model) / (d_model * (vocab_size - 1)))


def coherence(rows: Rows) -> tuple[float, float]:
    """The largest and the mean |cosine| of two different rows; blocks of `BLOCK` rows at a time."""
    unit, largest, total = _unit(rows), 0.0, 0.0
    for start in range(0, len(unit), BLOCK):
        cosines = (unit[start : start + BLOCK] @ unit.T).abs()
        own = torch.arange(start, min(start + BLOCK, len(unit)))
        cosines[own - start, own] = 0.0
        largest, total = max(largest, float(cosines.max())), total + float(cosines.double().sum())
    return largest, total / max(len(unit) * (len(unit) - 1), 1)


def random(vocab_size: int, d_model: int, generator: torch.Generator) -> Rows:
    """Gaussian directions."""
    return _unit(torch.randn(vocab_size, d_model, generator=generator))


def gram_schmidt(vocab_size: int, d_model: int, generator: torch.Generator) -> Rows:
    """Orthonormal bases one after another, the last one cut short."""
    bases = [orthonormal(d_model, d_model, generator) for _ in range(-(-vocab_size // d_model))]
    return torch.cat(bases)[:vocab_size].float()


def annealing(vocab_size: int, d_model: int, generator: torch.Generator, *, steps: int = 20_000) -> Rows:
    """Move a row at random; what lowers its own largest cosine is kept, what raises it by x with probability exp(-x / heat)."""
    rows = random(vocab_size, d_model, generator)
    draws = torch.rand(steps, generator=generator)
    chosen = torch.randint(0, vocab_size, (steps,), generator=generator)
    for step in range(steps):
        heat = 0.01 * (1 - step / steps)
        i = int(chosen[step])
        moved = _unit((rows[i] + 0.3 * heat / 0.01 * torch.randn(d_model, generator=generator) * d_model**-0.5)[None])
        others = (rows @ torch.stack([rows[i], moved[0]], 1)).abs()
        others[i] = 0.0
        before, after = others.max(0).values.tolist()
        if after < before or float(draws[step]) < math.exp(-(after - before) / max(heat, 1e-9)):
            rows[i] = moved[0]
    return rows


@torch.enable_grad()
def gradient(vocab_size: int, d_model: int, generator: torch.Generator, *, steps: int = 200) -> Rows:
    """Adam on the mean of cos^P over pairs of rows, all against a block drawn anew each step."""
    rows = gram_schmidt(vocab_size, d_model, generator).requires_grad_()
    optimizer = torch.optim.Adam([rows], lr=0.02)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
        unit = _unit(rows)
        some = torch.randperm(vocab_size, generator=generator)[:BLOCK]
        cosines = unit[some] @ unit.T
        cosines = cosines.masked_fill(some[:, None] == torch.arange(vocab_size), 0.0)
        optimizer.zero_grad()
        cosines.pow(POWER).sum().pow(1 / POWER).backward()
        optimizer.step()
    return _unit(rows.detach())


METHODS: dict[str, Callable[[int, int, torch.Generator], Rows]] = {
    "random": random,
    "gram-schmidt": gram_schmidt,
    "annealing": annealing,
    "gradient": gradient,
}


def spread(method: str, vocab_size: int, d_model: int, *, seed: int = 0) -> Spread:
    """Unit rows by a method of `METHODS`, measured."""
    if method not in METHODS:
        raise UnknownName("way to spread vectors", method, METHODS)
    if vocab_size < 2 or d_model < 2:
        raise BadSetting(f"{vocab_size} vectors in {d_model} dimensions leave nothing to spread")
    started = time.perf_counter()
    rows = METHODS[method](vocab_size, d_model, torch.Generator().manual_seed(seed))
    seconds = time.perf_counter() - started
    return measured(method, rows, seconds)


def measured(method: str, rows: Rows, seconds: float = 0.0) -> Spread:
    """What any rows reach."""
    largest, mean = coherence(rows)
    return Spread(
        method=method, rows=_unit(rows), largest=largest, mean=mean, welch=welch(*rows.shape), seconds=seconds
    )


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=-1, keepdim=True)
