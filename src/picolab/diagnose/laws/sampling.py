"""How is somebody's sampler asked? With one row of logits and settings by name; it answers a token, probabilities or logits.

sample(logits)                                    logits `(vocab,)` or `(1, vocab)`
sample(logits, temperature=, top_k=, top_p=)      also temp, k, p; seed= or generator= where it takes one
   -> 17                      a token: asked many times, with many seeds, and the answers are counted
   -> [0.6, 0.4, 0, ..]       probabilities
   -> [-0.5, -inf, ..]        logits that were filtered: their softmax is meant
"""

from __future__ import annotations

import functools
import inspect
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from picolab.errors import BadInput, PicolabError
from picolab.sample.pick import Sampler

CALLED = {
    "temperature": ("temperature", "temp", "tau"),
    "top_k": ("top_k", "k", "topk"),
    "top_p": ("top_p", "p", "topp", "nucleus_p"),
    "min_p": ("min_p",),
    "seed": ("seed",),
    "generator": ("generator", "rng"),
}
"""What people call the settings of a sampler."""

DRAWS = 400
"""Of a sampler that shows tokens only: a token of probability 0.04 is missed in one of ten million trials."""


class Refused(Exception):
    """The sampler said in so many words that it does not take a setting: that is no fault."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """A sampler, however it is written. `takes` are the settings it knows; `shows` is whether it tells probabilities."""

    name: str
    takes: frozenset[str]
    shows: bool
    ask: Callable[[Tensor, Mapping[str, Any], int], Any]
    seeded: bool = False

    def probabilities(self, logits: Tensor, **settings: Any) -> Tensor:
        """`(vocab,)` float64: what it says, or how often it drew each token."""
        if self.shows:
            return _as_probabilities(self._answer(logits, settings, 0))
        counted = Counter(self.draw(logits, seed, **settings) for seed in range(DRAWS))
        probs = torch.zeros(logits.shape[-1], dtype=torch.float64)
        for token, times in counted.items():
            probs[token] = times / DRAWS
        return probs

    def draw(self, logits: Tensor, seed: int, **settings: Any) -> int:
        """One token."""
        answer = self._answer(logits, settings, seed)
        if self.shows and not _is_token(answer):
            probs = _as_probabilities(answer)
            return int(torch.multinomial(probs, 1, generator=torch.Generator().manual_seed(seed)))
        token = int(torch.as_tensor(answer).reshape(-1)[0])
        if not 0 <= token < logits.shape[-1]:
            raise BadInput(f"the sampler answered token {token} of a vocabulary of {logits.shape[-1]}")
        return token

    def _answer(self, logits: Tensor, settings: Mapping[str, Any], seed: int) -> Any:
        neutral = {"temperature": 1.0, "top_p": 1.0, "top_k": logits.shape[-1]}
        others = {name: value for name, value in neutral.items() if name in self.takes}
        try:
            return self.ask(logits, others | dict(settings), seed)
        except (PicolabError, ValueError) as error:
            if "Expected parameter" in str(error):  # torch's own complaint about NaN: not a refusal
                raise
            raise Refused(str(error)) from error


def own_sampling() -> Sampling:
    """The sampler of this package."""

    def ask(logits: Tensor, settings: Mapping[str, Any], seed: int) -> Tensor:
        return Sampler(**settings).distribution(logits[None])[0]

    return Sampling(
        name="picolab's sampler", takes=frozenset({"temperature", "top_k", "top_p", "min_p"}), shows=True, ask=ask
    )


def sampling_of(function: Callable[..., Any]) -> Sampling:
    """Somebody's sampler, asked once to see how it wants to be asked and what it answers."""
    names = _names_of(function)
    probe = torch.tensor([-0.7, -1.2, -2.0, -3.0])

    def ask(logits: Tensor, settings: Mapping[str, Any], seed: int, *, rows: bool) -> Any:
        given = {names[key]: value for key, value in settings.items()}
        if "seed" in names:
            given[names["seed"]] = seed
        if "generator" in names:
            given[names["generator"]] = torch.Generator().manual_seed(seed)
        with seeded(seed), torch.no_grad():
            return function(logits[None].clone() if rows else logits.clone(), **given)

    failures = []
    for rows in (False, True):
        try:
            answer = ask(probe, {}, 0, rows=rows)
        except Exception as error:  # noqa: BLE001  somebody else's code: it may want the other shape
            failures.append(f"{type(error).__name__}: {error}")
            continue
        return Sampling(
            name=getattr(function, "__name__", type(function).__name__),
            takes=frozenset(names) - {"seed", "generator"},
            shows=not _is_token(answer),
            ask=functools.partial(ask, rows=rows),
            seeded=bool(names.keys() & {"seed", "generator"}),
        )
    raise BadInput(
        f"the sampler raises {failures[0].splitlines()[0][:160]}",
        hint="it is called with one row of logits, `(vocab,)` or `(1, vocab)`, and settings by name",
    )


def _names_of(function: Callable[..., Any]) -> dict[str, str]:
    """Which settings it takes, and what it calls them."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    taken = list(parameters)[1:]  # the first is the logits
    return {key: name for key, called in CALLED.items() for name in called if name in taken}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Every usual source of random numbers set, and put back afterwards."""
    before = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


def _is_token(answer: Any) -> bool:
    return isinstance(answer, int) or torch.as_tensor(answer).numel() == 1


def _as_probabilities(answer: Any) -> Tensor:
    """Probabilities as they are; of filtered logits the softmax."""
    row = torch.as_tensor(answer).detach().double().cpu().reshape(-1)
    if row.isnan().any():
        raise BadInput("the sampler answered NaN")
    if bool((row >= 0).all()) and bool((row <= 1 + 1e-6).all()):
        return row
    return row.softmax(-1)
