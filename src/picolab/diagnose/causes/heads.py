"""Heads that read the wrong keys, stand in the wrong order, or are cut wrongly: `head-grouping head-order qkv-split rope-on-v`.

grouping    6 query heads, 2 key heads:  right 0 0 0 1 1 1 (neighbours share)      tiled 0 1 0 1 0 1
order       what the heads gathered, put side by side in another order, or merged before heads and tokens change places
split       one matrix holds q, k and v:  [Q Q.. K K.. V V..]   or head by head  [q k v][q k v]..
rope on v   values are turned by position as well, where only queries and keys should be
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.causes.lines import block_of, keys_site, make_mixed, make_scores
from picolab.diagnose.causes.rotation import positions_of, rope_of, rotates
from picolab.diagnose.causes.weights import flat, outcome, recovered_order
from picolab.diagnose.walk import Pass, local
from picolab.parts.rope import rotate

SCORES, MIXED = "attention.scores", "attention.mixed"
QKV = ("attention.q", "attention.k", "attention.v")


def heads_of(anatomy: Anatomy) -> tuple[int, int]:
    """Query heads, key heads."""
    config = anatomy.model.config
    heads = int(getattr(config, "n_heads", 0))
    return heads, int(getattr(config, "n_kv_heads", heads) or heads)


@dataclass(frozen=True, kw_only=True)
class HeadGrouping(Bend):
    """Query head h reads key and value head h % kv_heads."""

    cause = "head-grouping"
    places = frozenset({SCORES, MIXED})
    of: frozenset[str] = places

    @property
    def kinds(self) -> frozenset[str]:
        return self.of

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        if local(site) == SCORES:
            q, k = at.read(site, 0), at.so_far(keys_site(site, at))
            return make_scores(q, k.repeat(1, 1, q.shape[2] // k.shape[2], 1))
        probs, v = at.read(site, 0), at.so_far(f"{block_of(site)}.v")
        return make_mixed(probs, v.repeat(1, 1, probs.shape[1] // v.shape[2], 1))

    def says(self) -> str:
        what = {SCORES: "key", MIXED: "value"}
        of = " and ".join(sorted(what[place] for place in self.of))
        return f"query heads take the {of} heads in turn (0 1 0 1 ..), where neighbours share one (0 0 1 1 ..)"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"of": sorted(self.of)}


@dataclass(frozen=True, kw_only=True)
class HeadOrder(Bend):
    """Lane i of what the heads gathered is lane `order[i]` of the right one."""

    cause = "head-order"
    places = frozenset({MIXED})
    order: tuple[int, ...]
    name: str = ""

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        return value[..., list(self.order)] if value.shape[-1] == len(self.order) else value

    def says(self) -> str:
        first = ", ".join(f"{i} from {o}" for i, o in enumerate(self.order) if i != o)[:60]
        return f"what the heads gathered is put together in another order: {self.name or 'lane ' + first + ' ..'}"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"order": list(self.order), "name": self.name}


@dataclass(frozen=True, kw_only=True)
class HeadMerge(Bend):
    """Heads are laid side by side before heads and tokens changed places: tokens mix, all at once."""

    cause = "head-order"
    places = frozenset({MIXED})

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        heads = at.flowed[at.line(site).inputs[0]].shape[1]
        return value.unflatten(-1, (heads, -1)).transpose(1, 2).reshape(value.shape)

    def says(self) -> str:
        return "heads are merged without changing places with the tokens: (heads, time, lanes) is read as (time, heads x lanes)"


def _per_head(full: Tensor, heads: int, kv_heads: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """[q.. k v] of every group of heads, one after another."""
    group = heads // kv_heads
    rows = full.unflatten(-1, (kv_heads, (group + 2) * width))
    q, k, v = rows.split((group * width, width, width), dim=-1)
    return q.flatten(-2), k.flatten(-2), v.flatten(-2)


def _from_per_head(full: Tensor, heads: int, kv_heads: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The other way round: rows stored head by head, cut as whole blocks."""
    q, k, v = full.split((heads * width, kv_heads * width, kv_heads * width), dim=-1)
    parts = [x.unflatten(-1, (kv_heads, -1)) for x in (q, k, v)]
    stored = torch.cat(parts, dim=-1).flatten(-2)
    return _blocks(stored, heads, kv_heads, width)


