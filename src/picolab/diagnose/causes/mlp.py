"""The feed-forward layer bent by the wrong function or fed by the wrong half: `activation gate-up-swapped mlp-layout`.

activation    gelu has three forms that differ by less than 0.03, and each is somebody's default
swapped       silu(up) x gate, where silu(gate) x up is meant
layout        one matrix holds both:  [gate gate .. up up ..]   or row by row  [gate up gate up ..]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cause import Bend, Case, Cause, close
from picolab.diagnose.causes.weights import outcome
from picolab.diagnose.walk import Pass, local
from picolab.trace.sites import layer_of

ACT = "mlp.act"

ACTIVATIONS: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "gelu, exact": ("gelu with the error function", F.gelu),
    "gelu, tanh": ("gelu in its tanh form", lambda x: F.gelu(x, approximate="tanh")),
    "gelu, quick": ("gelu as x sigmoid(1.702 x)", lambda x: x * torch.sigmoid(1.702 * x)),
    "silu": ("silu", F.silu),
    "relu": ("relu", F.relu),
    "relu squared": ("relu squared", lambda x: F.relu(x).square()),
    "sigmoid": ("a sigmoid", torch.sigmoid),
    "tanh": ("tanh", torch.tanh),
    "leaky relu": ("leaky relu, slope 0.01", lambda x: F.leaky_relu(x, 0.01)),
    "elu": ("elu", F.elu),
    "softplus": ("softplus", F.softplus),
    "mish": ("mish", F.mish),
    "none": ("nothing", lambda x: x),
}  # fmt: skip


def is_gated(anatomy: Anatomy) -> bool:
    return any(line.kind == "gated" for line in anatomy.lines.values())


def reacts(anatomy: Anatomy) -> bool:
    return any(line.kind in ("gated", "activation") for line in anatomy.lines.values())


@dataclass(frozen=True, kw_only=True)
class Activation(Bend):
    """Another function bends the expansion, or opens the gate."""

    cause = "activation"
    places = frozenset({ACT})
    function: str
    right: str = ""

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        line = at.line(site)
        bent = ACTIVATIONS[self.function][1](at.read(site, 0))
        return bent * at.read(site, 1) if line.kind == "gated" else bent

    def says(self) -> str:
        right = f" where the reference uses {ACTIVATIONS[self.right][0]}" if self.right else ""
        return f"the activation is {ACTIVATIONS[self.function][0]}{right}"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"activation": self.function, "reference activation": self.right}


@dataclass(frozen=True, kw_only=True)
class GateUpSwapped(Bend):
    """Gate and up have changed places: their matrices, or only what is done with what comes out."""

    cause = "gate-up-swapped"
    places = frozenset({"mlp.gate", "mlp.up", ACT})
    of: frozenset[str] = frozenset({ACT})

    @property
    def kinds(self) -> frozenset[str]:
        return self.of

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        if local(site) == ACT:
            return F.silu(at.read(site, 1)) * at.read(site, 0)
        other = f"blocks.{layer_of(site)}.mlp.{'up' if local(site) == 'mlp.gate' else 'gate'}"
        return outcome(at.read(site), at.line(other))

    def says(self) -> str:
        if ACT in self.of:
            return "the activation is applied to up and multiplied by gate, where gate is activated and up multiplied"
        return "gate is made with the matrix of up, and up with the matrix of gate"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"of": sorted(self.of)}


LAYOUTS: Mapping[str, tuple[str, Callable[[Tensor], tuple[Tensor, Tensor]]]] = {
    "interleaved": (
        "gate and up are read as every other row, where the matrix holds all of gate and then all of up",
        lambda full: (full[..., 0::2], full[..., 1::2]),
    ),
    "halves": (
        "gate and up are read as halves, where the matrix holds them row by row",
        lambda full: _halves(torch.stack(_halves(full), dim=-1).flatten(-2)),
    ),
}
"""Name -> in words, how the outcome of the right rows, all of gate and then all of up, is cut."""


def _halves(full: Tensor) -> tuple[Tensor, Tensor]:
    first, second = full.chunk(2, dim=-1)
    return first, second


@dataclass(frozen=True, kw_only=True)
class MlpLayout(Bend):
    cause = "mlp-layout"
    places = frozenset({"mlp.gate", "mlp.up"})
    layout: str

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        mlp = f"blocks.{layer_of(site)}.mlp"
        full = torch.cat([outcome(at.read(site), at.line(f"{mlp}.{half}")) for half in ("gate", "up")], dim=-1)
        return LAYOUTS[self.layout][1](full)[local(site) == "mlp.up"]

    def says(self) -> str:
        return LAYOUTS[self.layout][0]

    @property
    def evidence(self) -> dict[str, Any]:
        return {"layout": self.layout}


class ActivationCause(Cause):
    name = "activation"
    places = frozenset({ACT})
    says = "the feed-forward layer uses another activation"
    look_for = "`gelu` against `gelu_new`, `gelu_pytorch_tanh`, `quick_gelu`; `hidden_act` of the config"

    def propose(self, case: Case) -> Iterable[Bend]:
        right = own_activation(case.anatomy)
        for function in ACTIVATIONS:
            if function != right:
                yield Activation(function=function, right=right, layers=case.layers(self.places), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        if not reacts(anatomy):
            return []
        right = own_activation(anatomy)
        tried = [f for f in ("gelu, exact", "gelu, quick", "silu", "relu", "relu squared", "none") if f != right]
        return [Activation(function=function, right=right) for function in tried]


class GateUpSwappedCause(Cause):
    name = "gate-up-swapped"
    places = frozenset({"mlp.gate", "mlp.up", ACT})
    says = "gate and up have changed places"
    look_for = (
        "w1 and w3 of Llama's own files; the order of a fused gate-up matrix; which half `chunk(2)` calls the gate"
    )

    def propose(self, case: Case) -> Iterable[Bend]:
        if is_gated(case.anatomy):
            for of in (frozenset({"mlp.gate", "mlp.up"}), frozenset({ACT})):
                yield GateUpSwapped(of=of, layers=case.layers(self.places), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [GateUpSwapped(), GateUpSwapped(of=frozenset({"mlp.gate", "mlp.up"}))] if is_gated(anatomy) else []


class MlpLayoutCause(Cause):
    name = "mlp-layout"
    places = frozenset({"mlp.gate", "mlp.up"})
    says = "a fused gate-up matrix is cut in another layout than it has"
    look_for = "`chunk(2)` against `[..., ::2]`: gpt-oss keeps rows in turn, most others as halves"

    def propose(self, case: Case) -> Iterable[Bend]:
        if is_gated(case.anatomy):
            for layout in LAYOUTS:
                yield MlpLayout(layout=layout, layers=case.layers(self.places), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [MlpLayout(layout=layout) for layout in LAYOUTS] if is_gated(anatomy) else []


def own_activation(anatomy: Anatomy) -> str:
    """The reference's own activation, told by what it makes; empty if it is none of these."""
    if is_gated(anatomy):
        return "silu"
    line = next(line for line in anatomy.lines.values() if line.kind == "activation")
    owner = anatomy.model.get_submodule(line.site.rpartition(".")[0])
    function = getattr(owner, "activation", None)
    x = torch.linspace(-4, 4, 33)
    same = [
        name for name, (_, other) in ACTIVATIONS.items() if function is not None and close(function(x), other(x), 1e-6)
    ]
    return same[0] if same else ""
