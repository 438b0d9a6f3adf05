"""How does a model write? It reads the prompt once, then one token at a time: each choice is read before the next.

    eot + prompt -> model (fills the cache) -> logits -> Sampler.pick -> token -> text
                       ^------------------------------------------------/

Every text is opened by the end-of-text token, as documents are in training, and ends when the model picks that token,
at a stop string, after `max_new_tokens`, or where the model's context ends: `Generation.reason` says which. Prompts of
equal length are read together. The random numbers of a text come from the seed, its prompt and which of the prompt's n
samples it is, so a text is the same whatever else is written beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch

from picolab.errors import BadInput, BadSetting
from picolab.models.contract import LanguageModel
from picolab.parts.cache import KeyValueCache
from picolab.sample.pick import Sampler
from picolab.sample.stop import Cut
from picolab.shapes import Tokens
from picolab.text.stream import TextStream
from picolab.text.tokenizer import Tokenizer

Prompt = str | Sequence[int]
Reason = Literal["eot", "length", "stop", "context"]
AS_IT_IS = Sampler()
"""The model's own distribution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """One text a model wrote.

    `text` continues `prompt`, and ends before a stop string; `ids` are the tokens picked, without a closing
    end-of-text. `reason` is why it ends: `eot` the model ended it, `stop` a stop string came, `length` `max_new_tokens`
    were written, `context` the model can read no further.
    """

    prompt: str
    text: str
    ids: tuple[int, ...]
    reason: Reason


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Prompt | Sequence[Prompt],
    *,
    max_new_tokens: int = 100,
    sampler: Sampler = AS_IT_IS,
    seed: int = 0,
    n: int = 1,
    stop: Sequence[str] = (),
    batch_size: int = 64,
) -> list[Generation]:
    """Continue each prompt n times: the n texts of the first prompt, then those of the second, and so on.

    A prompt is a text, or token ids that are read as they are (no end-of-text is put before them). At most `batch_size`
    texts are written at once. The model is used in evaluation mode and left in the mode it came in.
    """
    _check(max_new_tokens=max_new_tokens, n=n, batch_size=batch_size)
    rows = [
        _Row(model, tokenizer, prompt, seed=seed, sample=sample, stop=stop)
        for prompt in _as_list(prompts)
        for sample in range(n)
    ]
    for together in _of_equal_length(rows, batch_size):
        for _ in _write(model, together, sampler, max_new_tokens):
            pass
    return [row.result() for row in rows]


def stream(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: Prompt,
    *,
    max_new_tokens: int = 100,
    sampler: Sampler = AS_IT_IS,
    seed: int = 0,
    sample: int = 0,
    stop: Sequence[str] = (),
) -> Generator[str, None, Generation]:
    """Sample number `sample` of `generate`, handed out in pieces as it is written; joined they are its text.

    No piece holds half a character, nor the beginning of what becomes a stop string. The iterator's return value is the
    `Generation`.
    """
    _check(max_new_tokens=max_new_tokens)
    row = _Row(model, tokenizer, prompt, seed=seed, sample=sample, stop=stop)
    given = 0
    for _ in _write(model, [row], sampler, max_new_tokens):
        yield from row.pieces[given:]
        given = len(row.pieces)
    return row.result()


class _Row:
    """One text being written: what was read, the random numbers, the words so far."""

    def __init__(
        self, model: LanguageModel, tokenizer: Tokenizer, prompt: Prompt, *, seed: int, sample: int, stop: Sequence[str]
    ) -> None:
        text = isinstance(prompt, str)
        own = tokenizer.encode(prompt) if isinstance(prompt, str) else [int(i) for i in prompt]
        self.prompt_ids = ([*tokenizer.opening, *own] or [tokenizer.eot]) if text else own
        _check_prompt(model, self.prompt_ids)
        self.prompt = prompt if isinstance(prompt, str) else tokenizer.decode(own)
        self.tokenizer = tokenizer
        self.control = tokenizer.ends.union(tokenizer.opening)
        self.generator = torch.Generator().manual_seed(_seed_of(seed, sample, self.prompt_ids))
        self.ids: list[int] = []
        self.pieces: list[str] = []
        self.reason: Reason | None = None
        self._words = TextStream(tokenizer)
        # The text goes on as it would inside a longer one: "2 4" is followed by " 6", not by "6".
        for token in own:
            self._words.push(token)
        self._cut = Cut(stop)

    @property
    def history(self) -> list[int]:
        """What a repetition penalty looks at: not the opening end-of-text, or texts would be kept from ending."""
        return [token for token in self.prompt_ids if token not in self.control] + self.ids

    def take(self, token: int) -> None:
        """Append a picked token, unless it ends the text."""
        if self.reason is not None:  # a batch goes on until all its rows have ended
            return
        if token in self.tokenizer.ends:
            self.end("eot")
            return
        self.ids.append(token)
        self._say(self._cut.push(self._words.push(token)))
        if self._cut.found:
            self.reason = "stop"

    def end(self, reason: Reason) -> None:
        """No token follows: hand out what was held back."""
        if self.reason is None:
            self._say(self._cut.push(self._words.finish()))
            self.reason = "stop" if self._cut.found else reason
            self._say(self._cut.finish())

    def result(self) -> Generation:
        assert self.reason is not None
        return Generation(prompt=self.prompt, text="".join(self.pieces), ids=tuple(self.ids), reason=self.reason)

    def _say(self, piece: str) -> None:
        if piece:
            self.pieces.append(piece)


def _write(model: LanguageModel, rows: Sequence[_Row], sampler: Sampler, max_new_tokens: int) -> Iterator[None]:
    """Write the rows, whose prompts have one length, to their ends; yields after every token."""
    n_read, limit = len(rows[0].prompt_ids), reach(model)
    readable = rows[0].tokenizer.vocab_size  # a vocabulary rounded up for speed has rows that stand for nothing
    tokens = torch.tensor([row.prompt_ids for row in rows], device=model.device)
    with _reading(model):
        # The last token picked is not read again.
        cache = model.new_cache(len(rows), min(n_read + max_new_tokens - 1, limit or sys.maxsize))
        if n_read > 1:
            _read(model, tokens[:, :-1], cache)
    for left in reversed(range(max_new_tokens)):
        with _reading(model):
            logits = model(tokens[:, -1:], cache=cache)[:, -1, :readable]
        picked = sampler.pick(logits, [row.generator for row in rows], [row.history for row in rows]).tolist()
        at_limit = n_read == limit
        for row, token in zip(rows, picked, strict=True):
            row.take(token)
            if left == 0 or at_limit:
                row.end("length" if left == 0 else "context")
        yield
        if all(row.reason for row in rows):
            return
        tokens = torch.tensor(picked, device=model.device)[:, None]
        n_read += 1


def _read(model: LanguageModel, tokens: Tokens, cache: Any) -> None:
    """Fill the cache; nobody asks for these positions' logits, which would fill the memory, where a model can skip them."""
    if hasattr(model, "estimate"):  # a model that counts has no features
        model(tokens, cache=cache)
    else:
        model.features(tokens, cache=cache)


