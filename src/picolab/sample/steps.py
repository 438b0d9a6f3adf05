"""How does the loop that writes use compiled steps? As any reader, with one compilation for each number of rows.

rows of one length  ->  Steps  ->  a step for so many rows, compiled or cleared  ->  begin, read
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from picolab.models.contract import LanguageModel
from picolab.sample.compiled import Step, compiled_step
from picolab.sample.reader import NewLogits
from picolab.sample.rows import Row
from picolab.shapes import Tokens


class StepReader:
    """A step, for rows of one length; rows that have ended are written on with the others."""

    def __init__(self, step: Step) -> None:
        self.step = step

    def begin(self, prompts: Sequence[Sequence[int]]) -> NewLogits:
        return self.step.read(torch.tensor([[*prompt] for prompt in prompts], device=self.step.model.device))[:, None]

    def read(self, tokens: Tokens, last: int = 1) -> NewLogits:
        assert last == tokens.shape[1] == 1
        return self.step(tokens)[:, None]

    def keep(self, rows: Sequence[Row]) -> list[int]:
        return list(range(len(rows)))


class Steps:
    """Rows to their reader; a step that was compiled for as many rows is used again."""

    def __init__(self, model: LanguageModel, rows: Sequence[Row]) -> None:
        self.model = model
        self.capacity = max(len(row.prompt_ids) + row.most - 1 for row in rows)
        self._made: dict[int, Step] = {}

    def __call__(self, rows: Sequence[Row]) -> StepReader:
        if len(rows) not in self._made:
            self._made[len(rows)] = compiled_step(self.model, len(rows), self.capacity)
        step = self._made[len(rows)]
        step.clear()
        return StepReader(step)
