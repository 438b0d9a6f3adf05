"""What else is at hand beside a model: its words, its data, what its training left behind.

Words      text <-> ids                              History    rows of metrics.jsonl, and what they should have been
Data       documents for training and validation, and what a step reads
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor


class Words(Protocol):
    """The least a tokenizer does: text without control tokens to ids, and back."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Iterable[int]) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Data:
    """Documents as token ids, and the batches a training reads.

    `train` and `validation` give each document once. `batch(step)` gives `(tokens, targets)`, `(batch, time)` each, targets below
    0 where nothing is scored; `n_steps` is how many steps read everything once. `words` is the fingerprint of the tokenizer the
    documents were made with.
    """

    train: Callable[[], Iterable[Sequence[int]]]
    validation: Callable[[], Iterable[Sequence[int]]]
    batch: Callable[[int], tuple[Tensor, Tensor]] | None = None
    n_steps: int | None = None
    n_tokens: int | None = None
    held_out: bool = True
    words: str | None = None
    eot: int | None = None


@dataclass(frozen=True, kw_only=True)
class History:
    """Rows of a training by step, under the names of metrics.jsonl; and what the settings say of it, where they are known.

    `unigram` is the loss in nats a token of always answering the frequencies of the training text; `learning_rate(step)` what a
    step should have taken, counted from 1, for steps after `since`: before, a run that was taken up again may have had other
    settings. `status` and `says` are how it ended, `tokens` the budget.
    """

    rows: Sequence[Mapping[str, Any]]
    status: str = ""
    says: str = ""
    vocab_size: int | None = None
    unigram: float | None = None
    learning_rate: Callable[[int], float] | None = None
    since: int = 0
    steps: int | None = None
    tokens: float | None = None
    curves: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict, init=False, repr=False)

    def curve(self, name: str) -> tuple[list[float], list[float]]:
        """The steps and values of a column; steps where it was not measured are left out, null is not a number."""
        if name not in self.curves:
            found = [(row.get("step", number), row[name]) for number, row in enumerate(self.rows) if name in row]
            values = [float("nan") if value is None else float(value) for _, value in found]
            self.curves[name] = [float(step) for step, _ in found], values
        return self.curves[name]