def reach(model: LanguageModel) -> int | None:
    """How many positions a model can read; None where its memory has one size however much it has read."""
    return int(model.config.context_length) if isinstance(model.new_cache(1, 1), KeyValueCache) else None


@contextmanager
def _reading(model: LanguageModel) -> Iterator[None]:
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


def _of_equal_length(rows: Sequence[_Row], batch_size: int) -> Iterator[list[_Row]]:
    """Groups of at most `batch_size` rows of one prompt length, since a cache fills all its rows alike."""
    by_length: dict[int, list[_Row]] = {}
    for row in rows:
        by_length.setdefault(len(row.prompt_ids), []).append(row)
    for group in by_length.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _as_list(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt or several, as several."""
    if isinstance(prompts, str) or (prompts and all(isinstance(token, Integral) for token in prompts)):
        return [prompts]  # type: ignore[list-item]
    return list(prompts)  # type: ignore[arg-type]


def _seed_of(seed: int, sample: int, ids: Sequence[int]) -> int:
    """A seed for one text; neighbouring seeds, samples and prompts share nothing (NumPy's SeedSequence mixes them)."""
    if seed < 0:
        raise BadSetting(f"`seed` is {seed}, not a whole number from 0 up")
    return int(np.random.SeedSequence([seed, sample, *ids]).generate_state(1, np.uint64)[0])


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise BadSetting(f"`{name}` is {value}, not a whole number from 1 up")


def _check_prompt(model: LanguageModel, ids: Sequence[int]) -> None:
    """Refuse what the model cannot read, before anything is computed."""
    if not ids:
        raise BadInput("the prompt has no token", hint="give at least one id; an empty text is a prompt too")
    limit = reach(model)
    if limit is not None and len(ids) > limit:
        raise BadInput(
            f"the prompt has {len(ids)} tokens, its opening included, and the model reads {limit}",
            hint="shorten the prompt or use a model with a longer context",
        )
    beyond = [i for i in ids if not 0 <= i < model.config.vocab_size]
    if beyond:
        raise BadInput(
            f"token {beyond[0]} is not in the model's vocabulary of {model.config.vocab_size}",
            hint="the prompt was encoded with another model's tokenizer",
        )
