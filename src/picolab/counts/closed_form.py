"""Attention that nobody trains: count the training text, choose places and values, write them into a model, seal them.

    counts -> information of far tokens -> places of heads        V <= d   layers of copies from the most telling places
           -> neighbours -> embedding                             V >  d   layers of copies from the most telling places and
           -> pointwise information -> values                              from a window; the last window adds what follows

Two heads that look at places cannot tell what a text is about: with many words a trained head looks at all of the recent past.
The constants come from experiments on the characters and on 2,048 pieces of one corpus (docs/LOG.md); what the recipe is worth on
others is measured by `benchmarks/counted_attention.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from picolab.counts.coherence import METHODS, spread
from picolab.counts.count import count_corpus, unigrams
from picolab.counts.embeddings import NORM, neighbour_embedding, orthogonal_embedding
from picolab.counts.information import conditional_information, far_and_near
from picolab.counts.places import FARTHEST, SHARP, SOFT, Window, fading, place, ranked, slow_plane, window_of
from picolab.counts.published import base_embedding, head_of, shape_of
from picolab.counts.shape import Shape
from picolab.counts.tables import Tables
from picolab.counts.values import copy, following
from picolab.data.dataset import Dataset
from picolab.errors import BadData, BadSetting
from picolab.models.contract import LanguageModel
from picolab.models.counted import Attention, Config, Counted

COPIED, COPIED_OF_MANY, FOLLOWS = 1.45, 0.7, 0.4
"""How many embeddings long the output of a copying head is, where words are few and where they are many; how strongly the last
window adds what follows."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class HeadPlan:
    """A head: it looks so many tokens back or through a window, hands over `copied` of what it finds there and `follows` of what
    the counts say follows that."""

    looks: int | Window
    copied: float
    follows: float = 0.0

    def __str__(self) -> str:
        return f"{self.looks.width:.1f} wide" if isinstance(self.looks, Window) else str(self.looks)


def plan_heads(
    information: Mapping[int, float], *, n_layers: int, n_heads: int, few_words: bool
) -> list[list[HeadPlan]]:
    """Which heads a model gets, layer by layer, from the nats that a token says so many places back."""
    offsets = ranked(information)
    if few_words:
        return [[HeadPlan(offset, COPIED) for offset in offsets[:n_heads]] for _ in range(n_layers)]
    near, window = [HeadPlan(offset, COPIED_OF_MANY) for offset in offsets[: n_heads - 1]], window_of(information)
    return [
        [*near, HeadPlan(window, COPIED_OF_MANY, FOLLOWS if layer == n_layers - 1 else 0.0)]
        for layer in range(n_layers)
    ]


