"""A decode step that reads the memory one slot off or in another layout: `cache-offset cache-layout cache-layer`.

offset    slots 0 .. p - 1 are read, not 0 .. p; or 1 .. p; or one more than were written, which holds zeros
layout    (kv_heads, past, lanes) in memory read as (past, kv_heads, lanes); keys read as values and values as keys
layer     the keys and values of another block
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cache_stale import KEYS, OF, READS, VALUES
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.causes.lines import block_of, keys_site, make_mixed, make_probs, make_scores, visible
from picolab.diagnose.causes.masks import PROBS, attends
from picolab.diagnose.walk import Pass, local
from picolab.trace.sites import layer_of

DECODE = frozenset({"decode"})

OFFSETS = {
    "newest": "decode steps read one slot too few: not the newest token's own",
    "oldest": "decode steps do not read the first slot",
    "beyond": "decode steps read one slot too many, which was never written and holds zeros",
}


@dataclass(frozen=True, kw_only=True)
class CacheOffset(Bend):
    cause = "cache-offset"
    places = PROBS
    way: str
    phases: frozenset[str] | None = DECODE

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        scores = at.read(site)
        seen = visible(at, site, scores.device).clone()
        if self.way == "beyond":
            wide = torch.cat((scores, torch.zeros_like(scores[..., :1])), dim=-1)
            more = torch.cat((seen, torch.ones_like(seen[:, :1])), dim=-1)
            return make_probs(wide, more, at, site)[..., :-1]
        seen[:, -1 if self.way == "newest" else 0] = False
        return make_probs(scores, seen, at, site) if bool(seen.any()) else value

    def says(self) -> str:
        return OFFSETS[self.way]

    @property
    def evidence(self) -> dict[str, Any]:
        return {"way": self.way}


@dataclass(frozen=True, kw_only=True)
class Remembered(Bend):
    """A decode step reads other keys or values than were written."""

    places = READS
    of: frozenset[str] = frozenset({KEYS, VALUES})
    phases: frozenset[str] | None = DECODE

    def applies(self, site: str, at: Pass) -> bool:
        return OF.get(local(site)) in self.of and super().applies(site, at)

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        if local(site) == "attention.scores":
            return make_scores(at.read(site, 0), self.memory(keys_site(site, at), f"{block_of(site)}.v", at))
        return make_mixed(at.read(site, 0), self.memory(f"{block_of(site)}.v", keys_site(site, at), at))

    def memory(self, own: str, other: str, at: Pass) -> Tensor:
        """What is read, where `own` are the right ones' place and `other` that of values for keys, keys for values."""
        raise NotImplementedError

    @property
    def evidence(self) -> dict[str, Any]:
        return {"of": sorted(self.of)}


@dataclass(frozen=True, kw_only=True)
class CacheLayout(Remembered):
    """`read` is `heads first` or `exchanged`."""

    cause = "cache-layout"
    read: str = "heads first"

    def memory(self, own: str, other: str, at: Pass) -> Tensor:
        memory = at.so_far(own)
        if self.read == "exchanged":
            return torch.cat((at.so_far(other)[:, :-1], memory[:, -1:]), dim=1)
        return memory.transpose(1, 2).reshape(memory.shape)

    def says(self) -> str:
        if self.read == "exchanged":
            return "when decoding, the keys of the past are read as values and its values as keys"
        what = " and ".join(sorted(self.of))
        return f"when decoding, {what} lie in memory as (kv_heads, past, lanes) and are read as (past, kv_heads, lanes)"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"read": self.read, "of": sorted(self.of)}


@dataclass(frozen=True, kw_only=True)
class CacheLayer(Remembered):
    """The past is read from the block `below` further down."""

    cause = "cache-layer"
    below: int = 1

    def memory(self, own: str, other: str, at: Pass) -> Tensor:
        layer = layer_of(own)
        assert layer is not None
        memory = at.so_far(own)
        if layer < self.below:
            return memory
        lower = at.so_far(own.replace(f"blocks.{layer}.", f"blocks.{layer - self.below}."))
        return torch.cat((lower[:, :-1], memory[:, -1:]), dim=1)

    def says(self) -> str:
        blocks = "block" if self.below == 1 else f"block {self.below} steps"
        return f"when decoding, the {' and '.join(sorted(self.of))} of the past are those of the {blocks} below"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"below": self.below, "of": sorted(self.of)}


class CacheOffsetCause(Cause):
    name = "cache-offset"
    places = PROBS
    says = "a decode step reads one slot of the cache too few or too many"
    look_for = "`cache[:length]` against `cache[:length + 1]`; where the length is advanced, before attention or after"

    def propose(self, case: Case) -> Iterable[Bend]:
        if all(key.phase == "decode" for key in case.born):
            for way in OFFSETS:
                yield CacheOffset(way=way, layers=case.layers(PROBS))

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [CacheOffset(way=way) for way in OFFSETS] if attends(anatomy) else []


class CacheLayoutCause(Cause):
    name = "cache-layout"
    places = READS
    says = "the cache is read in another layout than it was written in"
    look_for = "(heads, time, lanes) against (time, heads, lanes); a `view` where a `transpose` is needed; k and v in one buffer"

    def propose(self, case: Case) -> Iterable[Bend]:
        if all(key.phase == "decode" for key in case.born):
            for of in reads_of(case):
                yield CacheLayout(of=of, layers=case.layers(READS))
            yield CacheLayout(read="exchanged", layers=case.layers(READS))

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        if not attends(anatomy):
            return []
        return [CacheLayout(), CacheLayout(of=frozenset({VALUES})), CacheLayout(read="exchanged")]


class CacheLayerCause(Cause):
    name = "cache-layer"
    places = READS
    says = "a decode step reads the memory of another block"
    look_for = "the layer's index into the cache: off by one, or the same for all layers"

    def propose(self, case: Case) -> Iterable[Bend]:
        if all(key.phase == "decode" for key in case.born):
            for of in reads_of(case):
                for below in (1, 2):
                    yield CacheLayer(below=below, of=of, layers=case.layers(READS))

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [CacheLayer()] if attends(anatomy) else []


def reads_of(case: Case) -> list[frozenset[str]]:
    """What may be read wrongly: what is shown to be, else both, keys, or values."""
    shown = frozenset(OF[local(key.site)] for key in case.born if local(key.site) in OF)
    every = [frozenset({KEYS, VALUES}), frozenset({KEYS}), frozenset({VALUES})]
    return list(dict.fromkeys([shown, *every])) if shown else every
