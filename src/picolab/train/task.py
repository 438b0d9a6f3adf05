"""What is there to learn? A model, an objective, and batches to train and judge it on: all the loop ever sees.

    Settings -> task_of -> Task(model, objective, batch(step), validation ..) -> train/loop.py

`next_token_task` is the usual one. Another objective (preference pairs, distillation) is another function of this shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from picolab.data.batch import Batch, Rows
from picolab.models.contract import LanguageModel
from picolab.runs.settings import Settings
from picolab.text.tokenizer import Tokenizer
from picolab.train.distributed import Objective


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything a run needs, built and checked.

    `settings` are the run's with nothing left open. `batch` is a pure function of the step, counted from 0, and gives all rows of
    it, whatever the number of processes. `validation_bytes` is how many bytes of text the validation batches hold, None if
    unknown. `judge` measures what else matters beside the validation loss, by name. A run goes on only with data of the same
    `data_fingerprint`. `prompt` opens samples. `facts` go into meta.json.
    """

    settings: Settings
    model: LanguageModel
    tokenizer: Tokenizer | None
    objective: Objective
    batch: Callable[[int], Rows]
    steps: int
    tokens_per_step: float
    validation: Sequence[Batch]
    validation_bytes: int | None
    judge: Callable[[LanguageModel], Mapping[str, float]] | None = None
    data_fingerprint: str = ""
    prompt: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


TaskOf = Callable[[Settings], Task]
