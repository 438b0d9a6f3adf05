"""A decode step that reads keys or values of another text, another step or nothing at all: `cache-stale`, `cache-unwritten`.

    slot      0  1  2  3  4            the step at position 4 should read k0 k1 k2 k3 k4
    stale     k0 k1 k2 k2 k4           slot 3 still holds what was there before: the slot of position 2, say
    unwritten k0 k1 k2 0  k4           slot 3 was never written

Prefill is right and decoding is not: that is what tells a fault of the cache from one of attention.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.causes.lines import block_of, keys_site, make_mixed, make_scores
from picolab.diagnose.walk import Pass, local

READS = frozenset({"attention.scores", "attention.mixed"})
KEYS, VALUES = "keys", "values"
OF = {"attention.scores": KEYS, "attention.mixed": VALUES}


@dataclass(frozen=True, kw_only=True)
class CacheSlot(Bend):
    """Slot `slot` is read as what belongs to position `holds`, or as zeros where `holds` is None, once it is in the past."""

    places = READS
    slot: int
    holds: int | None
    of: frozenset[str] = frozenset({KEYS, VALUES})

    def applies(self, site: str, at: Pass) -> bool:
        return at.phase == "decode" and OF.get(local(site)) in self.of and super().applies(site, at)

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        if local(site) == "attention.scores":
            q = at.read(site, 0)
            return make_scores(q, self._read(at.so_far(keys_site(site, at)), at))
        return make_mixed(at.read(site, 0), self._read(at.so_far(f"{block_of(site)}.v"), at))

    def _read(self, memory: Tensor, at: Pass) -> Tensor:
        if not 0 <= self.slot < at.positions[0]:
            return memory
        memory = memory.clone()
        memory[:, self.slot] = 0.0 if self.holds is None else memory[:, self.holds]
        return memory

    def says(self) -> str:
        what = " and ".join(sorted(self.of))
        holds = "zeros" if self.holds is None else f"those of position {self.holds}"
        return f"when decoding, the {what} read for position {self.slot} are {holds}"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"slot": self.slot, "holds": self.holds, "of": sorted(self.of)}


@dataclass(frozen=True, kw_only=True)
class CacheStale(CacheSlot):
    cause = "cache-stale"


@dataclass(frozen=True, kw_only=True)
class CacheUnwritten(CacheSlot):
    cause = "cache-unwritten"


class CacheStaleCause(Cause):
    name = "cache-stale"
    places = READS
    says = "a decode step reads a slot of the cache that holds another position's keys or values"
    look_for = "where the step's keys are written: before or after attention reads, at `length` or `length - 1`, per layer or once"

    bend: type[CacheSlot] = CacheStale

    def propose(self, case: Case) -> Iterable[Bend]:
        if any(key.phase != "decode" for key in case.born):
            return
        layers = case.layers(READS)
        shown = frozenset(OF[local(key.site)] for key in case.born if local(key.site) in OF)
        choices = [shown] if shown else [frozenset({KEYS, VALUES}), frozenset({KEYS}), frozenset({VALUES})]
        for slot in wrong_slots(case):
            for holds in self._contents(slot):
                for of in choices:
                    yield self.bend(slot=slot, holds=holds, of=of, layers=layers)

    def _contents(self, slot: int) -> Sequence[int | None]:
        return [holds for holds in (slot - 1, 0, slot - 2, slot + 1) if holds >= 0 and holds != slot]

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        if not any(line.kind == "scores" for line in anatomy.lines.values()):
            return []
        return [self.bend(slot=13, holds=holds) for holds in self._contents(13)[:2]]


class CacheUnwrittenCause(CacheStaleCause):
    name = "cache-unwritten"
    says = "a decode step reads a slot of the cache that was never written"
    look_for = (
        "steps whose keys or values are not stored: the first after the prefill, the last before a growth of the cache"
    )

    bend = CacheUnwritten

    def _contents(self, slot: int) -> Sequence[int | None]:
        return [None]


def wrong_slots(case: Case) -> list[int]:
    """Positions whose keys may be wrong: where decode scores show a difference, else every one a step has read."""
    seen: set[int] = set()
    shown = False
    for sight in case.sights(["attention.scores"]):
        if sight.target is not None and sight.key.phase == "decode":
            shown = True
            gap = (sight.made - sight.target).abs().amax(dim=(0, 1, 2))
            seen |= {int(p) for p in torch.nonzero(gap > 1e-3 * sight.made.abs().max()).flatten()}
    if shown and seen:
        return sorted(seen)[:4]
    read = {p for (phase, _), at in case.passes.items() if phase == "decode" for p in range(at.positions[0])}
    return sorted(read, reverse=True)[:6]
