"""Mistakes that no cause of the catalogue describes. The right answer to each of them is `unknown`, at the right place.

a place, a block, a phase -> something done to the value there that nobody has named

To call one of these by a name of the catalogue, with confidence, is the worst a diagnosis can do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from picolab.diagnose.walk import Pass, local
from picolab.trace.sites import layer_of


@dataclass(frozen=True, slots=True)
class Strange:
    """Something done to one kind of place: in one block or in all, in one phase or in both."""

    name: str
    place: str
    change: Callable[[Tensor], Tensor]
    layer: int | None = None
    phase: str | None = None
    cause = "unknown"

    def applies(self, site: str, at: Pass) -> bool:
        return local(site) == self.place and self.layer in (None, layer_of(site)) and self.phase in (None, at.phase)

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        return self.change(value)


def _noise(x: Tensor, size: float, seed: int = 3) -> Tensor:
    return x + size * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def _on_some_lanes(x: Tensor, change: Callable[[Tensor], Tensor], start: int, stop: int) -> Tensor:
    return torch.cat((x[..., :start], change(x[..., start:stop]), x[..., stop:]), dim=-1)


def _quantised(x: Tensor, levels: int) -> Tensor:
    step = x.abs().amax(-1, keepdim=True) / levels
    return (x / step).round() * step


def _smeared(x: Tensor) -> Tensor:
    """Each position has a third of its neighbour's value mixed in."""
    return torch.cat((x[:, :1], x[:, 1:] + x[:, :-1] / 3), dim=1)


def _growing(x: Tensor) -> Tensor:
    """Wrong by more, the later a token stands."""
    return x * (1 + 0.01 * torch.arange(x.shape[1]).square())[None, :, None]


STRANGE = (
    Strange("units cubed", "mlp.act", lambda x: x**3),
    Strange("noise on what some lanes gathered", "attention.mixed",
            lambda x: _on_some_lanes(x, lambda y: _noise(y, 0.3), 10, 20), layer=1),
    Strange("normed rows moved to the next token", "mlp_norm", lambda x: x.roll(1, dims=1), layer=1, phase="prefill"),
    Strange("stream rounded to 15 levels", "resid_post", lambda x: _quantised(x, 7)),
    Strange("scores clipped to 1", "attention.scores", lambda x: x.clamp(-1, 1)),
    Strange("units sorted", "mlp.up", lambda x: x.sort(-1).values, layer=0),
    Strange("some lanes of the stream halved", "resid_mid",
            lambda x: _on_some_lanes(x, lambda y: y * 0.5, 0, 9), layer=2),
    Strange("shares squared", "attention.probs", lambda x: x.square()),
    Strange("shares of even heads only", "attention.probs",
            lambda x: x * (torch.arange(x.shape[1]) % 2 == 0)[None, :, None, None]),
    Strange("logits cubed and scaled", "logits", lambda x: x**3 / 40),
    Strange("stream through a hyperbolic tangent", "resid_post", lambda x: 3 * torch.tanh(x / 3), layer=1),
    Strange("noise on the stream", "resid_mid", lambda x: _noise(x, 0.05), layer=0),
    Strange("a third of the neighbour's output mixed in", "attention.out", _smeared, layer=1),
    Strange("wrong by more the later the token", "mlp.down", _growing, layer=0),
    Strange("negative lanes of the values dropped", "attention.v", lambda x: x.relu(), layer=2),
    Strange("scores of distant keys damped", "attention.scores",
            lambda x: x * 0.9 ** torch.arange(x.shape[-1]).flip(0).sqrt()),
    Strange("units above 1 folded back", "mlp.act", lambda x: torch.where(x > 1, 2 - x, x)),
    Strange("noise on the logits", "logits", lambda x: _noise(x, 0.1)),
    Strange("embedding rounded to 7 levels", "embed", lambda x: _quantised(x, 3)),
    Strange("the smallest lanes of the stream set to 0", "resid_post",
            lambda x: x.masked_fill(x.abs() < 0.2, 0.0), layer=0),
)  # fmt: skip
"""Each is no other number, order, sum or function that the catalogue knows."""
