"""Several trainings by the same processes, one after the other: starting processes takes longer than training the tiny model.

torchrun .. tests/train/several.py RUNS.json       a list of {folder, resume, stop_at, die_at, settings}

`stop_at` asks the run to stop after a step, as a signal does; at `die_at` the second process is gone without a word.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from tiny import tiny_settings, tiny_task

from picolab.data.batch import Batch
from picolab.errors import PicolabError
from picolab.runs.folder import Run
from picolab.runs.settings import Settings
from picolab.train.distributed import joined
from picolab.train.events import Event, Step
from picolab.train.loop import train
from picolab.train.task import Task


def one(run: dict[str, Any], rank: int) -> None:
    """Train one of them."""

    def listen(event: Event) -> None:
        if isinstance(event, Step) and event.step == run.get("stop_at"):
            signal.raise_signal(signal.SIGTERM)

    def task(settings: Settings) -> Task:
        made = tiny_task(settings)

        def batch(step: int) -> Batch:
            if step == run.get("die_at") and rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return made.batch(step)

        return dataclasses.replace(made, batch=batch)

    earlier = Run.open(run["folder"]) if run.get("resume") else None
    settings = tiny_settings(run["folder"], **{"model.dropout": 0.0, **run.get("settings", {})})
    train(settings, report=listen, resume=earlier, task_of=task)


def main(file: str) -> int:
    torch.set_num_threads(1)
    with joined("cpu") as world:
        for run in json.loads(Path(file).read_text(encoding="utf-8")):
            try:
                one(run, world.rank)
            except PicolabError as error:
                sys.stderr.write(f"error: {error} hint: {error.hint}\n")
                return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
