"""What was seen while a model ran: values by the name of their place, and which pass each belongs to.

    recording["blocks.0.attention.probs"]           the first pass that went through there, as a tensor
    recording.entries                               all of it: place, phase, step, positions, value

A value is the tensor that flowed through the model, not a copy; of a recording on disk it is read when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from picolab.errors import BadInput, UnknownName
from picolab.trace.sites import GRAD, SCORES, dims_of
from picolab.trace.statistics import Attention, Statistics, statistics_of, statistics_of_pairs

PREFILL, DECODE, LOSS, BACKWARD = "prefill", "decode", "loss", "backward"
PHASES = (PREFILL, DECODE, LOSS, BACKWARD)
"""Reading without and with a memory of what came before; the loss; the way back."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One value at one place in one pass.

    `step` counts the passes of a phase from 0; a gradient has the step of the pass it came back to. `positions` are the tokens'
    positions that the value covers. `kept` is the value, or a function that reads it, or None where only `statistics` (and of
    attention `attention`) were kept.
    """

    site: str
    phase: str
    step: int
    positions: tuple[int, ...]
    dims: str | None
    kept: Tensor | Callable[[], Tensor] | None
    kept_statistics: Statistics | None = None
    attention: Attention | None = None

    @property
    def value(self) -> Tensor:
        if self.kept is None:
            raise BadInput(
                f"of `{self.site}` only statistics were kept",
                hint="a recording that keeps values (keep='device') has the numbers",
            )
        return self.kept if isinstance(self.kept, Tensor) else self.kept()

    @property
    def statistics(self) -> Statistics:
        """Over all numbers; of scores and probabilities over the pairs with key <= query, what lies after being never used."""
        if self.kept_statistics is not None:
            return self.kept_statistics
        value = self.value
        return statistics_of_pairs(value) if self.dims == SCORES and self.is_causal(value) else statistics_of(value)

    @staticmethod
    def is_causal(scores: Tensor) -> bool:
        """Whether the last query of these scores stands at the last key."""
        return scores.shape[-1] >= scores.shape[-2]


@dataclass(slots=True, eq=False)
class Recording(Mapping[str, Tensor]):
    """Everything seen, in the order in which it was computed, gradients therefore from the last place to the first. As a
    mapping: site -> value of the first pass through it. `tokens` are those of the first text, `(batch, time)`."""

    engine: str
    dtype: str = "float32"
    config: dict[str, Any] = field(default_factory=dict)
    tokens: Tensor = field(default_factory=lambda: torch.zeros(1, 0, dtype=torch.int64))
    entries: list[Entry] = field(default_factory=list)

    def entry(self, site: str, phase: str | None = None, step: int | None = None) -> Entry:
        """The first value at a site, of one phase and step where they are said; the nearest name where there is none."""
        for entry in self.entries:
            if entry.site == site and phase in (None, entry.phase) and step in (None, entry.step):
                return entry
        at = self.sites
        if site in at:
            seen = sorted({f"{entry.phase} {entry.step}" for entry in self.entries if entry.site == site})
            asked = f"{phase or 'phase'} {'' if step is None else step}".strip()
            raise BadInput(f"`{site}` was not seen in {asked}", hint="it was in " + ", ".join(seen))
        raise UnknownName("recorded site", site, at)

    @property
    def sites(self) -> list[str]:
        """The names of all places seen, each once, in the order of computation."""
        return list(dict.fromkeys(entry.site for entry in self.entries))

    def steps(self, phase: str) -> int:
        """How many passes of a phase there are."""
        return len({entry.step for entry in self.entries if entry.phase == phase})

    def gradient(self, site: str) -> Tensor:
        """The gradient of the loss at a site."""
        if site in self and GRAD + site not in self:
            raise BadInput(
                f"no gradient came back to `{site}`",
                hint="record with gradients=True and call backward() before the block ends",
            )
        return self.entry(GRAD + site).value

    def __getitem__(self, site: str) -> Tensor:
        return self.entry(site).value

    def __contains__(self, site: object) -> bool:
        return any(entry.site == site for entry in self.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)


def axes(site: str, value: Tensor) -> str | None:
    """The axes of a value at a canonical site, if it has as many."""
    dims = dims_of(site)
    return dims if dims is not None and len(dims.split()) == value.ndim else None
