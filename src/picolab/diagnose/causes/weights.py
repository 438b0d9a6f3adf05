"""A matrix that is not the one it should be: `weight-transposed`, `weight-swapped`, `weight-permuted`.

    transposed   x W where x W^T is meant: only a square matrix lets it pass
    swapped      another matrix of the same shape: the neighbour's, the layer's below, up for gate
    permuted     the right rows in another order: recovered from what comes out, and named if it is a known order

All three have the right shape, so nothing complains; what comes out is told from what should by fitting it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import LINEAR, Anatomy, Line
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.walk import Pass, local

PLACES = frozenset({*LINEAR, "logits"})


def outcome(x: Tensor, line: Line, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """What a linear line makes with another weight or bias, in the shape of its place before heads are split."""
    matrix = line.weight if weight is None else weight
    assert matrix is not None
    return torch.nn.functional.linear(x, matrix.to(x.dtype), line.bias if bias is None else bias)


def flat(value: Tensor) -> Tensor:
    """`(batch, time, lanes)` of any linear place: heads side by side."""
    return value.flatten(2)


def finish(made: Tensor, like: Tensor, at: Pass, site: str) -> Tensor:
    """A linear outcome as it stands at its place: in heads, or capped."""
    cap = getattr(at.line(site).module, "cap", None)
    if cap is not None:
        made = cap * torch.tanh(made / cap)
    return made.reshape(like.shape)


@dataclass(frozen=True, kw_only=True)
class At(Bend):
    """A mistake at one kind of linear line."""

    places = PLACES
    of: str

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset({self.of})


@dataclass(frozen=True, kw_only=True)
class WeightTransposed(At):
    cause = "weight-transposed"

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        line = at.line(site)
        assert line.weight is not None
        return finish(outcome(at.read(site), line, line.weight.T), value, at, site)

    def says(self) -> str:
        return f"the matrix that makes {self.of} is transposed"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"line": self.of}


@dataclass(frozen=True, kw_only=True)
class WeightSwapped(At):
    """`taken` names the line whose matrix is used: the same kind in the block `shift` further, or another kind in this block."""

    cause = "weight-swapped"
    taken: str
    shift: int = 0

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        other = self._other(site, at.anatomy)
        if other is None:
            return value
        return finish(outcome(at.read(site), at.line(site), other.weight, other.bias), value, at, site)

    def _other(self, site: str, anatomy: Anatomy) -> Line | None:
        layer = int(site.split(".")[1]) + self.shift
        return anatomy.lines.get(f"blocks.{layer}.{self.taken}")

    def says(self) -> str:
        whose = (
            f"of {self.taken}"
            if self.taken != self.of
            else f"of the block {abs(self.shift)} {'above' if self.shift > 0 else 'below'}"
        )
        return f"{self.of} is made with the matrix {whose}"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"line": self.of, "matrix of": self.taken, "blocks away": self.shift}


@dataclass(frozen=True, kw_only=True)
class WeightPermuted(At):
    """Lane i of the outcome is lane `order[i]` of the right one."""

    cause = "weight-permuted"
    order: tuple[int, ...]
    name: str = ""

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        lanes = flat(value)
        if lanes.shape[-1] != len(self.order):
            return value
        return lanes[..., list(self.order)].reshape(value.shape)

    def says(self) -> str:
        first = ", ".join(f"{i} from {o}" for i, o in enumerate(self.order[:6]) if i != o) or "later lanes"
        return f"rows of the matrix that makes {self.of} are in another order" + (
            f": {self.name}" if self.name else f" (lane {first} ..)"
        )

    @property
    def evidence(self) -> dict[str, Any]:
        return {"line": self.of, "order": list(self.order), "name": self.name}


class LinearCause(Cause):
    places = PLACES

    def lines(self, case: Case) -> Iterator[str]:
        """The kinds of linear lines under suspicion."""
        kinds = {local(site) for site, line in case.anatomy.lines.items() if line.kind in ("linear", "head")}
        yield from sorted(kinds & set(case.suspects))


class WeightTransposedCause(LinearCause):
    name = "weight-transposed"
    says = "a square matrix is used the wrong way round"
    look_for = (
        "GPT-2's Conv1D keeps matrices the other way round; `x @ W` against `x @ W.T`; a reshape used as a transpose"
    )

    def propose(self, case: Case) -> Iterable[Bend]:
        for of in self.lines(case):
            if _square(case.anatomy, of):
                yield WeightTransposed(of=of, layers=case.layers([of]), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [WeightTransposed(of=of) for of in ("attention.q", "attention.out") if _square(anatomy, of)]


class WeightSwappedCause(LinearCause):
    name = "weight-swapped"
    says = "a matrix of the same shape from another place is used"
    look_for = "tensors consumed by position and not by name; q and k, gate and up, an off-by-one in the layer's index"

    def propose(self, case: Case) -> Iterable[Bend]:
        for of in self.lines(case):
            for taken, shift in _candidates(case.anatomy, of):
                yield WeightSwapped(of=of, taken=taken, shift=shift, layers=case.layers([of]), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        found = []
        for of in ("attention.k", "mlp.down"):
            candidates = _candidates(anatomy, of)
            found += [
                WeightSwapped(of=of, taken=taken, shift=shift, layers=frozenset({1})) for taken, shift in candidates[:1]
            ]
        return found


class WeightPermutedCause(LinearCause):
    name = "weight-permuted"
    says = "the rows of a matrix are in another order"
    look_for = "a permutation done for one layout and loaded into another; fused matrices cut in the wrong order"

    def propose(self, case: Case) -> Iterable[Bend]:
        for of in self.lines(case):
            pairs = [(flat(s.made), flat(s.target)) for s in case.sights([of]) if s.target is not None]
            order = recovered_order(pairs) if pairs else None
            if order is not None and order != tuple(range(len(order))):
                yield WeightPermuted(
                    of=of,
                    order=order,
                    name=named_order(order, case.anatomy, of),
                    layers=case.layers([of]),
                    phases=case.phases,
                )

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        line = anatomy.lines.get("blocks.0.mlp.up")
        if line is None or line.weight is None:
            return []
        rows = line.weight.shape[0]
        order = tuple(int(i) for i in torch.randperm(rows, generator=torch.Generator().manual_seed(5)))
        return [WeightPermuted(of="mlp.up", order=order)]


def recovered_order(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[int, ...] | None:
    """Which lane of the right outcome every lane of the target's is, if each is one; None otherwise."""
    made = torch.cat([a.flatten(0, 1) for a, b in pairs if a.shape == b.shape]).double() if pairs else torch.zeros(0, 0)
    target = torch.cat([b.flatten(0, 1) for a, b in pairs if a.shape == b.shape]).double() if pairs else made
    if made.numel() == 0 or made.shape[0] < 2:
        return None
    distance = torch.cdist(target.T, made.T)
    order = distance.argmin(1)
    near = distance.gather(1, order[:, None])[:, 0] <= 1e-3 * made.norm(dim=0)[order] + 1e-9
    if not bool(near.all()) or len(set(order.tolist())) != len(order):
        return None
    return tuple(order.tolist())


