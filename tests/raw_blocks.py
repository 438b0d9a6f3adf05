"""Quantised matrices of random bytes, the same for the tests of parts and of files."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from picolab.parts.quantised import Quantised, quantise
from picolab.parts.quantised_blocks import INT8, KINDS


def raw_of(kind: str, rows: int, lanes: int, seed: int = 0, size: float = 1.0) -> torch.Tensor:
    """The bytes of a matrix of random codes, its scales about `size`."""
    generator, spec = torch.Generator().manual_seed(seed), KINDS[kind]
    raw = torch.randint(0, 256, (rows, lanes // spec.numbers * spec.size), generator=generator, dtype=torch.uint8)
    blocks = raw.view(rows, -1, spec.size)
    for at, dtype, count in spec.fields.values():
        if dtype.is_floating_point:
            numbers = size * torch.randn(*blocks.shape[:2], count, generator=generator)
            blocks[..., at : at + count * dtype.itemsize] = numbers.to(dtype).view(torch.uint8)
    return raw


def of_kind(kind: str, rows: int, lanes: int, *, heads: int = 0) -> Quantised:
    """Such a matrix."""
    if kind == INT8:
        return quantise(torch.randn(rows, lanes, generator=torch.Generator().manual_seed(0)))
    return Quantised(KINDS[kind].cut(raw_of(kind, rows, lanes)), kind, heads)


def near(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal but for the order of float32 sums."""
    return found.shape == expected.shape and bool((found - expected).norm() <= 2e-5 * expected.norm())


class LargestFloats(TorchDispatchMode):
    """The most floating-point numbers that any one operation of a block made in memory of its own."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        given = {x.data_ptr() for x in args if isinstance(x, torch.Tensor)}
        for one in made if isinstance(made, tuple | list) else [made]:
            floats = isinstance(one, torch.Tensor) and one.is_floating_point() and not isinstance(one, Quantised)
            if floats and not one.is_meta and not one._is_view() and one.data_ptr() not in given:
                self.numbers = max(self.numbers, one.numel())
        return made
