"""LSTM: one state, carried from token to token. Hochreiter and Schmidhuber 1997, "Long Short-Term Memory".

    token -> embedding -> n_layers x [state_t = lstm(x_t, state_(t-1))] -> (linear) -> logits

Each document starts from a state of zeros; in packed rows the state is reset where one ends and the next begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from picolab.errors import BadInput, BadSetting
from picolab.models.contract import LanguageModel
from picolab.parts.head import Head
from picolab.parts.segments import Segments, split
from picolab.parts.tap import tap
from picolab.shapes import Documents, Stream, Tokens

Hidden = Float[Tensor, "batch time hidden"]
State = tuple[Float[Tensor, "1 batch hidden"], Float[Tensor, "1 batch hidden"]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Sizes of an LSTM; a hidden state that is not `d_model` wide is projected back to it, so that the head can be tied."""

    vocab_size: int = 50257
    context_length: int = 256
    d_model: int = 128
    hidden: int = 256
    n_layers: int = 1
    tied: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("d_model", "hidden", "n_layers"):
            if getattr(self, name) < 1:
                raise BadSetting(f"{name} {getattr(self, name)} is not positive")
        if not 0 <= self.dropout < 1:
            raise BadSetting(f"dropout {self.dropout} is not between 0 and 1", hint="0.1 drops a tenth of the lanes")


class RecurrentState:
    """What an LSTM remembers between calls: h and c of every layer. Its size is the same after any number of tokens.

    `capacity` is what the caller asked for, kept because every cache says it; more may be read.
    """

    def __init__(self, like: Tensor, *, n_layers: int, batch_size: int, hidden: int, capacity: int) -> None:
        self.layers: list[State] = [
            (like.new_zeros(1, batch_size, hidden), like.new_zeros(1, batch_size, hidden)) for _ in range(n_layers)
        ]
        self.capacity = capacity
        self.length = 0


class Block(nn.Module):
    """One layer; site `state`, the hidden state h after every token."""

    def __init__(self, d_in: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(d_in, hidden, batch_first=True)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=1 / math.sqrt(parameter.shape[1]))
        # Gates are stacked input, forget, cell, output. A forget gate that starts open lets gradients through time
        # (Jozefowicz et al. 2015).
        nn.init.ones_(self.lstm.get_parameter("bias_ih_l0").data[hidden : 2 * hidden])

    def forward(self, x: Stream, segments: Segments | None) -> Hidden:
        states: Hidden = self.lstm(x)[0] if segments is None else segments.run(lambda part: self.lstm(part)[0], x)
        return tap(self, "state", states)

    def carry(self, x: Stream, before: State) -> tuple[Hidden, State]:
        """The same, going on from a state, and the state to go on from."""
        states, (h, c) = self.lstm(x, before)
        return tap(self, "state", states), (h.detach(), c.detach())


class LSTM(LanguageModel):
    """The whole model."""

    architecture = "lstm"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        widths = [config.d_model] + [config.hidden] * (config.n_layers - 1)
        self.blocks = cast("list[Block]", nn.ModuleList(Block(width, config.hidden) for width in widths))
        self.out_proj: nn.Module = nn.Identity()
        if config.hidden != config.d_model:
            self.out_proj = nn.Linear(config.hidden, config.d_model)
            nn.init.normal_(self.out_proj.weight, std=1 / math.sqrt(config.hidden))
            nn.init.zeros_(self.out_proj.bias)
        self.head = Head(config.d_model, config.vocab_size)
        # Lanes of unit size reach the gates; a head that shares them must start small, or the first loss is far above ln V.
        nn.init.normal_(self.embedding.weight, std=0.02 if config.tied else 1.0)
        if config.tied:
            self.head.weight = self.embedding.weight

    def features(
        self, tokens: Tokens, *, cache: RecurrentState | None = None, documents: Documents | None = None
    ) -> Stream:
        if documents is not None and cache is not None:
            raise BadInput("packed documents and a cache cannot be combined", hint="generate one document a row")
        segments = None if documents is None else split(documents)
        x = tap(self, "embed", self.embedding(tokens))
        for layer, block in enumerate(self.blocks):
            x = self.dropout(x)
            if cache is None:
                x = block(x, segments)
            else:
                x, cache.layers[layer] = block.carry(x, cache.layers[layer])
        if cache is not None:
            cache.length += tokens.shape[1]
        features: Stream = self.out_proj(self.dropout(x))
        return features

    def new_cache(self, batch_size: int, capacity: int) -> RecurrentState:
        c = self.config
        return RecurrentState(
            self.head.weight, n_layers=c.n_layers, batch_size=batch_size, hidden=c.hidden, capacity=capacity
        )
