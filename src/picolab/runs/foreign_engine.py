"""Somebody's model as an engine: one text at a time, and its own way to remember what was read, if it has one.

forget()  read(tokens) -> logits                        an object that reads on by itself: a port in another language
new_cache(batch, capacity)   model(tokens, cache=..)    as picolab's own models
model(tokens, past_key_values=.., use_cache=True)       as transformers' models
otherwise                                               the whole text is read again every time: there is no cache to be wrong
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from picolab.errors import BadInput
from picolab.runs.foreign import Code, told
from picolab.runs.foreign_limit import limited
from picolab.runs.foreign_logits import Layout, find_layout
from picolab.trace.engines.engine import See
from picolab.trace.engines.limits import check_tokens

Way = Literal["reads", "cache", "past", "whole"]

CONTEXTS = ("context_length", "max_position_embeddings", "n_positions", "n_ctx", "block_size", "max_seq_len")
"""What people call the number of positions; looked for in the model and in its `config`."""

CAPACITY = 2048
"""Positions of a cache where the model does not say how many it has."""


class Foreign:
    """What somebody's function returned. `vocab_size`, if it is known, tells logits from other numbers of the same shape.

    No answer may take longer than `seconds`; after one that did, nothing more is asked. With `one_text` the model takes one row at
    a time; with `time_first` its rows are columns.
    """

    def __init__(self, code: Code, *, vocab_size: int | None = None, seconds: float | None = None) -> None:
        self.code, self.name = code, f"`{code.source}`"
        self.context_length = _context_of(code.call)
        self.way: Way = _way_of(code.call)
        self.one_text, self.time_first = self.way == "reads", False
        self._seconds = seconds
        self._late: BadInput | None = None
        self._text: list[int] = []
        self._memory: Any = None
        self._layout = self._found(vocab_size)
        self.vocab_size = self._layout.vocab_size
        self.time_first = self._reads_columns()
        self.forget()

    @property
    def remembers(self) -> str:
        """How it reads on, in words."""
        return {
            "reads": "it reads on by itself (`read`)",
            "cache": "it reads on with a cache (`new_cache`)",
            "past": "it reads on with `past_key_values`",
            "whole": "it has no cache: the whole text is read again at every step",
        }[self.way]

    def forget(self) -> None:
        self._text, self._memory = [], None
        if self.way == "reads":
            with self._told("forget()"):
                self.code.call.forget()

    def read(self, tokens: Sequence[int]) -> Tensor:
        check_tokens(tokens, before=len(self._text), vocab_size=self.vocab_size, context_length=self.context_length)
        if not self._layout.last_only:
            return self._read(tokens)
        return torch.cat([self._read([token]) for token in tokens])

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found out about how it takes tokens and hands logits over, where that is not the plain way."""
        told = self._layout.told
        return tuple(
            f"{self.name} {words}"
            for words, applies in (
                (f"hands its logits over {told}", told is not None),
                ("takes tokens as (time, batch)", self.time_first),
                ("takes one text at a time", self.one_text),
            )
            if applies
        )

    def together(self, call: Any, tokens: Tensor, **more: Any) -> Tensor:
        """Logits `(batch, time, vocab)` of what the function returned, or of a changed copy of it, with their gradient."""
        if self.one_text and tokens.shape[0] > 1:
            return torch.cat([self.together(call, row[None], **more) for row in tokens])
        if self._layout.last_only and not more:
            return torch.cat([self._once(call, tokens[:, : n + 1]) for n in range(tokens.shape[1])], dim=1)
        return self._once(call, tokens, **more)

    def _once(self, call: Any, tokens: Tensor, **more: Any) -> Tensor:
        """What one call gives: logits of every position, or of the last only."""
        returned = self._asked(call, tokens, **more)
        logits = self._layout.batch(returned, tokens.shape[1 if self.time_first else 0])
        logits = logits.transpose(0, 1) if self.time_first else logits
        expected = (tokens.shape[0], 1 if self._layout.last_only else tokens.shape[1], self.vocab_size)
        if logits.shape != expected:
            raise BadInput(
                f"{self.name} gives logits of shape {tuple(logits.shape)} where {expected} is meant",
                hint="one row for each token read, one column for each word of the vocabulary",
            )
        return logits

    def past_in(self, returned: Any) -> Any:
        """The memory that a model of transformers' kind hands back."""
        past = returned.get("past_key_values") if isinstance(returned, Mapping) else None
        if past is None:
            past = getattr(returned, "past_key_values", None)
        if past is None and isinstance(returned, tuple) and len(returned) > 1:
            past = returned[1]
        if past is None:
            raise BadInput(
                f"{self.name} takes `past_key_values` and returns none", hint="return them as transformers does"
            )
        return past

    def encode(self, text: str) -> list[int]:
        raise BadInput(f"{self.name} has no tokenizer", hint="token ids can be read without one")

    def decode(self, ids: Sequence[int]) -> str:
        raise BadInput(f"{self.name} has no tokenizer", hint="token ids can be read without one")

    @contextmanager
    def watching(self, see: See, wanted: Callable[[str], bool]) -> Iterator[None]:
        """It has no sites: code of its own cannot be looked into."""
        yield

    def _read(self, tokens: Sequence[int]) -> Tensor:
        """Logits `(time, vocab)` of the next tokens, or of the last of them."""
        before = len(self._text)
        self._text += tokens
        ids = torch.tensor([list(tokens)])
        if self.way == "reads":
            returned = self._ask_reader(ids)
        elif self.way == "cache":
            if self._memory is None:
                self._memory = self._new_cache()
            returned = self._ask(ids, cache=self._memory)
        elif self.way == "past":
            returned = self._ask(ids, past_key_values=self._memory, use_cache=True)
            self._memory = self.past_in(returned)
        else:
            returned = self._ask(torch.tensor([self._text]))
        logits = self._layout.logits(returned)
        whole = self.way == "whole" and not self._layout.last_only
        expected = len(self._text) if whole else 1 if self._layout.last_only else len(tokens)
        if logits.shape != (expected, self.vocab_size):
            raise BadInput(
                f"{self.name} gives logits of shape {tuple(logits.shape)} where {(expected, self.vocab_size)} is meant",
                hint="one row for each token read, one column for each word of the vocabulary",
            )
        return logits[before:] if whole else logits

    def _found(self, vocab_size: int | None) -> Layout:
        """Where its logits are."""
        if self.way == "reads":
            return self._where(self._ask_anew, vocab_size, one_text=True)
        try:
            return self._where(self._ask, vocab_size, one_text=False)
        except BadInput as error:
            if not isinstance(error.__cause__, Exception):
                raise  # it can read two texts, and what it returns is no logits
        found = self._where(self._ask, vocab_size, one_text=True)
        self.one_text = True
        return found

    def _reads_columns(self) -> bool:
        """Whether it takes tokens as (time, batch): then a token moves the logits below it, and none beside it."""
        if self.one_text or self._layout.last_only or self.vocab_size < 2:
            return False
        tokens = torch.zeros((3, 3), dtype=torch.int64)
        changed = tokens.clone()
        changed[0, 0] = 1
        with torch.no_grad():
            before, after = (self.together(self.code.call, ids).detach() for ids in (tokens, changed))
        moved = (before != after).any(-1)
        beside, below = bool(moved[0, 1:].any()), bool(moved[1:, 0].any())
        return below and not beside and not bool(moved[1:, 1:].any())

    def _where(self, ask: Callable[[Tensor], Any], vocab_size: int | None, *, one_text: bool) -> Layout:
        try:
            return find_layout(ask, vocab_size, one_text=one_text)
        except BadInput as error:
            if error.__cause__ is not None or self._late is not None:
                raise
            raise BadInput(f"{self.name}: {error}", hint=error.hint) from None

    def _ask_reader(self, ids: Tensor) -> Any:
        with self._told(f"read({ids.shape[1]} tokens)"), torch.no_grad():
            return self.code.call.read(ids[0].tolist())

    def _ask_anew(self, ids: Tensor) -> Any:
        """A question about shapes is a text of its own."""
        self.forget()
        return self._ask_reader(ids)

    def _ask(self, ids: Tensor, **more: Any) -> Any:
        with torch.no_grad():
            return self._asked(self.code.call, ids, **more)

    def _asked(self, call: Any, ids: Tensor, **more: Any) -> Any:
        parameter = next(call.parameters(), None) if isinstance(call, nn.Module) else None
        ids = ids if parameter is None else ids.to(parameter.device)
        with self._told(f"{ids.shape[0]} x {ids.shape[1]} tokens"):
            return call(ids.t() if self.time_first else ids, **more)

    def _new_cache(self) -> Any:
        with self._told("new_cache"):
            return self.code.call.new_cache(1, self.context_length or CAPACITY)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        if self._late is not None:
            raise BadInput(f"{self.name} is not asked any more: {self._late}", hint=self._late.hint)
        answered = False
        try:
            with limited(self._seconds, f"{self.name} on {what}"):
                with told(f"{self.name} fails on {what}", self.code.path):
                    yield
                answered = True
        except BadInput as error:
            if not answered and error.__cause__ is None:
                self._late = error
            raise


def _way_of(call: Any) -> Way:
    if hasattr(call, "read") and hasattr(call, "forget"):
        return "reads"
    asked = call.forward if isinstance(call, nn.Module) else call
    try:
        parameters = inspect.signature(asked).parameters
    except (TypeError, ValueError):  # built in: nobody says what it takes
        return "whole"
    if hasattr(call, "new_cache") and "cache" in parameters:
        return "cache"
    return "past" if {"past_key_values", "use_cache"} <= parameters.keys() else "whole"


def _context_of(call: Any) -> int | None:
    """How many positions it has, if it says so."""
    for where in (call, getattr(call, "config", None)):
        for name in CONTEXTS:
            value = where.get(name) if isinstance(where, Mapping) else getattr(where, name, None)
            if isinstance(value, int) and value > 0:
                return value
    return None
