"""How are several texts read at once? Side by side, newest tokens in one column; what the model remembers is kept between reads.

    eot The cat             - - eot The cat                 padding on the left: a text's position counts from its own start
    eot A boat came in      eot A boat came in              and nothing looks at what lies before it

A memory that is a state and not a list (LSTM) cannot start late: such rows are read together only if they are equally long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.parts.cache import KeyValueCache
from picolab.parts.linear_state import LinearState
from picolab.parts.recent import EMPTY, RecentTokens
from picolab.parts.tap import tap
from picolab.sample.rows import Row, reach
from picolab.shapes import Tokens

NewLogits = Float[Tensor, "batch last vocab"]
"""What follows each of the newest `last` tokens."""


class Reads(Protocol):
    """Whatever reads tokens for the loop that writes."""

    def begin(self, prompts: Sequence[Sequence[int]]) -> NewLogits: ...
    def read(self, tokens: Tokens, last: int = 1) -> NewLogits: ...
    def keep(self, rows: Sequence[Row]) -> list[int]: ...


class Reader:
    """A model and its memory of the rows being written."""

    def __init__(self, model: LanguageModel, rows: Sequence[Row]) -> None:
        lengths = [len(row.prompt_ids) for row in rows]
        longest = max(lengths)
        self.model = model
        self.limit = reach(model)
        with reading(model):
            # The last token picked is not read again.
            self.cache: Any = model.new_cache(len(rows), longest + max(row.most for row in rows) - 1)
        self.starts = [longest - n for n in lengths]
        if isinstance(self.cache, KeyValueCache | LinearState):
            self.cache.start_at(self.starts)

    def begin(self, prompts: Sequence[Sequence[int]]) -> NewLogits:
        """Read the prompts; what follows the last token of each."""
        # A k-gram knows nothing but tokens: where a text has not begun, there is none.
        padding = EMPTY if isinstance(self.cache, RecentTokens) else 0
        rows = [[padding] * start + [*prompt] for start, prompt in zip(self.starts, prompts, strict=True)]
        return self.read(torch.tensor(rows, device=self.model.device))

    def read(self, tokens: Tokens, last: int = 1) -> NewLogits:
        """Read on; what follows each of the newest `last` tokens. Nobody asks for the logits of a prompt's other positions, which
        would fill the memory."""
        with reading(self.model):
            if tokens.shape[1] == last or not _has_features(self.model):
                return self.model(tokens, cache=self.cache)[:, -last:]
            features = self.model.features(tokens, cache=self.cache)[:, -last:]
            return tap(self.model, "logits", self.model.head(features))

    def take_back(self, time: int) -> None:
        """Forget the newest positions of every row."""
        if not isinstance(self.cache, KeyValueCache):
            raise BadInput("what this model has read cannot be taken back", hint="it cannot speculate")
        self.cache.take_back(time)

    def keep(self, rows: Sequence[Row]) -> list[int]:
        """Which rows to go on with: those that are being written, once half have ended, or all."""
        going = [at for at, row in enumerate(rows) if row.reason is None]
        cache = self.cache
        if not isinstance(cache, KeyValueCache | LinearState) or not going:
            return list(range(len(rows)))
        # A row that has ended is read on with the others, which is less work than moving them, until it can read no further.
        full = self.limit is not None and cache.length - cache.first_start >= self.limit
        if not full and 2 * len(going) > len(rows):
            return list(range(len(rows)))
        if len(going) < len(rows):
            with torch.inference_mode():
                cache.keep(going)
        return going


def can_start_late(model: LanguageModel) -> bool:
    """Whether rows of different lengths can be read together."""
    return isinstance(model.new_cache(1, 1), KeyValueCache | LinearState | RecentTokens)


@contextmanager
def reading(model: LanguageModel) -> Iterator[None]:
    """Evaluation mode and no gradients, for one step only: a stream that pauses leaves the model as it was."""
    was_training = model.training
    if was_training:
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if was_training:
            model.train()


def _has_features(model: LanguageModel) -> bool:
    """Whether its logits are its head over its features, as the contract has it; a model that counts computes its own way."""
    return type(model).forward is LanguageModel.forward and "forward" not in vars(model)
