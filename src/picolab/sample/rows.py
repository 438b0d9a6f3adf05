"""What is one text being written? The ids it was given, the dice it throws, the words so far, and when it is over.

    prompt ids | ids picked so far          -> words, in whole characters, up to a stop string
               ^ `take` appends one         -> reason, once it has ended

The random numbers come from the seed, the prompt and which of the prompt's n samples it is, so a text is the same whatever
else is written beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch

from picolab.errors import BadInput, BadSetting
from picolab.models.contract import LanguageModel
from picolab.parts.attention import Started
from picolab.sample.stop import Cut
from picolab.text.stream import TextStream
from picolab.text.tokenizer import Tokenizer

Prompt = str | Sequence[int]
Reason = Literal["eot", "length", "stop", "context", "interrupted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """One text a model wrote.

    `text` continues `prompt`, and ends before a stop string; `ids` are the tokens picked, without a closing
    end-of-text. `reason` is why it ends: `eot` the model ended it, `stop` a stop string came, `length` `max_new_tokens`
    were written, `context` the model can read no further, `interrupted` somebody had enough. Without a tokenizer `prompt` and
    `text` are ids divided by commas.
    """

    prompt: str
    text: str
    ids: tuple[int, ...]
    reason: Reason


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while texts were being written; `texts` is what there was by then, in the order asked for."""

    def __init__(self, texts: Sequence[Generation]) -> None:
        written = sum(len(text.ids) for text in texts)
        super().__init__(f"interrupted after {written} tokens")
        self.texts = list(texts)


class Words(Protocol):
    """Ids in, one at a time; text out."""

    def push(self, token: int) -> str: ...
    def finish(self) -> str: ...


class Numbers:
    """Ids as text where no tokenizer says what they mean: `5,17,200`, which `--tokens` takes again."""

    def __init__(self) -> None:
        self._begun = False

    def push(self, token: int) -> str:
        comma, self._begun = ("," if self._begun else ""), True
        return f"{comma}{token}"

    def finish(self) -> str:
        return ""


class Row:
    """One text being written: what was read, the random numbers, the words so far."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer | None,
        prompt: Prompt,
        *,
        seed: int,
        sample: int,
        stop: Sequence[str],
        max_new_tokens: int,
        ignore_eot: bool,
    ) -> None:
        own = _ids_of(prompt, tokenizer)
        self.prompt_ids = own
        if isinstance(prompt, str) and tokenizer is not None:
            self.prompt_ids = [*tokenizer.opening, *own] or [tokenizer.eot]
        limit = reach(model)
        _check_prompt(model, self.prompt_ids, limit)
        self.ends = frozenset[int]() if tokenizer is None or ignore_eot else tokenizer.ends
        self.control = frozenset[int]() if tokenizer is None else tokenizer.ends.union(tokenizer.opening)
        self.max_new_tokens = max_new_tokens
        # The last token picked is not read again, so a model that reads n positions writes one more.
        self.most = max_new_tokens if limit is None else min(max_new_tokens, limit - len(self.prompt_ids) + 1)
        self.generator = torch.Generator().manual_seed(_seed_of(seed, sample, self.prompt_ids))
        self.ids: list[int] = []
        self.pieces: list[str] = []
        self.reason: Reason | None = None
        self._words: Words = Numbers() if tokenizer is None else TextStream(tokenizer)
        # The text goes on as it would inside a longer one: "2 4" is followed by " 6", not by "6".
        shown = "".join([self._words.push(token) for token in own])
        self.prompt = prompt if isinstance(prompt, str) else shown if tokenizer is None else tokenizer.decode(own)
        self._cut = Cut(stop)

    @property
    def left(self) -> int:
        """How many more tokens may be picked."""
        return self.most - len(self.ids)

    @property
    def history(self) -> list[int]:
        """What a repetition penalty looks at: not the opening end-of-text, or texts would be kept from ending."""
        return [token for token in self.prompt_ids if token not in self.control] + self.ids

    def take(self, token: int) -> None:
        """Append a picked token, unless it ends the text."""
        if self.reason is not None:  # a batch goes on until all its rows have ended
            return
        if token in self.ends:
            self.end("eot")
            return
        self.ids.append(token)
        self._say(self._cut.push(self._words.push(token)))
        if self._cut.found:
            self.reason = "stop"
        elif not self.left:
            self.end("length" if len(self.ids) == self.max_new_tokens else "context")

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


def reach(model: LanguageModel) -> int | None:
    """How many positions a model can read; None where it counts none, and may read on for ever."""
    return int(model.config.context_length) if isinstance(model.new_cache(1, 1), Started) else None


def _ids_of(prompt: Prompt, tokenizer: Tokenizer | None) -> list[int]:
    """A prompt as ids, without what opens it."""
    if not isinstance(prompt, str):
        return [int(i) for i in prompt]
    if tokenizer is None:
        raise BadInput("the model has no tokenizer, so it reads no text", hint="give the prompt as token ids")
    return tokenizer.encode(prompt)


def _seed_of(seed: int, sample: int, ids: Sequence[int]) -> int:
    """A seed for one text; neighbouring seeds, samples and prompts share nothing (NumPy's SeedSequence mixes them)."""
    if seed < 0:
        raise BadSetting(f"`seed` is {seed}, not a whole number from 0 up")
    return int(np.random.SeedSequence([seed, sample, *ids]).generate_state(1, np.uint64)[0])


def _check_prompt(model: LanguageModel, ids: Sequence[int], limit: int | None) -> None:
    """Refuse what the model cannot read, before anything is computed."""
    if not ids:
        raise BadInput("the prompt has no token", hint="give at least one id; an empty text is a prompt too")
    beyond = [i for i in ids if not 0 <= i < model.config.vocab_size]
    if beyond:
        raise BadInput(
            f"token {beyond[0]} is not in the model's vocabulary of {model.config.vocab_size}",
            hint=f"ids are 0 to {model.config.vocab_size - 1}; these were made with another model's tokenizer",
        )
    if limit is not None and len(ids) > limit:
        raise BadInput(
            f"the prompt has {len(ids)} tokens, its opening included, and the model reads {limit}",
            hint="shorten the prompt or use a model with a longer context",
        )
