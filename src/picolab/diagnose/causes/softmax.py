"""Scores that become probabilities in another way: `softmax-axis softmax-missing softmax-base sink-missing`.

right      e^s / sum of e^s over the keys a query sees
axis       .. over the queries that see a key, or over the heads
missing    the scores themselves; or the softmax of the softmax
base       2^s / sum of 2^s: a kernel that works in base 2 and did not multiply by log2(e)
sink       without the share that gpt-oss's heads may give to nothing
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.causes.lines import block_of, make_probs, visible
from picolab.diagnose.causes.masks import PROBS, attends
from picolab.diagnose.walk import Pass

AXES = {"queries": -2, "heads": 1}


@dataclass(frozen=True, kw_only=True)
class SoftmaxAxis(Bend):
    """Probabilities sum to 1 over `over`; what nothing shares in is 0."""

    cause = "softmax-axis"
    places = PROBS
    over: str

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        scores = at.read(site)
        seen = visible(at, site, scores.device)
        wide = scores.to(torch.promote_types(scores.dtype, torch.float32)).masked_fill(~seen, -torch.inf)
        return wide.softmax(AXES[self.over]).nan_to_num(0.0).to(scores.dtype)

    def says(self) -> str:
        return f"the softmax runs over the {self.over}, not over the keys"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"over": self.over}


@dataclass(frozen=True, kw_only=True)
class SoftmaxMissing(Bend):
    """No softmax (`times` 0), or one too many (2)."""

    cause = "softmax-missing"
    places = PROBS
    times: int = 0

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        scores = at.read(site)
        seen = visible(at, site, scores.device)
        if self.times == 0:
            return scores.masked_fill(~seen, 0.0)
        return make_probs(make_probs(scores, seen, at, site), seen, at, site)

    def says(self) -> str:
        return "scores are used as they are, without a softmax" if self.times == 0 else "the softmax is taken twice"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"times": self.times}


@dataclass(frozen=True, kw_only=True)
class SoftmaxBase(Bend):
    """Powers of another base than e: scores times `factor` in the exponent."""

    cause = "softmax-base"
    places = PROBS
    factor: float = math.log(2)

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        scores = at.read(site)
        return make_probs(scores * self.factor, visible(at, site, scores.device), at, site)

    def says(self) -> str:
        return f"the softmax takes powers of {math.exp(self.factor):.4g}, not of e"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"base": math.exp(self.factor)}


@dataclass(frozen=True, kw_only=True)
class SinkMissing(Bend):
    """The sinks take no share."""

    cause = "sink-missing"
    places = PROBS

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        scores = at.read(site)
        wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return wide.masked_fill(~visible(at, site, scores.device), -torch.inf).softmax(-1).to(scores.dtype)

    def says(self) -> str:
        return "the sinks take no part in the softmax"


class SoftmaxAxisCause(Cause):
    name = "softmax-axis"
    places = PROBS
    says = "the softmax runs over another axis than the keys"
    look_for = "`dim=` of the softmax, and which axis the keys have after the last transpose"

    def propose(self, case: Case) -> Iterable[Bend]:
        for over in AXES:
            yield SoftmaxAxis(over=over, layers=case.layers(PROBS))

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [SoftmaxAxis(over=over) for over in AXES] if attends(anatomy) else []


class SoftmaxMissingCause(Cause):
    name = "softmax-missing"
    places = PROBS
    says = "no softmax, or one too many"
    look_for = "a kernel that takes scores against one that takes probabilities; a path that skips it"

    def propose(self, case: Case) -> Iterable[Bend]:
        for times in (0, 2):
            yield SoftmaxMissing(times=times, layers=case.layers(PROBS), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [SoftmaxMissing(times=times) for times in (0, 2)] if attends(anatomy) else []


class SoftmaxBaseCause(Cause):
    name = "softmax-base"
    places = PROBS
    says = "the softmax takes powers of another number than e"
    look_for = "`exp2` without the factor log2(e), or with it twice"

    def propose(self, case: Case) -> Iterable[Bend]:
        for factor in (math.log(2), 1 / math.log(2)):
            yield SoftmaxBase(factor=factor, layers=case.layers(PROBS), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [SoftmaxBase()] if attends(anatomy) else []


class SinkMissingCause(Cause):
    name = "sink-missing"
    places = PROBS
    says = "the sinks of the heads are left out"
    look_for = "`sinks` of gpt-oss loaded and not given to the kernel"

    def propose(self, case: Case) -> Iterable[Bend]:
        if has_sinks(case.anatomy):
            yield SinkMissing(layers=case.layers(PROBS), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [SinkMissing()] if has_sinks(anatomy) else []


def has_sinks(anatomy: Anatomy) -> bool:
    lines = [site for site, line in anatomy.lines.items() if line.kind == "probs"]
    return any(getattr(anatomy.model.get_submodule(block_of(site)), "sinks", None) is not None for site in lines)
