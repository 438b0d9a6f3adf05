"""The same recording, made by another engine: it reads the tokens in the same phases and is watched while it does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from picolab.errors import BadInput
from picolab.trace.engines.engine import Engine
from picolab.trace.recording import DECODE, PREFILL, Entry, Recording, axes
from picolab.trace.sites import chosen


def record_engine(
    engine: Engine, tokens: Sequence[int], sites: str | Sequence[str] = "*", *, prefill: int | None = None
) -> Recording:
    """What an engine computes at these sites: the first `prefill` tokens (all, if not said) at once, the rest one by one.

    Values are copies in main memory, batch 1. BadInput where none of the sites is one the engine has.
    """
    first = len(tokens) if prefill is None else prefill
    if not 1 <= first <= len(tokens):
        raise BadInput(f"{first} of {len(tokens)} tokens cannot be read at once", hint="from 1 to all of them")
    recording = Recording(engine=engine.name, tokens=torch.tensor([list(tokens)], dtype=torch.int64))
    wanted = chosen(sites)
    engine.forget()
    passes = [tuple(range(first)), *((p,) for p in range(first, len(tokens)))]
    for number, positions in enumerate(passes):
        phase, step = (PREFILL, 0) if number == 0 else (DECODE, number - 1)

        def see(
            site: str, value: Tensor, phase: str = phase, step: int = step, at: tuple[int, ...] = positions
        ) -> None:
            kept = value.detach().to("cpu", copy=True)
            recording.entries.append(Entry(site, phase, step, at, axes(site, kept), kept))

        with engine.watching(see, wanted):
            engine.read([tokens[p] for p in positions])
    if not recording.entries:
        raise BadInput(f"{engine.name} has no site that matches `{sites}`", hint="`*` records all it has")
    return recording
