"""How many tokens a second does a model train on, read, and write?

    training   forward, backward, AdamW on one batch          (batch x time tokens a step)
    prefill    one pass over the batch, into a fresh cache    (batch x time tokens a pass)
    decode     one token a row at a time, after a prompt      (batch tokens a step)

Each figure is the median over several repeats after a warm-up, so that one hiccup of the machine does not decide it.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from picolab.data.batch import Batch
from picolab.errors import BadSetting
from picolab.models.contract import LanguageModel
from picolab.shapes import Tokens


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


def prefill_speed(model: LanguageModel, tokens: Tokens, *, repeats: int = 5, warmup: int = 1) -> Speed:
    """One pass over `tokens` (batch, time) that fills a cache; no logits but the last position's are computed."""
    here = tokens.to(model.device)

    def read() -> None:
        _read(model, here, model.new_cache(*here.shape))

    with _evaluating(model):
        return _median(read, tokens=here.numel(), repeats=repeats, warmup=warmup, device=model.device)


def decode_speed(
    model: LanguageModel, prompt: Tokens, *, new_tokens: int = 16, repeats: int = 5, warmup: int = 1
) -> Speed:
    """Greedy tokens after `prompt` (batch, time); reading the prompt is not in the figure."""
    if new_tokens < 1:
        raise BadSetting(f"new_tokens {new_tokens} is less than one", hint="16 is enough for a steady figure")
    here = prompt.to(model.device)
    batch, length = here.shape
    seconds = []
    with _evaluating(model):
        for _ in range(warmup + repeats):
            cache = model.new_cache(batch, length + new_tokens)
            last = _read(model, here, cache)
            _settle(model.device)
            start = time.perf_counter()
            for _ in range(new_tokens):
                last = _read(model, last, cache)
            _settle(model.device)
            seconds.append(time.perf_counter() - start)
    return _speed(seconds[warmup:], tokens=batch * new_tokens)


def _read(model: LanguageModel, tokens: Tokens, cache: Any) -> Tokens:
    """The most likely token after `tokens`; logits of the last position alone."""
    if tokens.shape[1] > 1:
        model.features(tokens[:, :-1], cache=cache)
    return model(tokens[:, -1:], cache=cache).argmax(-1)


def _median(work: Callable[[], None], *, tokens: int, repeats: int, warmup: int, device: torch.device) -> Speed:
    if repeats < 1:
        raise BadSetting(f"repeats {repeats} is less than one", hint="5 gives a steady median")
    seconds = []
    for _ in range(warmup + repeats):
        _settle(device)
        start = time.perf_counter()
        work()
        _settle(device)
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


def _settle(device: torch.device) -> None:
    if device.type == "cuda":  # kernels run behind the program's back
        torch.cuda.synchronize(device)


@contextmanager
def _evaluating(model: LanguageModel) -> Iterator[None]:
    """Evaluation mode and no gradients while open."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)
