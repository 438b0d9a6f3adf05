"""Who is the patient? A run, a checkpoint, a preset, or somebody's own code; with a text of its kind where one is at hand.

run            its own validation text, trained
checkpoint     a text is read with its tokenizer, if one is given          preset     untrained
file.py:make   whatever it returns: tokens -> logits is enough
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from picolab.data.prepare import prepare
from picolab.data.store import Mixture
from picolab.diagnose.laws.law import Patient
from picolab.errors import BadInput
from picolab.runs.folder import SETTINGS, Run
from picolab.runs.foreign import is_code, open_callable
from picolab.runs.foreign_engine import Foreign
from picolab.runs.reference import Opened, open_reference
from picolab.trace.engines.engine import Engine
from picolab.zoo import PRESETS

TOKENS = 4096
"""Of a text, how many are read at most."""


def patient_of(
    reference: str, *, tokenizer: str | None = None, data: str | None = None, seed: int = 0
) -> tuple[Patient, tuple[str, ...]]:
    """The patient a reference means, and what should be said about it."""
    if is_code(reference):
        code = open_callable(reference)
        engine = Foreign(code)
        return _of_engine(engine, seed), (*code.notes, f"`{reference}`: {engine.remembers}")
    opened = open_reference(reference, tokenizer=tokenizer, seed=seed)
    run = _run_of(opened)
    spec = data if data is not None or run is None else run.settings.data.spec
    text = None if spec is None else _text(opened, spec)
    trained = opened.source not in PRESETS
    patient = Patient.of(
        opened.model, name=opened.source, tokenizer=opened.tokenizer, trained=trained, text=text, seed=seed
    )
    return patient, opened.notes


def _run_of(opened: Opened) -> Run | None:
    """The run a checkpoint belongs to."""
    folder = Path(opened.source).parent.parent
    return Run.open(folder) if (folder / SETTINGS).exists() else None


def _text(opened: Opened, spec: str) -> Tensor:
    """Validation tokens of a corpus, as the model's tokenizer cuts them."""
    words = opened.reading()
    part = prepare(spec, tokenizer=words).part("validation")
    rows: list[int] = []
    for store in part.stores if isinstance(part, Mixture) else (part,):
        for number in range(store.n_documents):
            if len(rows) >= TOKENS:
                break
            rows += [words.eot, *(int(token) for token in store.document(number))]
    if len(rows) < 64:
        raise BadInput(f"`{spec}` has {len(rows)} validation tokens, too few to examine a model with")
    return torch.tensor(rows[:TOKENS], dtype=torch.int64)


def _of_engine(engine: Engine, seed: int) -> Patient:
    """Somebody's code, one text at a time; a row beside others cannot be asked for."""

    def forward(tokens: Tensor) -> Tensor:
        rows = []
        for row in tokens.tolist():
            engine.forget()
            rows.append(engine.read(row))
        return torch.stack(rows)

    def read(tokens: Tensor, memory: object) -> Tensor:
        return engine.read(tokens[0].tolist())[None]

    def begin(batch: int, capacity: int) -> object:
        engine.forget()
        return engine

    return Patient(
        name=engine.name,
        forward=forward,
        vocab_size=engine.vocab_size,
        context_length=engine.context_length,
        new_memory=begin,
        read=read,
        seed=seed,
    )
