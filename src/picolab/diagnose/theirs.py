"""Somebody's own model as a patient: what it offers beside tokens -> logits, and what that lets a doctor ask.

    make()  ->  nn.Module         its weights can be looked at, changed in a copy, and made again under another seed
                callable          tokens -> logits, and no more

    optional, on what is returned                                    laws that then can be asked
    new_cache(batch, capacity), model(tokens, cache=..)              cache, poison, overfit (writing)
    past_key_values=.., use_cache=..                                 cache
    read(tokens), forget()                                           cache
    config                                                           config-ledger, load-ledger (tying)
    checkpoint           folder its weights were read from           load-ledger (every tensor in its place)
    trained              True or False                               two-seeds, initial-loss, behaviour
    loss(tokens, targets)                                            overfit with its own loss
    quantise(matrix)     packed and unpacked again                   quantisation
    tokenizer, sampler and others                                    `offers.py`

How the logits are found in what it returns: `runs/foreign_logits.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from picolab.diagnose.laws.law import Patient, gap
from picolab.diagnose.laws.offers import offers_of
from picolab.diagnose.modules import LARGEST
from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.runs.foreign import Code, open_callable
from picolab.runs.foreign_engine import CAPACITY, Foreign

SECONDS = 20.0
"""For one answer; the whole examination of a small model takes as long."""


def patient_of_code(reference: str, *, seed: int = 0, seconds: float = SECONDS) -> tuple[Patient, tuple[str, ...]]:
    """The patient that `file.py:function` makes, and what was found out about it on the way."""
    return patient_of_call(open_callable(reference, seconds=seconds), seed=seed, seconds=seconds)


def patient_of_call(code: Code, *, seed: int = 0, seconds: float = SECONDS) -> tuple[Patient, tuple[str, ...]]:
    """The patient that a person's object is: a module, or a callable tokens -> logits."""
    if isinstance(code.call, LanguageModel):
        return Patient.of(code.call, name=f"`{code.source}`", seed=seed, **_offered(code, seconds)), code.notes
    engine = Foreign(code, seconds=seconds)
    patient = _patient(engine, seed, _offered(code, seconds))
    unsteady = _unsteady(patient)
    notes = (*code.notes, f"`{code.source}`: {engine.remembers}", *engine.notes, *([unsteady] if unsteady else []))
    return patient, notes


def _patient(engine: Foreign, seed: int, offered: dict[str, Any]) -> Patient:
    call = engine.code.call
    module = call if isinstance(call, nn.Module) else None

    def forward(tokens: Tensor) -> Tensor:
        if engine.way != "reads":
            return engine.together(call, tokens)
        rows = []
        for row in tokens.tolist():
            engine.forget()
            rows.append(engine.read(row))
        return torch.stack(rows)

    new_memory, read = _memory(engine)
    if module is not None:
        offered["module"] = module
    return Patient(
        name=engine.name,
        forward=forward,
        vocab_size=engine.vocab_size,
        context_length=engine.context_length,
        run=None if module is None else engine.together,
        new_memory=new_memory,
        read=read,
        seed=seed,
        **offered,
    )


@dataclass
class _Past:
    """The memory of a model of transformers' kind, which hands a new one back after each read."""

    kept: Any = None


def _memory(engine: Foreign) -> tuple[Callable[[int, int], Any] | None, Callable[[Tensor, Any], Tensor] | None]:
    """How it begins a text and reads on, if it does."""
    call: Any = engine.code.call
    if engine.way == "cache":
        limit = engine.context_length or CAPACITY
        return (
            lambda batch, capacity: call.new_cache(batch, min(capacity, limit)),
            lambda tokens, memory: engine.together(call, tokens, cache=memory),
        )
    if engine.way == "past":

        def read(tokens: Tensor, memory: _Past) -> Tensor:
            def keeping(ids: Tensor, **more: Any) -> Any:
                returned = call(ids.to(_device(call)), **more)
                memory.kept = engine.past_in(returned)
                return returned

            return engine.together(keeping, tokens, past_key_values=memory.kept, use_cache=True)

        return lambda batch, capacity: _Past(), read
    if engine.way == "reads":

        def begin(batch: int, capacity: int) -> Foreign:
            engine.forget()
            return engine

        return begin, lambda tokens, memory: engine.read(tokens[0].tolist())[None]
    return None, None


def _offered(code: Code, seconds: float) -> dict[str, Any]:
    """Fields of a patient that the object itself fills."""
    call: Any = code.call
    offered: dict[str, Any] = offers_of(call)
    place = getattr(call, "checkpoint", None)
    if isinstance(place, str | Path):
        if not Path(place).exists():
            raise BadInput(f"`{code.source}` says that its `checkpoint` is `{place}`, which does not exist")
        offered["checkpoint"] = Path(place)
    if isinstance(trained := getattr(call, "trained", None), bool):
        offered["trained"] = trained
    if callable(pack := getattr(call, "quantise", None)):
        offered["quantise"] = pack
    if isinstance(call, nn.Module) and sum(p.numel() for p in call.parameters()) <= LARGEST:
        offered["build"] = lambda seed: _again(code.source, seed, seconds)
    return offered


def _again(source: str, seed: int, seconds: float) -> nn.Module:
    """The model made anew, after every generator of random numbers that people use was seeded."""
    with _all_random_from(seed):
        made = open_callable(source, seconds=seconds).call
    if not isinstance(made, nn.Module):
        raise BadInput(f"`{source}` returned a module, and called again {type(made).__name__}")
    return made


@contextmanager
def _all_random_from(seed: int) -> Iterator[None]:
    """While open, chance comes from this seed: code that seeds itself, as most does, gets a seed that follows from ours."""
    torch_seed, random_seed, numpy_seed = torch.manual_seed, random.seed, np.random.seed
    states = random.getstate(), np.random.get_state()
    with (
        torch.random.fork_rng(devices=[]),
        patch.object(torch, "manual_seed", lambda given: torch_seed(int(given) % 2**31 + 977 * seed)),
        patch.object(random, "seed", lambda *given: random_seed(f"{given} {seed}")),
        patch.object(np.random, "seed", lambda *given: numpy_seed((hash(given) + 977 * seed) % 2**31)),
    ):
        torch_seed(seed)
        random_seed(seed)
        numpy_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def _unsteady(patient: Patient) -> str | None:
    """Whether the same question gets another answer at once: then comparing answers says nothing."""
    tokens = patient.random(1, 7, salt=4)
    off = gap(patient.logits(tokens), patient.logits(tokens))
    if not off > 1e-6:
        return None
    return f"{patient.name} answers the same tokens differently each time, by {off:.2g} of the largest logit"


def _device(call: Any) -> torch.device:
    parameter = next(call.parameters(), None) if isinstance(call, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device
