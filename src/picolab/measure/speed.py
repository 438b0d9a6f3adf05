"""How many tokens a second does a model train on, before anything of a run is there?

    forward, backward, AdamW on one batch          (batch x time tokens a step)

The median over several repeats after a warm-up, so that one hiccup of the machine does not decide it. `picolab bench` measures the
steps of a run themselves, stage by stage, and reading and writing too (compare/bench.py).
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from picolab.data.batch import Batch
from picolab.errors import BadSetting
from picolab.measure.stopwatch import settle
from picolab.models.contract import LanguageModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Tokens a second, and the seconds of one step behind it (median, fastest, slowest)."""

    tokens_per_second: float
    seconds: float
    fastest: float
    slowest: float
    repeats: int


def training_speed(model: LanguageModel, batch: Batch, *, repeats: int = 5, warmup: int = 1) -> Speed:
    """One AdamW step on `batch`; the steps are taken on a copy, so the model stays as it was."""
    twin = copy.deepcopy(model).train()
    optimizer = torch.optim.AdamW((p for p in twin.parameters() if p.requires_grad), lr=1e-4)
    here, count = batch.to(model.device), max(batch.scored, 1)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        (twin.losses(here.tokens, here.targets, documents=here.documents).sum() / count).backward()
        optimizer.step()

    return _median(step, tokens=batch.tokens.numel(), repeats=repeats, warmup=warmup, device=model.device)


def _median(work: Callable[[], None], *, tokens: int, repeats: int, warmup: int, device: torch.device) -> Speed:
    if repeats < 1:
        raise BadSetting(f"repeats {repeats} is less than one", hint="5 gives a steady median")
    seconds = []
    for _ in range(warmup + repeats):
        settle(device)
        start = time.perf_counter()
        work()
        settle(device)
        seconds.append(time.perf_counter() - start)
    return _speed(seconds[warmup:], tokens=tokens)


def _speed(seconds: list[float], *, tokens: int) -> Speed:
    middle = statistics.median(seconds)
    return Speed(
        tokens_per_second=tokens / middle,
        seconds=middle,
        fastest=min(seconds),
        slowest=max(seconds),
        repeats=len(seconds),
    )
