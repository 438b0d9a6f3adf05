"""picolab as an engine: the model, its cache, its taps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from picolab import __version__
from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.parts.attention import Started
from picolab.parts.tap import listening
from picolab.text.tokenizer import Tokenizer
from picolab.trace.engines.engine import See


class Here:
    """A model of the zoo, one text at a time."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer | None = None) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.name = f"picolab {__version__}"
        self.vocab_size = int(model.config.vocab_size)
        bounded = isinstance(model.new_cache(1, 1), Started)
        self.context_length = int(model.config.context_length) if bounded else None
        self._cache: Any = None

    def forget(self) -> None:
        self._cache = None

    @torch.inference_mode()
    def read(self, tokens: Sequence[int]) -> Tensor:
        if self._cache is None:
            self._cache = self.model.new_cache(1, int(self.model.config.context_length))
        ids = torch.tensor([list(tokens)], device=self.model.device)
        logits: Tensor = self.model(ids, cache=self._cache)
        return logits[0].float()

    def encode(self, text: str) -> list[int]:
        return self._words().encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._words().decode(list(ids))

    @contextmanager
    def watching(self, see: See, wanted: Callable[[str], bool]) -> Iterator[None]:
        with listening(self.model, see, wanted):
            yield

    def _words(self) -> Tokenizer:
        if self.tokenizer is None:
            raise BadInput("the model has no tokenizer", hint="name one with --tokenizer: bytes, gpt2, a folder")
        return self.tokenizer
