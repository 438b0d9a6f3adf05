"""Two engines read the same tokens in the same pieces: what do they disagree about, and by how much?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch

from picolab.trace.engines.engine import Engine
from picolab.trace.sites import dims_of, known

from zoo_twins import some_tokens


@dataclass
class Apart:
    """Largest differences relative to the largest number: of the logits, and of each site in any pass."""

    logits: float
    sites: dict[str, float] = field(default_factory=dict)
    only_first: set[str] = field(default_factory=set)
    only_second: set[str] = field(default_factory=set)
    orders: tuple[list[str], list[str]] = ([], [])

    @property
    def worst(self) -> float:
        return max(self.sites.values())


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    return ((a - b).abs().max() / a.abs().max()).item()


def seen_by(engine: Engine, pieces: Sequence[Sequence[int]]):
    """Logits at every position, and what every pass showed at every site."""
    engine.forget()
    logits, passes = [], []
    for piece in pieces:
        shown: dict[str, torch.Tensor] = {}

        def see(site, value, shown=shown):
            assert site not in shown, f"{site} was told twice"
            assert known(site) and value.ndim == len(dims_of(site).split()) and value.shape[0] == 1
            shown[site] = value.clone()

        with engine.watching(see, lambda site: True):
            logits.append(engine.read(piece))
        passes.append(shown)
    return torch.cat(logits), passes


def compared(first: Engine, second: Engine, pieces: Sequence[Sequence[int]]) -> Apart:
    (logits, passes), (others, shown) = seen_by(first, pieces), seen_by(second, pieces)
    apart = Apart(relative(logits, others), orders=(list(passes[0]), list(shown[0])))
    for mine, theirs in zip(passes, shown, strict=True):
        apart.only_first |= mine.keys() - theirs.keys()
        apart.only_second |= theirs.keys() - mine.keys()
        for site in mine.keys() & theirs.keys():
            apart.sites[site] = max(apart.sites.get(site, 0.0), relative(mine[site], theirs[site]))
    return apart


@pytest.fixture
def compare():
    return compared


@pytest.fixture
def seen():
    return seen_by


@pytest.fixture
def pieces():
    """A prefill, a few tokens at once, and two steps of one token."""
    tokens = some_tokens(batch=1)[0].tolist()
    return [tokens[:9], tokens[9:12], tokens[12:13], tokens[13:14]]
