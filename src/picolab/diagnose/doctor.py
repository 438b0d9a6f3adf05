"""Who is the patient? A run, a checkpoint, a preset, or somebody's own code; with a text of its kind where one is at hand.

run            its own validation text, its rows and its data; without a checkpoint, these alone
checkpoint     a text is read with its tokenizer, if one is given          preset     untrained
file.py:make   whatever it returns: tokens -> logits is enough             metrics.jsonl, trainer_state.json     rows alone
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from picolab.data.prepare import prepare
from picolab.diagnose.laws.law import Patient
from picolab.diagnose.laws.offers import history_of
from picolab.diagnose.run_reading import read_run, text_of
from picolab.diagnose.theirs import patient_of_code
from picolab.errors import BadData, BadInput
from picolab.models.contract import LanguageModel
from picolab.runs import rows
from picolab.runs.folder import SETTINGS, Run, find_run, list_runs
from picolab.runs.foreign import is_code
from picolab.runs.reference import Opened, open_reference
from picolab.weights.checkpoint import CONFIG
from picolab.zoo import PRESETS

TOKENS, LEAST = 4096, 64
"""Of a text, how many tokens are read at most, and how many are enough."""


def patient_of(
    reference: str, *, tokenizer: str | None = None, data: str | None = None, seed: int = 0
) -> tuple[Patient, tuple[str, ...]]:
    """The patient a reference means, and what should be said about it."""
    if is_code(reference):
        return patient_of_code(reference, seed=seed)
    if is_rows(reference):
        return _of_rows(Path(reference), seed), ()
    empty = _without_weights(reference)
    if empty is not None:
        return _of_rows_alone(empty, seed)
    opened = open_reference(reference, tokenizer=tokenizer, seed=seed)
    run = _run_of(opened)
    reading = None if run is None else read_run(run, tokens=TOKENS)
    text = _text(opened, data) if data is not None else None if reading is None else reading.text
    trained = opened.source not in PRESETS
    patient = Patient.of(
        opened.model, name=opened.source, tokenizer=opened.tokenizer, trained=trained, text=text, seed=seed,
        checkpoint=Path(opened.source) if trained else None,
        build=lambda seed: _again(reference, tokenizer, seed),
        history=None if reading is None else reading.history,
        data=None if reading is None else reading.data,
    )  # fmt: skip
    return patient, (*opened.notes, *(() if reading is None else reading.notes))


def is_rows(reference: str) -> bool:
    """Whether a reference means the rows of a training alone: metrics.jsonl, or the trainer_state.json of transformers."""
    path = Path(reference)
    return path.is_file() and (path.suffix == ".jsonl" or path.name == "trainer_state.json")


def _of_rows(path: Path, seed: int) -> Patient:
    if path.suffix == ".jsonl":
        found = rows.read(path)
    else:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["log_history"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadData(f"`{path}` has no `log_history`", hint="transformers and TRL write it") from error
    if not found:
        raise BadData(f"`{path}` holds no rows", hint="one JSON object a line: step, train/loss, lr, grad_norm")
    return _no_model(str(path), seed, "there are rows of a training here, and no model", history=history_of(found))


def _without_weights(reference: str) -> Run | None:
    """The run a reference means, where it has not left any weights yet."""
    if reference in PRESETS or not (reference == "last" or Path(reference).is_dir() or list(_named(reference))):
        return None
    if (Path(reference) / CONFIG).exists() or (Path(reference).is_dir() and not (Path(reference) / SETTINGS).exists()):
        return None
    run = find_run(reference)
    return run if run.last() is None else None


def _named(reference: str) -> Iterator[Run]:
    return (run for run in list_runs() if run.path.name == reference)


def _of_rows_alone(run: Run, seed: int) -> tuple[Patient, tuple[str, ...]]:
    """A run without a checkpoint: what it wrote down can be read."""
    reading = read_run(run, tokens=TOKENS)
    why = "the run has left no checkpoint"
    patient = _no_model(str(run.path), seed, why, history=reading.history, data=reading.data)
    return patient, (f"`{run.path}`: {why}; its rows and its data are read", *reading.notes)


def _no_model(name: str, seed: int, why: str, **known: Any) -> Patient:
    def forward(tokens: Tensor) -> Tensor:
        raise BadInput(why)

    return Patient(name=name, forward=forward, vocab_size=0, seed=seed, missing=why, **known)


def _again(reference: str, tokenizer: str | None, seed: int) -> LanguageModel:
    """The model opened anew: what is not loaded would come from this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return open_reference(reference, tokenizer=tokenizer, seed=seed).model


def _run_of(opened: Opened) -> Run | None:
    """The run a checkpoint belongs to."""
    folder = Path(opened.source).parent.parent
    return Run.open(folder) if (folder / SETTINGS).exists() else None


def _text(opened: Opened, spec: str) -> Tensor:
    """Validation tokens of a corpus, as the model's tokenizer cuts them."""
    text = text_of(prepare(spec, tokenizer=opened.reading()), limit=TOKENS)
    if text.numel() < LEAST:
        raise BadInput(f"`{spec}` has {text.numel()} validation tokens, too few to examine a model with")
    return text
