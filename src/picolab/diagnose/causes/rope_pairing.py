"""Rotation of the wrong pairs of lanes: `rope-pairing`.

    halves     (0, half) (1, half + 1) ..        what Llama's checkpoints on the Hugging Face hub, Qwen and GPT-NeoX want
    adjacent   (0, 1) (2, 3) ..                  what Meta's own Llama files, GPT-J and GGUF's llama rows want

Both are causal, relative and keep every length, so no law finds it without a reference: the text just babbles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.causes.rotation import PLACES, positions_of, rope_of, rotates, spoken, wrong_places
from picolab.diagnose.walk import Pass


@dataclass(frozen=True, kw_only=True)
class RopePairing(Bend):
    """Lanes `(2i, 2i + 1)` turn together, where `(i, half + i)` should, in queries, keys or both."""

    cause = "rope-pairing"
    places = PLACES
    of: frozenset[str] = PLACES

    @property
    def kinds(self) -> frozenset[str]:
        return self.of

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        x, turn = at.read(site), rope_of(at)(positions_of(at, value.device)[None])
        even, odd = x[..., 0::2], x[..., 1::2]
        cos, sin = turn.cos.to(x.dtype), turn.sin.to(x.dtype)
        return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)

    def says(self) -> str:
        return f"{spoken(self.of)} turned in pairs (0,1)(2,3).. where the reference turns pairs (0,half)(1,half+1).."

    @property
    def evidence(self) -> dict[str, Any]:
        return {"of": sorted(self.of), "target pairs": "(0,1)(2,3)(4,5)..", "reference pairs": "(0,half)(1,half+1).."}


class RopePairingCause(Cause):
    name = "rope-pairing"
    places = PLACES
    says = "queries and keys are rotated in other pairs of lanes than the weights were made for"
    look_for = (
        "`rotate_half` against `x[..., ::2]`; weights of one layout loaded into code of the other without a permutation"
    )

    def propose(self, case: Case) -> Iterable[Bend]:
        for of in wrong_places(case):
            yield RopePairing(layers=case.layers(PLACES), phases=case.phases, of=of)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [RopePairing()] if rotates(anatomy) else []
