"""What every neural model here promises.

    tokens -> features -> head -> logits          generation: the same, with a cache that remembers what was read
                       -> head.losses -> nats     training: never all logits at once

Optional abilities are methods that a model either has or has not: `estimate(batches)` for models that count instead of
descending a gradient.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from picolab.parts.head import Head
from picolab.parts.tap import tap
from picolab.shapes import Documents, Logits, Stream, TokenLosses, Tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class HuggingFace:
    """How transformers spells an architecture: the table at the end of its file, read by `weights/`.

    `tensors` maps our parameter names to theirs, `{i}` standing for the layer; those in `transposed` are stored the other
    way round, and `ignored` are tensors of old files that hold no parameter. `settings` maps our settings to their config
    keys; `fixed` are keys whose value we compute with, no other. `defaults` is what transformers assumes, in our words,
    where a config does not say (or says null): a value, or how it follows from the config; a setting that is not there must
    be said. `nulls` are our values for which they write null. `assumed` is what transformers takes for a key of `fixed` (or of
    rope) that a config does not say, where that is not the fixed value. `layer_types` gives for our settings the kind of every
    layer, in their words. `absent` are tensors of theirs that a model here may be built without, and the number they then hold,
    which changes nothing. Where tensors are not one for one, `pack` turns those named by `tensors` into those of a file, and
    `unpack` turns them back, or raises BadCheckpoint for what is not computed here.
    """

    model_type: str
    class_name: str
    tensors: Mapping[str, str]
    settings: Mapping[str, str]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    transposed: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    nulls: Mapping[str, Any] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    assumed: Mapping[str, Any] = field(default_factory=dict)
    layer_types: Callable[[Mapping[str, Any]], list[str]] | None = None
    absent: Mapping[str, float] = field(default_factory=dict)
    pack: Callable[[dict[str, Tensor], Mapping[str, Any]], dict[str, Tensor]] = lambda tensors, settings: tensors
    unpack: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda tensors: tensors


@dataclass(frozen=True, kw_only=True, slots=True)
class Gguf:
    """How llama.cpp spells an architecture in a GGUF file: the other table at the end of its file.

    `architecture` is its name there. `tensors` and `settings` map as in `HuggingFace`; keys are without the architecture's
    name before them. `defaults` are llama.cpp's values for keys that may be missing, in our words. `in_pairs` maps parameters
    whose rows lie in adjacent pairs to the setting that counts their heads. `check` raises BadInput for settings that the
    format cannot hold.
    """

    architecture: str
    tensors: Mapping[str, str]
    settings: Mapping[str, str]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    in_pairs: Mapping[str, str] = field(default_factory=dict)
    rotary: bool = True
    check: Callable[[Any], None] = lambda config: None


@runtime_checkable
class Config(Protocol):
    """Settings of an architecture: a frozen dataclass that refuses what does not fit together."""

    vocab_size: int
    context_length: int


@runtime_checkable
class Cache(Protocol):
    """What a model remembers between calls; `length` positions have been read, `capacity` fit."""

    length: int
    capacity: int


class LanguageModel(nn.Module):
    """Tokens `(batch, time)` to logits `(batch, time, vocab)`; position t sees tokens 0 .. t of its own document only."""

    architecture: ClassVar[str]
    hugging_face: ClassVar[HuggingFace | None] = None
    gguf: ClassVar[Gguf | None] = None
    config: Any
    head: Head

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def features(self, tokens: Tokens, *, cache: Any = None, documents: Documents | None = None) -> Stream:
        """What enters the head. With a cache, `tokens` continue what it holds; with `documents`, rows are packed."""

    @abstractmethod
    def new_cache(self, batch_size: int, capacity: int) -> Any:
        """An empty memory for `capacity` positions of `batch_size` rows, of this model's dtype and device."""

    def forward(self, tokens: Tokens, *, cache: Any = None, documents: Documents | None = None) -> Logits:
        return tap(self, "logits", self.head(self.features(tokens, cache=cache, documents=documents)))

    def losses(self, tokens: Tokens, targets: Tokens, *, documents: Documents | None = None) -> TokenLosses:
        """Cross entropy of every position in nats, 0 where the target is `IGNORE`; differentiable."""
        return self.head.losses(self.features(tokens, documents=documents), targets)

    @property
    def device(self) -> torch.device:
        return self.head.weight.device
