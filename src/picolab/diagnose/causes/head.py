"""The last step: `softcap-missing logit-scale tied-head`.

softcap    cap tanh(x / cap) left out, put where none belongs, or with another cap
scale      logits times a number: the number is fitted, then looked up
tied       the head reads the embedding's matrix where it has its own, or the embedding looks up the head's
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.causes.weights import finish, outcome
from picolab.diagnose.walk import Pass, local

LOGITS = frozenset({"logits"})
CAPS = (30.0, 15.0, 50.0, 20.0)


def cap_of(anatomy: Anatomy) -> float | None:
    cap = getattr(anatomy.lines["logits"].module, "cap", None) if "logits" in anatomy.lines else None
    return None if cap is None else float(cap)


def has_head(anatomy: Anatomy) -> bool:
    line = anatomy.lines.get("logits")
    return line is not None and line.kind == "head" and line.weight is not None


@dataclass(frozen=True, kw_only=True)
class Softcap(Bend):
    """Logits bent towards +-`cap`; None: not bent."""

    cause = "softcap-missing"
    places = LOGITS
    dial = ("cap", 1.0, 1e3)
    cap: float | None

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        made = outcome(at.read(site), at.line(site))
        return made if self.cap is None else self.cap * torch.tanh(made / self.cap)

    def says(self) -> str:
        return "logits are not capped" if self.cap is None else f"logits are capped at {self.cap:.6g}"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"cap": self.cap}


@dataclass(frozen=True, kw_only=True)
class LogitScale(Bend):
    """Logits `factor` times too large, before they are capped."""

    cause = "logit-scale"
    places = LOGITS
    dial = ("factor", 1e-3, 1e3)
    factor: float
    name: str = ""
    capped: bool = False
    """Whether the number is multiplied after the cap."""

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        if self.capped:
            return value * self.factor
        return finish(outcome(at.read(site), at.line(site)) * self.factor, value, at, site)

    def says(self) -> str:
        return f"logits are {self.factor:.6g} times the reference's" + (f", which is {self.name}" if self.name else "")

    @property
    def evidence(self) -> dict[str, Any]:
        return {"factor": self.factor, "which is": self.name}


@dataclass(frozen=True, kw_only=True)
class TiedHead(Bend):
    """The matrix at `of` is the other one of embedding and head."""

    cause = "tied-head"
    places = LOGITS | {"embed"}
    of: str = "logits"

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset({self.of})

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        if self.of == "logits":
            return finish(outcome(at.read(site), at.line(site), at.line("embed").weight), value, at, site)
        model, ids = at.model, torch.tensor([[at.tokens[p] for p in at.positions]], device=value.device)
        head = at.line("logits").weight
        assert head is not None
        x = head[ids].to(value.dtype)
        if hasattr(model, "position_embedding"):
            x = x + model.get_submodule("position_embedding")(torch.tensor([at.positions], device=value.device))
        if hasattr(model, "embed_norm"):
            x = model.get_submodule("embed_norm")(x)
        return x

    def says(self) -> str:
        if self.of == "logits":
            return "the head uses the embedding's matrix, where it has one of its own"
        return "tokens are looked up in the head's matrix, where the embedding has one of its own"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"of": self.of}


class SoftcapCause(Cause):
    name = "softcap-missing"
    places = LOGITS
    says = "logits are not capped where they should be, or capped where they should not, or at another value"
    look_for = (
        "`final_logit_softcapping` of the config; whether the cap is applied when sampling as well as when training"
    )

    def propose(self, case: Case) -> Iterable[Bend]:
        if not has_head(case.anatomy):
            return
        own, fitted = cap_of(case.anatomy), fitted_cap(case)
        near = CAPS if fitted is None else [*(c for c in CAPS if math.isclose(c, fitted, rel_tol=1e-2)), fitted]
        caps: list[float | None] = [None, *near]
        for cap in caps:
            if cap != own:
                yield Softcap(cap=cap, phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        if not has_head(anatomy):
            return []
        own = cap_of(anatomy)
        return [Softcap(cap=3.0)] if own is None else [Softcap(cap=None), Softcap(cap=own / 2)]


class LogitScaleCause(Cause):
    name = "logit-scale"
    places = LOGITS
    says = "logits are multiplied by a number"
    look_for = (
        "`logit_scale` (Cohere), muP's multiplier, d_model ** -0.5 of tied heads (T5), a temperature applied twice"
    )

    def propose(self, case: Case) -> Iterable[Bend]:
        if not has_head(case.anatomy):
            return
        named = factors(case.anatomy)
        for capped in (False, True) if cap_of(case.anatomy) is not None else (False,):
            fitted = fitted_scale(case, capped=capped)
            if fitted is not None:
                exact = next((f for f in named if math.isclose(f, fitted, rel_tol=1e-4)), fitted)
                yield LogitScale(factor=exact, name=named.get(exact, ""), capped=capped, phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        if not has_head(anatomy):
            return []
        return [*(LogitScale(factor=f, name=n) for f, n in factors(anatomy).items()), LogitScale(factor=0.7)]


class TiedHeadCause(Cause):
    name = "tied-head"
    places = LOGITS | {"embed"}
    says = "embedding and head share a matrix where each has its own"
    look_for = "`tie_word_embeddings` read as true by default; `lm_head.weight` in the file and never loaded"

    def propose(self, case: Case) -> Iterable[Bend]:
        for bend in self.examples(case.anatomy):
            if bend.kinds & set(case.suspects):
                yield bend

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [TiedHead(), TiedHead(of="embed")] if has_head(anatomy) and is_untied(anatomy) else []


def is_untied(anatomy: Anatomy) -> bool:
    """Whether embedding and head have different matrices of one shape."""
    embed, head = anatomy.lines["embed"].weight if "embed" in anatomy.lines else None, anatomy.lines["logits"].weight
    return embed is not None and head is not None and embed.shape == head.shape and not torch.equal(embed, head)


def factors(anatomy: Anatomy) -> dict[float, str]:
    """Factors that code multiplies logits by, with what each is."""
    wide = anatomy.model.config.d_model
    return {
        1 / math.sqrt(wide): f"1/sqrt(d_model) = 1/sqrt({wide})",
        math.sqrt(wide): f"sqrt(d_model) = sqrt({wide})",
        1 / wide: f"1/d_model = 1/{wide}",
        1 / math.log(10): "1/ln(10): logarithms to the base 10",
        2.0: "2",
        0.5: "1/2",
    }


def _shown(case: Case) -> Iterator[tuple[Tensor, Tensor]]:
    """The head's own products, uncapped, on what the target fed it, and the target's logits, both flat."""
    for sight in case.sights(LOGITS):
        if sight.target is not None and sight.target.shape == sight.made.shape and local(sight.key.site) == "logits":
            yield outcome(sight.input(), sight.line).double().flatten(), sight.target.double().flatten()


def fitted_scale(case: Case, *, capped: bool) -> float | None:
    """The factor that makes the target's logits, multiplied before the cap or after."""
    cap = cap_of(case.anatomy)
    top = bottom = 0.0
    for made, target in _shown(case):
        if cap is None:
            source, goal = made, target
        elif capped:
            source, goal = cap * torch.tanh(made / cap), target
        else:
            near = (target / cap).abs() < 0.95  # where the cap is nearly reached, it can no longer be undone
            source, goal = made[near], cap * torch.atanh(target[near] / cap)
        top, bottom = top + float(source @ goal), bottom + float(source @ source)
    return top / bottom if bottom else None


def fitted_cap(case: Case) -> float | None:
    """The cap c of c tanh(x / c) that fits best, if one fits: found by golden sections of its logarithm."""
    pairs = list(_shown(case))
    if not pairs:
        return None

    def off(log_cap: float) -> float:
        cap = math.exp(log_cap)
        return sum(float((cap * torch.tanh(made / cap) - target).square().sum()) for made, target in pairs)

    best = min((0.25 * i for i in range(33)), key=off)
    a, b = best - 0.25, best + 0.25
    for _ in range(60):
        c, d = b - (b - a) * 0.6180339887498949, a + (b - a) * 0.6180339887498949
        a, b = (a, d) if off(c) < off(d) else (c, b)
    size = sum(float(target.square().sum()) for _, target in pairs)
    return math.exp((a + b) / 2) if off((a + b) / 2) < 1e-6 * size else None
