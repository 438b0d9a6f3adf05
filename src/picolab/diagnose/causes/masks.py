"""Who may see whom, wrongly: `mask-missing mask-inverted mask-offset mask-window`.

            keys ->       right        missing      inverted     one on       window 2
    queries  |            x . . .      x x x x      . x x x      x x . .      x . . .
             v            x x . .      x x x x      . . x x      x x x .      x x . .
                          x x x .      x x x x      . . . x      x x x x      . x x .
                          x x x x      x x x x      . . . .      x x x x      . . x x

A token that sees the next one predicts it: such a model has a wonderful loss and writes nonsense. Which keys the target sees is
read off its probabilities where they are shown. A query that may see nothing shares itself out evenly, as a mask of very large
negative numbers makes it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cause import Bend, Case, Cause
from picolab.diagnose.causes.lines import Visible, make_probs, visible, window_of
from picolab.diagnose.walk import Pass
from picolab.trace.sites import layer_of

PROBS = frozenset({"attention.probs"})

WAYS = {
    "missing": "every query sees every key of its pass, those after it too",
    "zero": "scores of hidden keys are set to 0, where they should be -infinity",
    "after": "hidden keys are taken out after the softmax, and what they got is lost",
}
"""In which ways a mask can fail to hide."""


def distances(at: Pass, device: torch.device) -> Tensor:
    """How far each key lies behind each query, `(time, past)`; negative for keys after it."""
    query = torch.tensor(at.positions, device=device)[:, None]
    return query - torch.arange(at.positions[-1] + 1, device=device)


def attends(anatomy: Anatomy) -> bool:
    return any(line.kind == "probs" for line in anatomy.lines.values())


@dataclass(frozen=True, kw_only=True)
class Masked(Bend):
    """Another set of keys is visible."""

    places = PROBS

    @abstractmethod
    def sees(self, right: Visible, site: str, at: Pass) -> Visible:
        """The keys that each query sees, where `right` are those it should."""

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        scores = at.read(site)
        seen = self.sees(visible(at, site, scores.device), site, at)
        blind = ~seen.any(-1, keepdim=True)
        return make_probs(scores.masked_fill(blind, 0.0), seen | blind, at, site)


@dataclass(frozen=True, kw_only=True)
class MaskMissing(Masked):
    cause = "mask-missing"
    way: str = "missing"

    def sees(self, right: Visible, site: str, at: Pass) -> Visible:
        return torch.ones_like(right)

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        if self.way == "missing":
            return Masked.bend(self, site, value, at)
        scores = at.read(site)
        right = visible(at, site, scores.device)
        if self.way == "zero":
            return make_probs(scores.masked_fill(~right, 0.0), torch.ones_like(right), at, site)
        return make_probs(scores, torch.ones_like(right), at, site).masked_fill(~right, 0.0)

    def says(self) -> str:
        return WAYS[self.way]

    @property
    def evidence(self) -> dict[str, Any]:
        return {"way": self.way}


@dataclass(frozen=True, kw_only=True)
class MaskInverted(Masked):
    cause = "mask-inverted"

    def sees(self, right: Visible, site: str, at: Pass) -> Visible:
        return ~right

    def says(self) -> str:
        return "every query sees exactly the keys that it should not"


@dataclass(frozen=True, kw_only=True)
class MaskOffset(Masked):
    """The newest key a query sees is `by` after its own."""

    cause = "mask-offset"
    by: int

    def sees(self, right: Visible, site: str, at: Pass) -> Visible:
        behind, window = distances(at, right.device), window_of(at, site)
        seen = behind >= -self.by
        return seen if window is None else seen & (behind < window)

    def says(self) -> str:
        keys = "1 key" if abs(self.by) == 1 else f"{abs(self.by)} keys"
        return f"queries see {keys} too {'many: those after them' if self.by > 0 else 'few: not even their own'}"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"newest key after the query": self.by}


@dataclass(frozen=True, kw_only=True)
class MaskWindow(Masked):
    """Queries see the newest `window` keys, None: all; in blocks that have a window, or also in those that have none."""

    cause = "mask-window"
    window: int | None
    everywhere: bool = False
    swapped: bool = False

    def sees(self, right: Visible, site: str, at: Pass) -> Visible:
        own, behind = window_of(at, site), distances(at, right.device)
        if self.swapped:
            window = self.window if own is None else None
        else:
            window = self.window if own is not None or self.everywhere else None
        return behind >= 0 if window is None else (behind >= 0) & (behind < window)

    def says(self) -> str:
        if self.swapped:
            return "blocks that should look through a window see all, and those that should see all look through it"
        return "no window is applied" if self.window is None else f"queries see only the newest {self.window} keys"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"window": self.window, "swapped": self.swapped}


class MaskMissingCause(Cause):
    name = "mask-missing"
    places = PROBS
    says = "the causal mask is not applied, or does not hide"
    look_for = (
        "`is_causal`, `attn_mask=None`; `scores * mask` in place of `masked_fill`; a mask multiplied after the softmax"
    )

    def propose(self, case: Case) -> Iterable[Bend]:
        for way in WAYS:
            yield MaskMissing(way=way, layers=case.layers(PROBS))

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [MaskMissing(way=way) for way in WAYS] if attends(anatomy) else []


class MaskInvertedCause(Cause):
    name = "mask-inverted"
    places = PROBS
    says = "the mask hides what should be seen and shows what should be hidden"
    look_for = (
        "`masked_fill(mask)` against `masked_fill(~mask)`; PyTorch's two masks, where True means allowed or forbidden"
    )

    def propose(self, case: Case) -> Iterable[Bend]:
        yield MaskInverted(layers=case.layers(PROBS), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [MaskInverted()] if attends(anatomy) else []


class MaskOffsetCause(Cause):
    name = "mask-offset"
    places = PROBS
    says = "the triangle of the mask is shifted: queries see the next token, or not their own"
    look_for = (
        "`tril(diagonal=1)`, `key < query` against `key <= query`, the offset of the queries when a cache is read"
    )

    def propose(self, case: Case) -> Iterable[Bend]:
        seen = seen_distances(case)
        newest = {-min(behind) for behind in seen if behind}
        offsets = sorted(newest - {0}, key=abs) if newest else [1, -1, 2, -2, 3, 4]
        for by in offsets[:6]:
            yield MaskOffset(by=by, layers=case.layers(PROBS), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        return [MaskOffset(by=1), MaskOffset(by=-1), MaskOffset(by=3)] if attends(anatomy) else []


class MaskWindowCause(Cause):
    name = "mask-window"
    places = PROBS
    says = "a sliding window of another width, in other blocks, in some passes only, or where none belongs"
    look_for = "`<` against `<=` at the window's edge; which layers have it; a decode path that reads the whole cache"

    def propose(self, case: Case) -> Iterable[Bend]:
        usual = usual_window(case.anatomy)
        for window in self._windows(case, usual):
            for everywhere in (False, True) if window is not None else (False,):
                if everywhere or usual is not None:
                    yield MaskWindow(
                        window=window, everywhere=everywhere, layers=case.layers(PROBS), phases=case.phases
                    )
        if usual is not None and len(_windows_of(case.anatomy)) > 1:
            yield MaskWindow(window=usual, swapped=True)

    def _windows(self, case: Case, usual: int | None) -> Iterator[int | None]:
        longest = max((at.positions[-1] for at in case.passes.values()), default=0)
        widths = {max(behind) + 1 for behind in seen_distances(case) if behind and min(behind) == 0}
        if widths:
            yield max(widths)
        if not widths or max(widths) > longest:
            yield None
        if not widths:
            yield from [usual - 1, usual + 1] if usual else range(1, min(longest, 16) + 1)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        usual = usual_window(anatomy) if attends(anatomy) else None
        if usual is None:
            return [MaskWindow(window=7, everywhere=True)] if attends(anatomy) else []
        changed = [
            MaskWindow(window=usual + 1),
            MaskWindow(window=usual - 1),
            MaskWindow(window=None),
            MaskWindow(window=None, phases=frozenset({"decode"})),
        ]
        return [*changed, MaskWindow(window=usual, swapped=True)] if len(_windows_of(anatomy)) > 1 else changed


def seen_distances(case: Case) -> list[set[int]]:
    """By pass and block, how far behind its query each key lies that the target's probabilities reach; empty if not shown."""
    found = []
    for sight in case.sights(PROBS):
        if sight.target is None or sight.target.shape != sight.made.shape:
            continue
        reached = (sight.target > 0).any(dim=1)[0]
        found.append(set(distances(sight.at, reached.device)[reached].tolist()))
    return found


def _windows_of(anatomy: Anatomy) -> set[int | None]:
    at = Pass(anatomy, "prefill", 0, (), ())
    blocks = {f"blocks.{layer}.attention.probs" for site in anatomy.sites if (layer := layer_of(site)) is not None}
    return {window_of(at, site) for site in blocks if site in anatomy.lines}


def usual_window(anatomy: Anatomy) -> int | None:
    """The width of the model's windows, if it has any."""
    return max((window for window in _windows_of(anatomy) if window is not None), default=None)
