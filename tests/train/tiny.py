"""A task that takes milliseconds: a rule over 17 tokens, a small model, rows with padding. Also a program, for tests that kill it.

python tests/train/tiny.py FOLDER [--resume] [--setting VALUE ..]
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from picolab.data.batch import IGNORE, Batch
from picolab.errors import PicolabError
from picolab.objectives.next_token import next_token
from picolab.runs.folder import Run
from picolab.runs.settings import Settings, resolve
from picolab.train.events import Event
from picolab.train.loop import train
from picolab.train.setup import build_model, settle
from picolab.train.task import Task

VOCAB, CONTEXT, EOT = 17, 24, 16

TINY: dict[str, Any] = {
    "model": "softmax-pico", "model.d_model": 16, "model.d_ff": 32, "model.n_heads": 2, "model.n_layers": 2,
    "model.dropout": 0.1, "context_length": CONTEXT, "batch_size": 4, "steps": 12, "lr": 3e-3, "warmup": 3,
    "eval_every": 4, "checkpoint_every": 4, "dtype": "float32", "device": "cpu", "seed": 5,
}  # fmt: skip


def tiny_settings(out: Path | str | None = None, **changes: Any) -> Settings:
    """The settings above with some changed, names as on the command line."""
    layers = TINY | ({} if out is None else {"out": str(out)})
    if "tokens" in changes:
        layers.pop("steps")
    return resolve(overrides=layers | changes)


def rows(seed: int, height: int) -> Batch:
    """Documents that count up modulo 16 from a random start, two or three to a row, then padding."""
    rng = np.random.default_rng((7, seed))
    tokens = np.full((height, CONTEXT), EOT)
    targets, documents = np.full((height, CONTEXT), IGNORE), np.full((height, CONTEXT), -1)
    for row in range(height):
        at = 0
        for document in range(int(rng.integers(1, 4))):
            length = int(rng.integers(3, 9))
            text = (rng.integers(16) + np.arange(length)) % 16
            stream = np.concatenate(([EOT], text, [EOT]))
            here = slice(at, at + length + 1)
            if at + length + 1 > CONTEXT:
                break
            tokens[row, here], targets[row, here], documents[row, here] = stream[:-1], stream[1:], document
            at += length + 1
    return Batch(*(torch.from_numpy(part) for part in (tokens, targets, documents)))


def tiny_task(settings: Settings) -> Task:
    """The task of the settings: a model of the zoo on the rule above."""
    model = build_model(settings, vocab_size=VOCAB)
    mean = rows(0, 1000).scored / 1000 * settings.training.batch_size
    steps = settings.training.steps or round((settings.training.tokens or 0) / mean)
    return Task(
        settings=settle(settings, model, rows=CONTEXT, steps=steps),
        model=model,
        tokenizer=None,
        objective=next_token,
        batch=lambda step: rows(settings.seed * 1000 + step + 1, settings.training.batch_size),
        steps=steps,
        tokens_per_step=mean,
        validation=[rows(-1 % 2**31, 8)],
        validation_bytes=None,
    )


def numbers(run: Run) -> list[dict[str, Any]]:
    """A run's rows without what a clock said."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "tokens_per_second")} for row in run.metrics()]


def slow(task: Task, seconds: float) -> Task:
    """The same task, with time to be killed in."""

    def batch(step: int) -> Batch:
        time.sleep(seconds)
        return task.batch(step)

    return dataclasses.replace(task, batch=batch)


def main(folder: str, *words: str) -> int:
    """One run in this process; prints a line for every step, so that a parent knows where it stands."""
    changes = dict(word.lstrip("-").split("=") for word in words if "=" in word)
    delay = float(changes.pop("delay", 0))

    def say(event: Event) -> None:
        print(type(event).__name__, getattr(event, "step", ""), flush=True)

    settings = tiny_settings(folder, **changes)
    try:
        run = train(
            settings,
            report=say,
            resume=Run.open(folder) if "--resume" in words else None,
            task_of=lambda s: slow(tiny_task(s), delay),
        )
    except PicolabError as error:
        print("error:", error, "hint:", error.hint, file=sys.stderr)
        return error.exit_code
    return 130 if run.status == "interrupted" else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
