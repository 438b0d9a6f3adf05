"""What may somebody's object offer beside logits? Each is optional; a law that needs what is not there is skipped, and says so.

what the object has             what it is asked                                                    the law
tokenizer                       encode(text) -> ids, decode(ids) -> text; more in `words.py`        tokenizer, template
sample(logits, ..)              a row of logits -> a token, probabilities, or filtered logits       sampler, sampler-settings
loss(tokens)                    mean nats of all next tokens, with a gradient;                      loss-accounting
loss(tokens, targets)             or of the targets                                                 loss-accounting, overfit
accumulate(tokens, pieces)      one step's gradients, the batch cut in pieces, left in `.grad`      loss-accounting
packed(tokens, documents)       logits of rows that hold several documents, numbered 0, 1, ..       document-isolation
optimizer                       a torch.optim.Optimizer of its parameters                           optimizer-ledger
train_documents                 lists of token ids; with validation_documents                       data-hygiene
batch(step)                     (tokens, targets) of a step, or tokens alone                        data-hygiene
metrics                         rows of a training: step, train/loss, val/loss, lr, grad_norm ..    curves
text                            ids of a text of its kind; trained: whether it has learned it       laws of trained models
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from picolab.diagnose.laws.offered import Data, History
from picolab.diagnose.laws.sampling import sampling_of
from picolab.errors import BadInput

OTHER_NAMES = {
    "loss": "train/loss",
    "eval_loss": "val/loss",
    "learning_rate": "lr",
    "train_loss": "train/loss",
    "val_loss": "val/loss",
}
"""Columns as transformers and TRL call them."""


def offers_of(thing: Any) -> dict[str, Any]:
    """Fields of a patient, out of what an object has."""
    found: dict[str, Any] = {}
    for name in ("accumulate", "packed"):
        if callable(method := getattr(thing, name, None)):
            found[name] = method
    if callable(loss := getattr(thing, "loss", None)):
        found["loss"] = partial(_mean_loss, loss) if takes_targets(loss) else loss
    if not isinstance(thing, nn.Module) and isinstance(module := getattr(thing, "module", None), nn.Module):
        found["module"] = module
    if callable(sample := getattr(thing, "sample", None)):
        found["sampling"] = sampling_of(sample)
    words = getattr(thing, "tokenizer", None)
    if words is not None:
        if not (callable(getattr(words, "encode", None)) and callable(getattr(words, "decode", None))):
            raise BadInput(
                f"its `tokenizer` is a {type(words).__name__} without `encode` and `decode`",
                hint="encode(text) gives ids, decode(ids) gives text",
            )
        found["tokenizer"] = words
    if isinstance(optimizer := getattr(thing, "optimizer", None), torch.optim.Optimizer):
        found["optimizer"] = optimizer
    if (data := _data(thing)) is not None:
        found["data"] = data
    if (rows := getattr(thing, "metrics", None)) is not None and not callable(rows):
        found["history"] = history_of(rows)
    if (text := getattr(thing, "text", None)) is not None and not callable(text):
        found["text"] = torch.as_tensor(text, dtype=torch.int64).flatten()
    if isinstance(trained := getattr(thing, "trained", None), bool):
        found["trained"] = trained
    return found


def takes_targets(loss: Any) -> bool:
    """Whether a loss wants the targets too: `loss(tokens, targets)`."""
    try:
        parameters = inspect.signature(loss).parameters.values()
    except (TypeError, ValueError):  # built in: nobody says what it takes
        return False
    empty, named = inspect.Parameter.empty, (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.default is empty and p.kind in named for p in parameters) == 2


def _mean_loss(loss: Any, tokens: Tensor) -> Tensor:
    made: Tensor = loss(tokens[:, :-1], tokens[:, 1:])
    return made.mean()


def history_of(rows: Iterable[Any], **known: Any) -> History:
    """Rows under the names of metrics.jsonl; those of one step are joined, as transformers writes several."""
    joined: dict[int, dict[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise BadInput(f"row {number} of `metrics` is a {type(row).__name__}, not a dictionary")
        step = int(row.get("step", number))
        named = {OTHER_NAMES.get(str(name), str(name)): value for name, value in row.items()}
        joined.setdefault(step, {"step": step}).update(
            {name: value for name, value in named.items() if name == "step" or isinstance(value, int | float | None)}
        )
    return History(rows=[joined[step] for step in sorted(joined)], **known)


def _data(thing: Any) -> Data | None:
    train, kept = getattr(thing, "train_documents", None), getattr(thing, "validation_documents", None)
    batch = getattr(thing, "batch", None)
    if train is None and not callable(batch):
        return None

    def part(documents: Any) -> Iterable[Sequence[int]]:
        given = documents() if callable(documents) else documents
        return () if given is None else (np.asarray(document).tolist() for document in given)

    def read(step: int) -> tuple[Tensor, Tensor]:
        assert callable(batch)
        given = batch(step)
        if isinstance(given, tuple | list) and len(given) == 2 and torch.as_tensor(given[0]).dim() > 1:
            return torch.as_tensor(given[0]), torch.as_tensor(given[1])
        tokens = torch.as_tensor(given)
        return tokens[:, :-1], tokens[:, 1:]

    return Data(
        train=lambda: part(train),
        validation=lambda: part(kept),
        batch=read if callable(batch) else None,
        n_steps=getattr(thing, "steps_per_epoch", None),
        n_tokens=getattr(thing, "tokens_per_epoch", None),
        held_out=train is not None and kept is not None,
    )