@torch.no_grad()
def write_attention(
    model: LanguageModel,
    dataset: Dataset,
    *,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> tuple[str, ...]:
    """Fill a `Counted` model from the training text of a dataset, as its settings ask; every other model is left as it is.

    Returns what a reader of the run must know. The same seed and text give the same numbers.
    """
    if not isinstance(model, Counted):
        return ()
    config, generator = model.config, torch.Generator().manual_seed(seed)
    few_words = config.vocab_size <= config.d_model
    _check(model, dataset, few_words)
    shapes = _shapes(model, few_words)
    tables = count_corpus(dataset, shapes, folder=folder, progress=progress) if shapes else None
    notes = []
    if config.embedding == "counted":
        if few_words:
            rows = orthogonal_embedding(config.vocab_size, config.d_model, generator)
        else:
            assert tables is not None
            nearest, next_nearest = tables["n1-s0"], tables["n1-s1"]
            rows = _as_wide(neighbour_embedding(nearest, next_nearest, config.d_model, generator), config.vocab_size)
        model.embedding.weight.copy_(rows)
        notes.append("embedding: " + ("orthogonal rows" if few_words else "from neighbours in the training text"))
    elif config.embedding in METHODS:
        spread_out = spread(config.embedding, config.vocab_size, config.d_model, seed=seed)
        model.embedding.weight.copy_(NORM * spread_out.rows)
        notes.append(f"embedding: {spread_out.says}")
    notes += _attention(model, dataset, tables, few_words, generator)
    model.seal()
    return tuple(notes)


def _check(model: Counted, dataset: Dataset, few_words: bool) -> None:
    """Refuse what cannot be written down, before anything is counted."""
    config, words = model.config, dataset.tokenizer.vocab_size
    if words > config.vocab_size:
        raise BadData(
            f"the text has a vocabulary of {words:,}, and the model one of {config.vocab_size:,}",
            hint="leave the model's vocab_size out: the tokenizer knows",
        )
    if config.attention in ("counted", "uniform") and config.head_dim > config.d_model:
        raise BadSetting(
            f"head_dim {config.head_dim} is more than the {config.d_model} directions of the stream that a head can copy",
            hint=f"--model.head_dim {config.d_model} or less",
        )
    if config.attention in ("counted", "offsets") and not few_words:
        slow_plane(config.head_dim, config.rope_theta, config.context_length)


def _shapes(model: Counted, few_words: bool) -> list[Shape]:
    """The tables that this model's settings need."""
    config, shapes = model.config, []
    if config.embedding == "counted" and not few_words:
        shapes += [Shape.of(1, 0), Shape.of(1, 1)]
    if config.attention in ("counted", "uniform", "offsets"):
        shapes += [far_and_near(offset) for offset in range(1, FARTHEST + 1)]
    if config.attention in ("counted", "uniform") and not few_words:
        shapes += [Shape.of(1, 0)]
    if config.attention == "published":
        shapes += [Shape.of(1, 0)]
        shapes += [shape_of(layer, head) for layer in range(config.n_layers) for head in range(config.n_heads)]
    return shapes


def _attention(
    model: Counted, dataset: Dataset, tables: Tables | None, few_words: bool, generator: torch.Generator
) -> list[str]:
    layers = [cast(Attention, block.attention) for block in model.blocks]
    if model.config.attention == "usual":
        return []
    if model.config.attention == "zero":
        for matrix in (parameter for attention in layers for parameter in attention.parameters()):
            matrix.zero_()
        return ["attention: none"]
    if model.config.attention == "random":
        for matrix in (parameter for attention in layers for parameter in attention.parameters()):
            matrix.normal_(std=0.02, generator=generator)
        return ["attention: random"]
    assert tables is not None
    if model.config.attention == "published":
        return _published(model, layers, tables, generator)
    return _counted(model, layers, dataset, tables, few_words, generator)


def _counted(
    model: Counted,
    layers: Sequence[Attention],
    dataset: Dataset,
    tables: Tables,
    few_words: bool,
    generator: torch.Generator,
) -> list[str]:
    """Places from the information of far tokens; values as the setting says."""
    config, told = model.config, {}
    for offset in range(1, FARTHEST + 1):
        told[offset] = conditional_information(tables[far_and_near(offset).name])
    plans = plan_heads(told, n_layers=config.n_layers, n_heads=config.n_heads, few_words=few_words)
    unigram = torch.from_numpy(unigrams(dataset)).double() + 1
    unigram /= unigram.sum()
    words = model.embedding.weight[: dataset.tokenizer.vocab_size]
    for attention, heads in zip(layers, plans, strict=True):
        for tensor in (attention.q_proj.weight, attention.k_proj.weight, attention.q_bias, attention.k_bias):
            tensor.zero_()
        for number, head in enumerate(heads):
            lanes = slice(number * config.head_dim, (number + 1) * config.head_dim)
            if config.attention != "uniform":
                query, key = _constants(head.looks, config)
                attention.q_bias[lanes], attention.k_bias[lanes] = query.float(), key.float()
            if config.attention == "offsets":
                continue  # the usual random values stay
            taken, given = copy(config.d_model, config.head_dim, head.copied, generator)
            if head.follows:
                taken, what = following(tables["n1-s0"], unigram, words, config.head_dim, head.follows)
                given = given + what
            attention.v_proj.weight[lanes], attention.out_proj.weight[:, lanes] = taken.T.float(), given.T.float()
    looked = "; ".join(", ".join(map(str, heads)) for heads in plans)
    said = ", ".join(f"{offset} back {nats:.3f}" for offset, nats in told.items())
    return [f"nats that a far token adds: {said}", f"heads look back by {looked} (layer by layer)"]


def _constants(looks: int | Window, config: Config) -> tuple[Tensor, Tensor]:
    if isinstance(looks, Window):
        return fading(looks, config.head_dim, config.rope_theta, config.context_length)
    return place(looks, config.head_dim, config.rope_theta, SHARP if config.frozen else SOFT)


def _published(model: Counted, layers: Sequence[Attention], tables: Tables, generator: torch.Generator) -> list[str]:
    """The earlier recipe, corrected where the model's settings say so."""
    config = model.config
    embedding = (
        model.embedding.weight[: tables.source.vocab_size].clone()
        if "embedding" in config.corrections
        else base_embedding(tables.source.vocab_size, config.d_model, generator)
    )
    for number, attention in enumerate(layers):
        for head in range(config.n_heads):
            lanes = slice(head * config.head_dim, (head + 1) * config.head_dim)
            shape = shape_of(number, head)
            made = head_of(tables, shape, embedding, config.head_dim, generator, corrections=config.corrections)
            attention.q_proj.weight[lanes], attention.k_proj.weight[lanes] = made.q.T, made.k.T
            attention.v_proj.weight[lanes], attention.out_proj.weight[:, lanes] = made.v.T, made.o.T
    return [f"attention: the earlier recipe, {config.corrected.replace('+', ' and ') or 'nothing'} corrected"]


def _as_wide(rows: Tensor, vocab_size: int) -> Tensor:
    """Rows for tokens the tokenizer does not have: zero, as they never occur."""
    return torch.cat([rows, rows.new_zeros(vocab_size - len(rows), rows.shape[1])])
