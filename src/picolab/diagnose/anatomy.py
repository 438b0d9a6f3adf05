"""Which line of a model makes the value at a place, from which places, with which parameters?

    blocks.1.attention.q      linear      attention_norm -> weight, bias
    blocks.1.attention.q_rope rotation    q (or q_norm)
    blocks.1.resid_mid        sum         blocks.0.resid_post, attention.out

Found in the model itself: its modules carry the field's names in every architecture here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from picolab.models.contract import LanguageModel
from picolab.trace.sites import layer_of, sites_of

Kind = Literal[
    "embedding", "linear", "norm", "rotation", "scores", "probs", "mixed", "sum", "activation", "gated", "head", "other"
]

LINEAR = {
    "attention.q": ("attention.q_proj", "attention_norm"),
    "attention.k": ("attention.k_proj", "attention_norm"),
    "attention.v": ("attention.v_proj", "attention_norm"),
    "attention.out": ("attention.out_proj", "attention.mixed"),
    "mlp.gate": ("mlp.gate_proj", "mlp_norm"),
    "mlp.up": ("mlp.up_proj", "mlp_norm"),
    "mlp.down": ("mlp.down_proj", "mlp.act"),
}
FUSED = {"attention.q": 0, "attention.k": 1, "attention.v": 2}
"""Thirds of one matrix, `attention.qkv_proj`."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of mathematics: the place it makes, the places it reads, its parameters."""

    site: str
    kind: Kind
    inputs: tuple[str, ...] = ()
    weight: Tensor | None = None
    bias: Tensor | None = None
    module: nn.Module | None = None


class Anatomy:
    """The lines of a model, by the place each makes."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.sites = sites_of(model)
        with torch.no_grad():
            self.lines = {site: self._line(site) for site in self.sites}

    def before(self, site: str) -> str:
        """The stream that a block reads: the end of the block before it, or the embedding."""
        layer = layer_of(site)
        return f"blocks.{layer - 1}.resid_post" if layer else "embed"

    def lines_to(self, until: str, shown: Callable[[str], bool]) -> tuple[str, ...]:
        """The places whose lines make `until` out of places that are shown, in the order of computation, `until` last.

        Where a line's inputs are not known, everything since the last shown place.
        """
        met, ahead = {until}, [until]
        while ahead:
            site = ahead.pop()
            line = self.lines[site]
            at = self.sites.index(site)
            sources = line.inputs if line.kind != "other" else self.sites[max(at - 1, 0) : at]
            for source in sources:
                if source not in met and not shown(source):
                    met.add(source)
                    ahead.append(source)
        return tuple(site for site in self.sites if site in met)

    def _line(self, site: str) -> Line:
        layer = layer_of(site)
        here = "" if layer is None else f"blocks.{layer}."
        name = site.removeprefix(here)
        stream = self.before(site)
        if name in LINEAR:
            path, source = LINEAR[name]
            return self._linear(site, here, name, path, here + source)
        if name == "attention_norm":
            return self._norm(site, stream)
        if name == "mlp_norm":
            return self._norm(site, here + "resid_mid")
        if name == "final_norm":
            return self._norm(site, self.sites[self.sites.index(site) - 1])
        if name in ("attention.q_norm", "attention.k_norm"):
            return self._norm(site, self._earlier(here, name[:11], name))
        if name in ("attention.q_rope", "attention.k_rope"):
            return Line(site, "rotation", (self._earlier(here, name[:11], name),))
        if name == "attention.scores":
            return Line(site, "scores", (self._last(here, "attention.q"), self._last(here, "attention.k")))
        if name == "attention.probs":
            return Line(site, "probs", (here + "attention.scores",))
        if name == "attention.mixed":
            return Line(site, "mixed", (here + "attention.probs", here + "attention.v"))
        if name == "resid_mid":
            return Line(site, "sum", (stream, here + "attention.out"))
        if name == "resid_post":
            return Line(site, "sum", (here + "resid_mid", here + "mlp.down"))
        if name == "mlp.act":
            gate = here + "mlp.gate"
            gated = gate in self.sites
            return Line(
                site, "gated" if gated else "activation", (gate, here + "mlp.up") if gated else (here + "mlp.up",)
            )
        if name == "logits":
            before = self.sites[self.sites.index(site) - 1]
            return Line(
                site, "head", (before,), _plain(self.model.head.weight), _plain(self.model.head.bias), self.model.head
            )
        if name == "embed":
            embedding = self.model.get_submodule("embedding") if self._has("embedding") else None
            return Line(site, "embedding", (), _plain(getattr(embedding, "weight", None)), None, embedding)
        return Line(site, "other")

    def _linear(self, site: str, here: str, name: str, path: str, source: str) -> Line:
        fused = f"{here}attention.qkv_proj"
        if name in FUSED and self._has(fused):
            module = self.model.get_submodule(fused)
            third = FUSED[name]
            weight, bias = _plain(module.weight), _plain(module.bias)
            return Line(
                site,
                "linear",
                (source,),
                None if weight is None else weight.chunk(3)[third],
                None if bias is None else bias.chunk(3)[third],
                module,
            )
        module = self.model.get_submodule(here + path)
        bias = getattr(module, "bias", None)
        return Line(site, "linear", (source,), module.get_parameter("weight").detach(), _plain(bias), module)

    def _norm(self, site: str, source: str) -> Line:
        path = site if self._has(site) else site[: -len("q_norm")] + "qk_norm"  # one norm for queries and keys
        module = self.model.get_submodule(path)
        return Line(
            site,
            "norm",
            (source,),
            _plain(getattr(module, "weight", None)),
            _plain(getattr(module, "bias", None)),
            module,
        )

    def _earlier(self, here: str, letter: str, name: str) -> str:
        """Of queries or keys, the place just before this one: q, q_norm and q_rope come in the model's own order."""
        own = [s for s in self.sites if s in {here + letter, f"{here}{letter}_norm", f"{here}{letter}_rope"}]
        return own[own.index(here + name) - 1]

    def _last(self, here: str, letter: str) -> str:
        return [s for s in self.sites if s in {here + letter, f"{here}{letter}_norm", f"{here}{letter}_rope"}][-1]

    def _has(self, path: str) -> bool:
        try:
            self.model.get_submodule(path)
        except AttributeError:
            return False
        return True


def _plain(parameter: object) -> Tensor | None:
    """A parameter as a tensor that no gradient follows."""
    return parameter.detach() if isinstance(parameter, Tensor) else None