def named_order(order: tuple[int, ...], anatomy: Anatomy, of: str) -> str:
    """In words, where an order is one that code makes."""
    n = len(order)
    config = anatomy.model.config
    heads = {"attention.q": config.n_heads}.get(of, getattr(config, "n_kv_heads", config.n_heads)) if of in (
        "attention.q", "attention.k", "attention.v") else 0  # fmt: skip
    lanes = torch.arange(n)
    if heads and n % (2 * heads) == 0:
        pairs = lanes.reshape(heads, 2, -1).transpose(1, 2).flatten()
        halves = lanes.reshape(heads, -1, 2).transpose(1, 2).flatten()
        if order == tuple(pairs.tolist()):
            return "halves of every head written as adjacent pairs"
        if order == tuple(halves.tolist()):
            return "adjacent pairs of every head written as halves"
        blocks = torch.tensor(order).reshape(heads, -1)
        if bool((blocks % (n // heads) == torch.arange(n // heads)).all()):
            return "whole heads in the order " + ", ".join(str(int(b) // (n // heads)) for b in blocks[:, 0])
    if order == tuple(reversed(range(n))):
        return "all rows reversed"
    return ""


def _square(anatomy: Anatomy, of: str) -> bool:
    line = anatomy.lines.get(f"blocks.0.{of}" if of != "logits" else of)
    return line is not None and line.weight is not None and line.weight.shape[0] == line.weight.shape[1]


def _candidates(anatomy: Anatomy, of: str) -> list[tuple[str, int]]:
    own = anatomy.lines.get(f"blocks.0.{of}")
    if own is None or own.weight is None:
        return []
    here = [
        (kind, 0)
        for kind in LINEAR
        if kind != of
        and (line := anatomy.lines.get(f"blocks.0.{kind}")) is not None
        and line.weight is not None
        and line.weight.shape == own.weight.shape
    ]
    return [*here, (of, -1), (of, 1)]
