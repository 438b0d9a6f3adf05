"""A norm of the wrong kind, with the wrong weight, twice, or left out: `norm-kind norm-offset norm-weight-missing norm-missing`.

kind      divide by the root of the power (RMS), after taking off the mean or not (LayerNorm)
offset    w where 1 + w is meant, or 1 + w where w is
weight    not multiplied, or squared: multiplied twice
missing   not applied at all, or applied to what is normed already
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from picolab.diagnose.anatomy import Anatomy, Line
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.causes.norm_eps import NORMS
from picolab.diagnose.walk import Pass, local
from picolab.parts.norm import LayerNorm


def power(x: Tensor) -> Tensor:
    return x.square().mean(-1, keepdim=True)


def scaled(x: Tensor, line: Line, weight: Tensor | None) -> Tensor:
    """A norm's second half: times the weight, plus the bias."""
    x = x if weight is None else x * weight
    return x if line.bias is None else x + line.bias


def unit(x: Tensor, line: Line, eps: float, *, centred: bool) -> Tensor:
    """A norm's first half."""
    x = x - x.mean(-1, keepdim=True) if centred else x
    return x / (power(x) + eps).sqrt()


def _is_layer_norm(line: Line) -> bool:
    return isinstance(line.module, LayerNorm)


def _right(x: Tensor, line: Line, eps: float) -> Tensor:
    return unit(x, line, eps, centred=_is_layer_norm(line))


def _kind(x: Tensor, line: Line, eps: float) -> Tensor:
    return scaled(unit(x, line, eps, centred=not _is_layer_norm(line)), line, line.weight)


def _plus(x: Tensor, line: Line, eps: float) -> Tensor:
    return scaled(_right(x, line, eps), line, None if line.weight is None else line.weight + 1)


def _minus(x: Tensor, line: Line, eps: float) -> Tensor:
    return scaled(_right(x, line, eps), line, None if line.weight is None else line.weight - 1)


def _unweighted(x: Tensor, line: Line, eps: float) -> Tensor:
    return scaled(_right(x, line, eps), line, None)


def _squared(x: Tensor, line: Line, eps: float) -> Tensor:
    return scaled(_right(x, line, eps), line, None if line.weight is None else line.weight.square())


def _missing(x: Tensor, line: Line, eps: float) -> Tensor:
    return x


def _no_unit(x: Tensor, line: Line, eps: float) -> Tensor:
    return scaled(x, line, line.weight)


def _twice(x: Tensor, line: Line, eps: float) -> Tensor:
    once = scaled(_right(x, line, eps), line, line.weight)
    return scaled(_right(once, line, eps), line, line.weight)


def _unbiased(x: Tensor, line: Line, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True) if _is_layer_norm(line) else x
    n = x.shape[-1]
    return scaled(centred / (power(centred) * n / (n - 1) + eps).sqrt(), line, line.weight)


def _eps_outside(x: Tensor, line: Line, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True) if _is_layer_norm(line) else x
    return scaled(centred / (power(centred).sqrt() + eps), line, line.weight)


Wrong = Callable[[Tensor, Line, float], Tensor]

WRONGS: Mapping[str, tuple[str, Wrong, str]] = {
    "kind": ("norm-kind", _kind, "takes the mean off where the reference does not, or the other way round"),
    "unbiased": ("norm-kind", _unbiased, "divides by the unbiased variance, n - 1 in place of n"),
    "eps outside": ("norm-eps", _eps_outside, "adds eps outside of the root"),
    "1 + w": ("norm-offset", _plus, "multiplies by 1 + w where the reference multiplies by w"),
    "w - 1": (
        "norm-offset",
        _minus,
        "multiplies by w - 1: the 1 of a weight kept as 1 + w is taken off once too often",
    ),
    "no weight": ("norm-weight-missing", _unweighted, "does not multiply by its weight"),
    "weight squared": ("norm-weight-missing", _squared, "multiplies by its weight twice"),
    "missing": ("norm-missing", _missing, "is not applied"),
    "weight only": ("norm-missing", _no_unit, "multiplies by its weight and does not divide by the size"),
    "twice": ("norm-missing", _twice, "is applied twice"),
}
"""Name -> cause, what the wrong norm makes, in words."""


@dataclass(frozen=True, kw_only=True)
class WrongNorm(Bend):
    places = NORMS
    wrong: str
    of: frozenset[str] = NORMS

    @property
    def cause(self) -> str:  # type: ignore[override]
        return WRONGS[self.wrong][0]

    @property
    def kinds(self) -> frozenset[str]:
        return self.of

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        eps = float(at.model.config.norm_eps)
        return WRONGS[self.wrong][1](at.read(site), at.line(site), eps)

    def says(self) -> str:
        where = "every norm" if self.of == NORMS else " and ".join(sorted(self.of))
        return f"{where} {WRONGS[self.wrong][2]}"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"wrong": self.wrong, "of": sorted(self.of)}


class NormCause(Cause):
    """The wrong norms that go by one name."""

    places = NORMS

    def propose(self, case: Case) -> Iterable[Bend]:
        shown = frozenset(local(key.site) for key in case.born) & NORMS
        hidden = sorted(NORMS & set(case.suspects))
        for of in [shown] if shown else [NORMS, *(frozenset({place}) for place in hidden)]:
            for wrong, (cause, _, _) in WRONGS.items():
                if cause == self.name and _possible(case.anatomy, wrong, of):
                    yield WrongNorm(wrong=wrong, of=of, layers=case.layers(of), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        if not any(line.kind == "norm" for line in anatomy.lines.values()):
            return []
        of = frozenset({"mlp_norm"})
        wrongs = [wrong for wrong, (cause, _, _) in WRONGS.items() if cause == self.name]
        return [WrongNorm(wrong=wrong, of=of) for wrong in wrongs if _possible(anatomy, wrong, of)]


class NormKindCause(NormCause):
    name = "norm-kind"
    says = "RMS where a LayerNorm is meant, or the other way round, or another variance"
    look_for = "the mean taken off or not; `unbiased=`; which norm the architecture's config asks for"


class NormOffsetCause(NormCause):
    name = "norm-offset"
    says = "the weight is kept as w where the code thinks 1 + w, or the other way round"
    look_for = "Gemma's norms multiply by 1 + w; converters that add the 1, and loaders that add it again"


class NormWeightCause(NormCause):
    name = "norm-weight-missing"
    says = "the weight of a norm is not used, or used twice"
    look_for = "a weight multiplied inside the kernel and outside; `elementwise_affine=False`"


class NormMissingCause(NormCause):
    name = "norm-missing"
    says = "a norm is left out, or done twice"
    look_for = "the path that skips it (decode, a fused kernel); the first norm's output fed to the second"


def _possible(anatomy: Anatomy, wrong: str, of: frozenset[str]) -> bool:
    """Whether this mistake would change anything at these norms."""
    lines = [line for line in anatomy.lines.values() if line.kind == "norm" and local(line.site) in of]
    return bool(lines) and (
        ("w" not in wrong.split() and "weight" not in wrong) or any(x.weight is not None for x in lines)
    )
