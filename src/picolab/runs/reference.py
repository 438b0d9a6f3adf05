"""What does a model reference mean? One word, from the command line or Python, to a model and its tokenizer.

    lstm                        a preset, with random weights
    last                        the newest run, its newest checkpoint
    runs/2026-11-20_x  or  x    a run, its newest checkpoint
    some/folder                 a checkpoint: model.safetensors and config.json, ours or Hugging Face's
    model.gguf   model.bin      a GGUF file, a llama2.c file with its tokenizer beside it

A preset's name is the preset; a folder of the same name is written `./lstm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from picolab.errors import BadCheckpoint, BadInput, UnknownName
from picolab.models.contract import LanguageModel
from picolab.runs.folder import SETTINGS, find_run, list_runs
from picolab.runs.foreign import is_code
from picolab.text.build import build_tokenizer
from picolab.text.tokenizer import Tokenizer
from picolab.weights.checkpoint import CONFIG
from picolab.weights.formats import open_checkpoint, open_tokenizer
from picolab.weights.kept import Form, form_of, keep
from picolab.weights.plan import LoadPlan, in_memory, plan_checkpoint, plan_model
from picolab.zoo import PRESETS, create

TOKENIZER_OF_PRESETS = "bytes"
"""What an untrained model reads where nobody says: every text, with nothing to learn or fetch first."""

REFUSED = {".pt": "a pickle that can run code", ".safetensors": "one file of a checkpoint"}
"""Files that are models and are not opened."""

FILES = (".gguf", ".bin")
"""Files that hold a whole model."""

LAST = ("last", "runs/last")


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A model ready to be used, its tokenizer if it has one, where both came from, and what should be known about them."""

    model: LanguageModel
    tokenizer: Tokenizer | None
    source: str
    notes: tuple[str, ...] = ()

    def reading(self) -> Tokenizer:
        """The tokenizer, or the refusal to read text without one."""
        if self.tokenizer is None:
            raise BadInput(f"`{self.source}` has no tokenizer", hint="name one with --tokenizer: bytes, gpt2, a folder")
        return self.tokenizer


def open_reference(
    reference: str | Path, *, tokenizer: str | None = None, seed: int = 0, dtype: Form = "float32", **settings: Any
) -> Opened:
    """The model a reference means, in evaluation mode, its weights kept as `dtype` says (`weights/kept.py`).

    A preset takes `settings` of its architecture and the seed of its weights; with no `vocab_size` it gets the vocabulary
    of `tokenizer` (bytes if not given). For a checkpoint `tokenizer` replaces the saved one.
    """
    if str(reference) in PRESETS:
        opened = _preset(str(reference), tokenizer, seed, settings)
        keep(opened.model, dtype)
        return opened
    place = _saved(reference, settings)
    model, own = open_checkpoint(place, dtype=dtype)
    given = own if tokenizer is None else _tokenizer(tokenizer)
    if given is not None and given.vocab_size > model.config.vocab_size:
        raise BadInput(
            f"the tokenizer has {given.vocab_size} tokens and the model {model.config.vocab_size}",
            hint="it is another model's tokenizer",
        )
    return Opened(model=model, tokenizer=given, source=str(place))


def load_plan(
    reference: str | Path,
    dtype: Form = "float32",
    context: int | None = None,
    *,
    tokenizer: str | None = None,
    **settings: Any,
) -> LoadPlan:
    """What `open_reference` would take in memory, and what a text of `context` tokens adds; nothing is loaded."""
    if str(reference) not in PRESETS:
        return plan_checkpoint(_saved(reference, settings), dtype, context)
    form = form_of(dtype)
    if "vocab_size" not in settings:
        settings["vocab_size"] = _tokenizer(tokenizer or TOKENIZER_OF_PRESETS).vocab_size
    with torch.device("meta"):
        model = create(str(reference), **settings)
    return plan_model(model, form, context, in_memory(model))


def _saved(reference: str | Path, settings: Mapping[str, Any]) -> Path:
    """Where a saved model lies, whose settings are its own."""
    if settings:
        raise BadInput(
            f"`{reference}` is a saved model, whose `{next(iter(settings))}` cannot be changed",
            hint="settings are for presets: a saved model has its own",
        )
    return _place_of(reference)


def _preset(preset: str, tokenizer: str | None, seed: int, settings: dict[str, Any]) -> Opened:
    words = None
    if tokenizer is not None or "vocab_size" not in settings:
        words = _tokenizer(tokenizer or TOKENIZER_OF_PRESETS)
    vocab_size = settings.pop("vocab_size", None) if words is None else settings.pop("vocab_size", words.vocab_size)
    model = create(preset, vocab_size=vocab_size, seed=seed, **settings)
    note = f"`{preset}` is a preset: its weights are random, and so is what it writes"
    return Opened(model=model.eval(), tokenizer=words, source=preset, notes=(note,))


def _tokenizer(spec: str) -> Tokenizer:
    """A tokenizer that needs no corpus."""
    return open_tokenizer(Path(spec)) if Path(spec).exists() else build_tokenizer(spec)


def _place_of(reference: str | Path) -> Path:
    """The checkpoint folder or file a reference stands for."""
    word, path = str(reference), Path(reference)
    if is_code(word):
        raise BadInput(
            f"`{word}` is code of its own, and a model of picolab's is meant here",
            hint=f"`picolab verify MODEL --run {word}` compares it with MODEL, the checkpoint it is to run",
        )
    if path.suffix in REFUSED and not path.is_dir():
        raise BadInput(
            f"`{word}` is {REFUSED[path.suffix]}, which is not opened here",
            hint="a run, a checkpoint folder with model.safetensors and config.json, a .gguf or a llama2.c .bin is",
        )
    if path.suffix in FILES and path.is_file():
        return path
    if (path / CONFIG).exists():
        return path
    names = {run.path.name for run in list_runs()}
    if word not in {*LAST, *names} and not path.exists():
        raise UnknownName("model or run", word, {*PRESETS, *names, "last"})
    if word not in {*LAST, *names} and not (path / SETTINGS).exists():
        raise BadCheckpoint(f"`{word}` is neither a run nor a checkpoint", hint=f"a checkpoint has {CONFIG} in it")
    run = find_run(reference)
    checkpoint = run.last()
    if checkpoint is None:
        raise BadCheckpoint(f"`{run.path}` has no checkpoint yet", hint=f"picolab train --resume {run.path}")
    return checkpoint.path
