"""What does a run tell beside its weights? Its rows, its settings, and the data it read, opened again as it was.

settings.yaml  ->  schedule, budget        metrics.jsonl  ->  curves        data.spec  ->  documents, batches, token frequencies
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from picolab.data.dataset import Dataset
from picolab.data.loader import Loader
from picolab.data.store import Mixture, TokenStore
from picolab.diagnose.laws.offered import Data, History
from picolab.errors import PicolabError
from picolab.runs.folder import LOG, Run
from picolab.train.schedules import Cosine
from picolab.train.setup import dataset_of, fingerprint

COUNTED = 4_000_000
"""Tokens whose frequencies are counted, at most."""

RESUMED = re.compile(r"goes on after step (\d+) of")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A run, read. `text` is validation text; what could not be opened is in `notes`."""

    history: History
    data: Data | None
    text: Tensor | None
    notes: tuple[str, ...] = ()


def read_run(run: Run, *, tokens: int) -> Reading:
    """Everything a run tells; data that cannot be opened again are a note, not an end."""
    notes: list[str] = []
    dataset = None
    try:
        dataset = dataset_of(run.settings)
        made = run.meta.get("data", {}).get("fingerprint")
        if made is not None and made != fingerprint(dataset):
            notes.append(
                f"`{run.settings.data.spec}` is not what `{run.path}` was trained on: it has changed since, and is not read"
            )
            dataset = None
    except PicolabError as error:
        notes.append(f"the data of the run cannot be opened: {error}")
    history = _history(run, dataset)
    if dataset is None:
        return Reading(history=history, data=None, text=None, notes=tuple(notes))
    return Reading(history=history, data=_data(run, dataset), text=text_of(dataset, limit=tokens), notes=tuple(notes))


def text_of(dataset: Dataset, *, limit: int) -> Tensor:
    """Validation tokens, each document opened by the end-of-text token."""
    rows: list[int] = []
    for document in _documents(dataset.validation):
        if len(rows) >= limit:
            break
        rows += [dataset.tokenizer.eot, *(int(token) for token in document)]
    return torch.tensor(rows[:limit], dtype=torch.int64)


def _history(run: Run, dataset: Dataset | None) -> History:
    settings, meta = run.settings, run.meta
    steps = meta.get("steps") or settings.training.steps
    return History(
        rows=run.metrics(),
        status=run.status,
        says=str(meta.get("says", "")),
        vocab_size=None if dataset is None else dataset.tokenizer.vocab_size,
        unigram=None if dataset is None else unigram(dataset),
        learning_rate=_schedule(run, steps),
        since=resumed_after(run),
        steps=steps,
        tokens=settings.training.tokens,
    )


def _schedule(run: Run, steps: int | None) -> Callable[[int], float] | None:
    """The learning rate of a step, counted from 1, as the settings say."""
    o = run.settings.optimizer
    if steps is None or o.min_lr is None or o.warmup is None or o.warmup > steps:
        return None
    schedule = Cosine(lr=o.lr, min_lr=o.min_lr, warmup=o.warmup, steps=steps)
    return lambda step: schedule.at(step - 1)


def resumed_after(run: Run) -> int:
    """The step after which the newest process took over, 0 where one did all: before it, other settings may have held."""
    path = run.path / LOG
    if not path.exists():
        return 0
    found = RESUMED.findall(path.read_text(encoding="utf-8", errors="replace"))
    return int(found[-1]) if found else 0


def unigram(dataset: Dataset) -> float:
    """Nats a token of a model that knows how frequent each token is and reads nothing."""
    counts = np.zeros(dataset.tokenizer.vocab_size, np.int64)
    for store in _stores(dataset.train):
        # What is predicted: every token of every text, and the end of each.
        counts += np.bincount(np.asarray(store.ids[1 : COUNTED + 1]), minlength=len(counts))[: len(counts)]
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _data(run: Run, dataset: Dataset) -> Data:
    settings = run.settings
    rows = settings.data.context_length
    loader = None
    if rows is not None:
        loader = Loader(dataset.train, batch_size=settings.training.batch_size, context_length=rows, seed=settings.seed)
    batch = None if loader is None else loader.batch

    def read(step: int) -> tuple[Tensor, Tensor]:
        assert batch is not None
        made = batch(step)
        return made.tokens, made.targets

    single = not isinstance(dataset.train, Mixture)
    return Data(
        train=lambda: _documents(dataset.train),
        validation=lambda: _documents(dataset.validation),
        batch=None if batch is None else read,
        n_steps=None if loader is None or not single else loader.steps_per_epoch,
        n_tokens=dataset.train.n_tokens if single else None,
        held_out=dataset.held_out,
        words=dataset.tokenizer.fingerprint,
        eot=dataset.tokenizer.eot,
    )


def _documents(part: TokenStore | Mixture) -> Iterator[Sequence[int]]:
    for store in _stores(part):
        for number in range(store.n_documents):
            yield store.document(number).tolist()


def _stores(part: TokenStore | Mixture) -> tuple[TokenStore, ...]:
    return part.stores if isinstance(part, Mixture) else (part,)
