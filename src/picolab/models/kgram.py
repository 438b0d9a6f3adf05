"""k-gram MLP: the next token from the newest k, nothing else. Bengio et al. 2003, "A Neural Probabilistic Language Model".

    tokens t-k+1 .. t -> input layer -> n_hidden x [linear -> activation] -> logits for t+1

    form      input layer                                                  parameters
    onehot    k one-hot tokens -> linear -> activation                     k * vocab * hidden
    embed     k embeddings side by side                                    vocab * d_embed
    conv      embeddings -> causal convolution, k wide -> activation       vocab * d_embed + k * d_embed * hidden

A convolution k wide is a linear layer over k embeddings side by side, so `conv` is `embed` with one hidden layer more, computed
the other way round: multiplied once a token, then shifted. A slot before the document's start holds nothing: it adds zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from picolab.errors import BadSetting, UnknownName
from picolab.models.contract import LanguageModel
from picolab.parts.feedforward import gelu
from picolab.parts.head import Head
from picolab.parts.onehot import onehot_product
from picolab.parts.recent import EMPTY, Context, RecentTokens, recent
from picolab.parts.tap import tap
from picolab.shapes import Documents, Stream, Tokens

Lanes = Float[Tensor, "batch time lanes"]
Hidden = Float[Tensor, "batch time hidden"]
Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {"silu": F.silu, "gelu": gelu}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Sizes of a k-gram MLP; `d_embed` is not used by the form `onehot`, which has no embedding."""

    vocab_size: int = 50257
    context_length: int = 256
    form: str = "embed"
    k: int = 4
    d_embed: int = 64
    hidden: int = 256
    n_hidden: int = 1
    activation: str = "silu"

    def __post_init__(self) -> None:
        if self.form not in INPUTS:
            raise UnknownName("form of k-gram", self.form, INPUTS)
        if self.activation not in ACTIVATIONS:
            raise UnknownName("activation", self.activation, ACTIVATIONS)
        if not 1 <= self.k <= self.context_length:
            raise BadSetting(
                f"k {self.k} is not between 1 and context_length {self.context_length}",
                hint="k counts the tokens read, the newest included: k 1 is a bigram model",
            )


class OneHotInput(nn.Module):
    """k one-hot tokens into `hidden` lanes."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.width = config.hidden
        self.weight = nn.Parameter(torch.empty(config.k, config.vocab_size, config.hidden))
        self.bias = nn.Parameter(torch.zeros(config.hidden))
        self.activation = ACTIVATIONS[config.activation]
        # k rows are added, however many there are to choose from: fan-in is k, not k * vocab_size.
        nn.init.normal_(self.weight, std=1 / math.sqrt(config.k))

    def forward(self, context: Context) -> Lanes:
        return self.activation(onehot_product(context, self.weight) + self.bias)


class EmbedInput(nn.Module):
    """k embeddings side by side, the newest first."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.width = config.k * config.d_embed
        self.embedding = nn.Embedding(config.vocab_size, config.d_embed)
        nn.init.normal_(self.embedding.weight)

    def forward(self, context: Context) -> Lanes:
        return embed(self.embedding, context).flatten(2)


class ConvInput(nn.Module):
    """Embeddings through a causal convolution that stops at the start of the document."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.width = config.hidden
        self.embedding = nn.Embedding(config.vocab_size, config.d_embed)
        self.kernel = nn.Parameter(torch.empty(config.k, config.hidden, config.d_embed))
        self.bias = nn.Parameter(torch.zeros(config.hidden))
        self.activation = ACTIVATIONS[config.activation]
        nn.init.normal_(self.embedding.weight)
        nn.init.normal_(self.kernel, std=1 / math.sqrt(config.k * config.d_embed))

    def forward(self, context: Context) -> Lanes:
        k, time = context.shape[2], context.shape[1]
        # Every token once, oldest first; `first` is where the chunk begins, after the k - 1 tokens before it.
        past, first = torch.cat((context[:, 0, 1:].flip(-1), context[:, :, 0]), dim=1), k - 1
        taps = F.linear(embed(self.embedding, past), self.kernel.flatten(0, 1)).unflatten(-1, (k, -1))
        x = self.bias.expand(*context.shape[:2], -1)
        for back in range(k):
            shifted = taps[:, first - back : first - back + time, back]
            # A window that reaches over a document's start is cut there.
            x = x + shifted.masked_fill((context[..., back] == EMPTY)[..., None], 0.0)
        return self.activation(x)


INPUTS: dict[str, type[OneHotInput] | type[EmbedInput] | type[ConvInput]] = {
    "onehot": OneHotInput,
    "embed": EmbedInput,
    "conv": ConvInput,
}


def embed(embedding: nn.Embedding, tokens: Tensor) -> Float[Tensor, "*tokens d_embed"]:
    """The vector of every token, zero where there is none."""
    empty = tokens == EMPTY
    vectors: Tensor = embedding(tokens.masked_fill(empty, 0))
    return vectors.masked_fill(empty[..., None], 0.0)


class Block(nn.Module):
    """One hidden layer; sites `up` (before the activation) and `act` (after it)."""

    def __init__(self, width: int, config: Config) -> None:
        super().__init__()
        self.up_proj = nn.Linear(width, config.hidden)
        self.activation = ACTIVATIONS[config.activation]
        nn.init.normal_(self.up_proj.weight, std=1 / math.sqrt(width))
        nn.init.zeros_(self.up_proj.bias)

    def forward(self, x: Lanes) -> Hidden:
        up = tap(self, "up", self.up_proj(x))
        return tap(self, "act", self.activation(up))


class KGram(LanguageModel):
    """The whole model; site `embed` is what the input layer hands to the hidden ones."""

    architecture = "kgram"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.input = INPUTS[config.form](config)
        widths = [self.input.width] + [config.hidden] * config.n_hidden
        self.blocks = nn.ModuleList(Block(width, config) for width in widths[:-1])
        width = widths[-1]
        self.head = Head(width, config.vocab_size)
        # No norm bounds what enters the head, so its weights shrink with the width: small logits, a first loss of ln V.
        nn.init.normal_(self.head.weight, std=0.2 / math.sqrt(width))

    def features(
        self, tokens: Tokens, *, cache: RecentTokens | None = None, documents: Documents | None = None
    ) -> Stream:
        context = recent(tokens, self.config.k, documents=documents, cache=cache)
        x = tap(self, "embed", self.input(context))
        for block in self.blocks:
            x = block(x)
        return x

    def new_cache(self, batch_size: int, capacity: int) -> RecentTokens:
        return RecentTokens(batch_size=batch_size, k=self.config.k, capacity=capacity, device=self.device)
