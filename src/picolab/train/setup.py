"""From settings to a task: prepare the data, build the model, settle what was left open.

data.spec -> Dataset -> Loader.batch(step)         left open: min_lr, warm-up, context, the architecture's own fields
model.preset + fields + vocab_size -> model        after this they are written in settings.yaml, as they were used
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from picolab.counts.closed_form import write_attention
from picolab.data.batch import IGNORE, Batch
from picolab.data.dataset import Dataset
from picolab.data.loader import Loader
from picolab.data.prepare import Progress, prepare
from picolab.data.split import Split
from picolab.data.store import Mixture
from picolab.errors import BadData, BadSetting
from picolab.models.contract import LanguageModel
from picolab.objectives.next_token import next_token
from picolab.runs.settings import Settings
from picolab.text.tokenizer import Tokenizer
from picolab.train.task import Task
from picolab.zoo import create, preset_of, settings_of

PROMPT_TOKENS = 8
"""A sample is opened by half of a validation document, and by no more tokens than this."""


PIECES = 64


def _ignore(done: int, total: int) -> None:
    """Nobody watches."""


def next_token_task(settings: Settings, *, reading: Progress = _ignore, counting: Progress = _ignore) -> Task:
    """The usual task: predict every next token of a corpus.

    `reading` is told how far the text is prepared, `counting` how far it is counted, each where it has to be.
    """
    d, t = settings.data, settings.training
    preset_of(settings.model.preset, settings.model.overrides)
    dataset = dataset_of(settings, progress=reading)
    model = build_model(settings, vocab_size=dataset.tokenizer.vocab_size)
    written = write_attention(model, dataset, seed=settings.seed, progress=counting)
    rows = d.context_length or model.config.context_length
    loader = Loader(dataset.train, batch_size=t.batch_size, context_length=rows, seed=settings.seed)
    # Padding is the only thing in a row that is not scored.
    per_step = t.batch_size * rows * (1 - loader.padding)
    steps = t.steps if t.steps is not None else math.ceil((t.tokens or 0) / per_step)
    validation = validation_batches(dataset, settings, rows)
    return Task(
        settings=settle(settings, model, rows=rows, steps=steps),
        model=model,
        tokenizer=dataset.tokenizer,
        objective=next_token,
        batch=loader.batch,
        steps=steps,
        tokens_per_step=per_step,
        validation=validation,
        validation_bytes=text_bytes(validation, dataset.tokenizer),
        data_fingerprint=fingerprint(dataset),
        prompt=opening(dataset) if t.sample_prompt is None else t.sample_prompt,
        facts=facts_of(dataset, tokens=round(steps * per_step)),
        notes=(*notes_on(dataset, loader, steps), *written),
    )


def dataset_of(settings: Settings, *, progress: Progress = _ignore) -> Dataset:
    """The data a run reads, from the cache where it has been made before."""
    d = settings.data
    whole = prepare(
        d.spec,
        tokenizer=d.tokenizer,
        compact_vocab=d.compact_vocab,
        split=Split(validation=d.validation, test=d.test),
        seed=d.seed,
        input_dir=d.input_dir,
        limit_examples=d.limit_examples,
        progress=progress,
    )
    if d.train_examples is None:
        return whole
    if isinstance(whole.train, Mixture):
        raise BadSetting(
            f"`data.train_examples` {d.train_examples} does not say how many documents of each part of a blend",
            hint="leave it out, or learn one corpus",
        )
    return replace(whole, train=whole.train.first(d.train_examples))


def build_model(settings: Settings, *, vocab_size: int) -> LanguageModel:
    """The preset with its changed fields, as wide as the vocabulary and as long as the rows it will read."""
    fields = settings.model.overrides
    rows = settings.data.context_length
    if rows is not None:
        fields.setdefault("context_length", rows)
    asked = fields.pop("vocab_size", vocab_size)
    if asked < vocab_size:
        raise BadSetting(
            f"`model.vocab_size` {asked} is smaller than the tokenizer's {vocab_size}",
            hint="leave it out: the tokenizer knows",
        )
    model = create(settings.model.preset, vocab_size=asked, seed=settings.seed, **fields)
    reach = model.config.context_length
    if rows is not None and rows > reach:
        raise BadSetting(
            f"`data.context_length` {rows} is longer than the model's context of {reach}",
            hint=f"give the model as much: --model.context_length {rows}",
        )
    return model


def settle(settings: Settings, model: LanguageModel, *, rows: int, steps: int) -> Settings:
    """The settings with nothing left open, so that they say the same next year."""
    o = settings.optimizer
    own = {name: value for name, value in settings_of(model).items() if name != "vocab_size"}
    if "vocab_size" in settings.model.overrides:
        own["vocab_size"] = model.config.vocab_size
    return settings.changed(
        model=own,
        data={"context_length": rows},
        optimizer={
            "min_lr": o.lr / 10 if o.min_lr is None else o.min_lr,
            "warmup": min(100, steps // 10) if o.warmup is None else o.warmup,
        },
    )


def validation_batches(dataset: Dataset, settings: Settings, rows: int) -> list[Batch]:
    """The batches every evaluation reads, always the same ones."""
    if not dataset.validation.n_documents:
        raise BadData(
            f"`{dataset.name}` leaves no document for validation", hint="give more text or a larger --validation"
        )
    loader = Loader(dataset.validation, batch_size=settings.training.batch_size, context_length=rows, seed=0)
    return list(islice(loader.epoch(), settings.training.eval_batches))


def text_bytes(batches: Sequence[Batch], tokenizer: Tokenizer) -> int | None:
    """How many bytes of text the scored tokens stand for; None for a tokenizer whose tokens stand for none."""
    lengths = torch.tensor([len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)])
    total = 0
    for batch in batches:
        targets = batch.targets[batch.targets != IGNORE]
        total += int(lengths[targets].sum())
        # What stands between two tokens (a space between integers): before each but the first of a document.
        ends = int((targets == tokenizer.eot).sum())
        total += len(tokenizer.spelling.between) * max(0, len(targets) - 2 * ends)
    return total or None


def opening(dataset: Dataset) -> str:
    """How the first validation document begins."""
    store = dataset.validation
    first = store.stores[0] if isinstance(store, Mixture) else store
    ids = first.document(0)[: PROMPT_TOKENS * 2]
    return dataset.tokenizer.decode([int(i) for i in ids[: len(ids) // 2]])


def fingerprint(dataset: Dataset) -> str:
    """A hash of the tokens that training and validation read, and of the tokenizer that made them.

    Of a large file `PIECES` megabytes are read, evenly spread, and its length: enough to notice another corpus.
    """
    found = hashlib.blake2b(dataset.tokenizer.fingerprint.encode(), digest_size=16)
    for part in (dataset.train, dataset.validation):
        for store in part.stores if isinstance(part, Mixture) else (part,):
            found.update(b"%d %d" % (store.n_documents, len(store.ids)))
            size = 2**20 // store.ids.itemsize
            for start in np.unique(np.linspace(0, max(0, len(store.ids) - size), PIECES, dtype=np.int64)):
                found.update(store.ids[start : start + size].tobytes())
    return found.hexdigest()


def facts_of(dataset: Dataset, *, tokens: int) -> dict[str, Any]:
    """What meta.json says about the data: sizes, shares, repeats, the floor, and which tokenizer exactly."""
    return {**asdict(dataset.summary(tokens)), "tokenizer_fingerprint": dataset.tokenizer.fingerprint}


def notes_on(dataset: Dataset, loader: Loader, steps: int) -> list[str]:
    """What a reader of the numbers must know before the run: repeats, and text that was not held out."""
    drawn = loader.drawn(steps)
    repeated = [f"{source.name} {source.repeats:.1f} times" for source in drawn if source.repeats > 1]
    notes = [f"documents are read more than once: {', '.join(repeated)}"] if repeated else []
    held_out = dataset.summary().note
    return notes if held_out is None else [*notes, held_out]