def _blocks(full: Tensor, heads: int, kv_heads: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = full.split((heads * width, kv_heads * width, kv_heads * width), dim=-1)
    return q, k, v


def _lanes_last(full: Tensor, heads: int, kv_heads: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v lane by lane: what `reshape(heads, head_dim, 3)` cuts."""
    if heads != kv_heads:
        return _blocks(full, heads, kv_heads, width)
    q, k, v = full.unflatten(-1, (-1, 3)).unbind(-1)
    return q, k, v


def _ordered(*letters: int) -> Callable[[Tensor, int, int, int], tuple[Tensor, Tensor, Tensor]]:
    """Blocks in another order; lengths as they are cut, which differ where key heads are fewer."""

    def cut(full: Tensor, heads: int, kv_heads: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        parts = _blocks(full, heads, kv_heads, width)
        return _blocks(torch.cat([parts[i] for i in letters], dim=-1), heads, kv_heads, width)

    return cut


SPLITS: dict[str, tuple[str, Callable[[Tensor, int, int, int], tuple[Tensor, Tensor, Tensor]]]] = {
    "per head": ("q, k and v are cut head by head, where the matrix holds all of q, then all of k, then all of v", _per_head),
    "blocks": ("q, k and v are cut as three blocks, where the matrix holds them head by head", _from_per_head),
    "lanes": ("q, k and v are cut lane by lane, where the matrix holds all of q, then all of k, then all of v", _lanes_last),
    "k q v": ("the fused matrix is read as k, q, v", _ordered(1, 0, 2)),
    "q v k": ("the fused matrix is read as q, v, k", _ordered(0, 2, 1)),
    "v k q": ("the fused matrix is read as v, k, q", _ordered(2, 1, 0)),
    "k v q": ("the fused matrix is read as k, v, q", _ordered(1, 2, 0)),
    "v q k": ("the fused matrix is read as v, q, k", _ordered(2, 0, 1)),
}  # fmt: skip
"""Name -> in words, how the outcome of the right rows q, k, v, one after another, is cut."""


@dataclass(frozen=True, kw_only=True)
class QkvSplit(Bend):
    cause = "qkv-split"
    places = frozenset(QKV)
    split: str

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        x = at.read(site)
        parts = [outcome(x, at.line(f"{block_of(site)}.{letter}")) for letter in "qkv"]
        heads, kv_heads = heads_of(at.anatomy)
        made = SPLITS[self.split][1](torch.cat(parts, dim=-1), heads, kv_heads, value.shape[-1])
        return made[QKV.index(local(site))].reshape(value.shape)

    def says(self) -> str:
        return SPLITS[self.split][0]

    @property
    def evidence(self) -> dict[str, Any]:
        return {"split": self.split}


@dataclass(frozen=True, kw_only=True)
class RopeOnV(Bend):
    cause = "rope-on-v"
    places = frozenset({"attention.v"})

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        return rotate(value, rope_of(at)(positions_of(at, value.device)[None]))

    def says(self) -> str:
        return "values are turned by position, as only queries and keys should be"


class HeadGroupingCause(Cause):
    name = "head-grouping"
    places = frozenset({SCORES, MIXED})
    says = "query heads read other key and value heads than their own"
    look_for = "`repeat` or `tile` against `repeat_interleave`; `h % kv_heads` against `h // group`"

    def propose(self, case: Case) -> Iterable[Bend]:
        if not shares(case.anatomy):
            return
        shown = frozenset(local(key.site) for key in case.born) & self.places
        for of in dict.fromkeys([shown or self.places, self.places]):
            yield HeadGrouping(of=of, layers=case.layers(self.places), phases=case.phases)
        if not shown:
            for place in sorted(self.places):
                yield HeadGrouping(of=frozenset({place}), layers=case.layers(self.places), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [HeadGrouping(), HeadGrouping(of=frozenset({MIXED}))] if shares(anatomy) else []


class HeadOrderCause(Cause):
    name = "head-order"
    places = frozenset({MIXED})
    says = "what the heads gathered is put together in another order than the output matrix expects"
    look_for = "the transpose before heads are merged; `reshape` where (heads, time) was not made (time, heads) first"

    def propose(self, case: Case) -> Iterable[Bend]:
        layers = case.layers(self.places)
        pairs = [(flat(s.made), flat(s.target)) for s in case.sights(self.places) if s.target is not None]
        order = recovered_order(pairs) if pairs else None
        known = known_orders(case.anatomy)
        if order is not None:
            if order != tuple(range(len(order))):
                name = known.get(order) or whole_heads(order, heads_of(case.anatomy)[0])
                yield HeadOrder(order=order, name=name, layers=layers, phases=case.phases)
        elif not pairs:
            for each, name in known.items():
                yield HeadOrder(order=each, name=name, layers=layers, phases=case.phases)
        yield HeadMerge(layers=layers)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        known = list(known_orders(anatomy).items())
        return [*(HeadOrder(order=order, name=name) for order, name in known[:2]), HeadMerge()] if known else []


class QkvSplitCause(Cause):
    name = "qkv-split"
    places = frozenset(QKV)
    says = "q, k and v are cut out of one fused matrix in another layout than it has"
    look_for = "`chunk(3)` against `view(heads, 3, head_dim)` (GPT-NeoX, BLOOM); the order of the three"

    def propose(self, case: Case) -> Iterable[Bend]:
        for split in splits(case.anatomy):
            yield QkvSplit(split=split, layers=case.layers(self.places), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [QkvSplit(split=split) for split in splits(anatomy)]


class RopeOnVCause(Cause):
    name = "rope-on-v"
    places = frozenset({"attention.v"})
    says = "values are rotated by position too"
    look_for = "which of q, k, v go through the rotation; a fused qkv that is rotated whole"

    def propose(self, case: Case) -> Iterable[Bend]:
        if rotates(case.anatomy):
            yield RopeOnV(layers=case.layers(self.places), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [RopeOnV()] if rotates(anatomy) else []


def shares(anatomy: Anatomy) -> bool:
    """Whether tiled and neighbouring groups differ at all: with one key head, or as many as query heads, they are the same."""
    heads, kv_heads = heads_of(anatomy)
    return 1 < kv_heads < heads


def splits(anatomy: Anatomy) -> list[str]:
    """The layouts that differ for this model."""
    heads, kv_heads = heads_of(anatomy)
    if not any(line.site.endswith("attention.q") for line in anatomy.lines.values()):
        return []
    return [split for split in SPLITS if split != "lanes" or heads == kv_heads]


def known_orders(anatomy: Anatomy) -> dict[tuple[int, ...], str]:
    """Orders of lanes that code makes, in words."""
    heads, kv_heads = heads_of(anatomy)
    line = anatomy.lines.get("blocks.0.attention.out")
    if line is None or line.weight is None or heads < 2:
        return {}
    lanes = torch.arange(line.weight.shape[1]).reshape(heads, -1)
    orders = {
        "heads reversed": lanes.flip(0),
        "the lanes of all heads interleaved: (heads, lanes) read as (lanes, heads)": lanes.T,
    }
    if 1 < kv_heads < heads:
        grouped = lanes.reshape(kv_heads, heads // kv_heads, -1)
        orders["the heads of all groups in turn: (kv_heads, group) read as (group, kv_heads)"] = grouped.transpose(0, 1)
    return {tuple(order.flatten().tolist()): name for name, order in orders.items()}


def whole_heads(order: tuple[int, ...], heads: int) -> str:
    """`heads 3, 0, 1, 2`, if each head's lanes stay together."""
    width = len(order) // heads
    blocks = torch.tensor(order).reshape(heads, width)
    whole = (blocks - blocks[:, :1] == torch.arange(width)).all() and (blocks[:, 0] % width == 0).all()
    return "heads " + ", ".join(str(int(b) // width) for b in blocks[:, 0]) if bool(whole) else ""
