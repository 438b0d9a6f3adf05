"""How does a model store its tokens? The rows of its embedding, seen along the few directions in which they differ most.

    vocab x d_model, centred -> SVD -> components, and the share of the variance each explains        Pearson 1901
    numbers in their order   -> a path through that space: does it go anywhere, or jump about?

Whether the path has the order of the numbers is asked in `order.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata

from picolab.errors import BadInput
from picolab.interpret.chance import Measured, Numbers, measured, percent, shuffles
from picolab.interpret.order import COMPONENTS, Order, order_of, standard
from picolab.models.contract import LanguageModel
from picolab.text.tokenizer import Tokenizer

KEPT = 10
"""Components whose explained variance is told."""

TRACE = 0.9
"""Steps between neighbours that are hardly shorter than any others are called a trace of order."""

HORN = 12
"""Tables whose every column was shuffled by itself."""

MOST_NUMBERS = 1024
FEWEST = 5
"""Points: fewer have no shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Components:
    """`places` are the points along the first three components; `explained` the share of the variance of each, largest first.

    `by_chance` is what the first two would explain together if no two dimensions had anything in common (Horn 1965).
    """

    labels: tuple[str, ...]
    places: tuple[tuple[float, ...], ...]
    explained: tuple[float, ...]
    by_chance: float
    dimensions: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """One table of vectors: `embedding` or `unembedding`, its components; of numbers their `order`, of words how well the best of
    the first components ranks them by `frequency`."""

    name: str
    components: Components
    order: Order | None = None
    frequency: Measured | None = None


def vectors_of(model: LanguageModel) -> dict[str, Numbers]:
    """The tables of vectors a model has for its tokens, each once: a tied head is its embedding."""
    tables: dict[str, Numbers] = {}
    embedding = getattr(model, "embedding", None) or getattr(getattr(model, "input", None), "embedding", None)
    weight = getattr(embedding, "weight", None)
    if isinstance(weight, torch.Tensor):
        tables["embedding"] = _plain(weight)
    head = getattr(getattr(model, "head", None), "weight", None)
    if isinstance(head, torch.Tensor) and (weight is None or head.data_ptr() != weight.data_ptr()):
        tables["unembedding"] = _plain(head)
    if not tables:
        raise BadInput(
            f"a `{model.architecture}` has no vector for a token", hint="embeddings are those of networks: lstm, gpt2"
        )
    return tables


def numbers_of(tokenizer: Tokenizer | None) -> dict[int, int]:
    """Token -> number, by size, where most of the vocabulary are whole numbers; empty where they are not."""
    if tokenizer is None or tokenizer.kind != "integers":
        return {}
    spelled = {token: tokenizer.token_bytes(token).decode() for token in range(tokenizer.vocab_size)}
    found = {token: int(text) for token, text in spelled.items() if text}
    return dict(sorted(found.items(), key=lambda pair: pair[1])[:MOST_NUMBERS])


def space_of_numbers(name: str, table: Numbers, numbers: Mapping[int, int], *, seed: int = 0) -> Space:
    """The rows of `numbers`, token -> number by size: their components, and whether they lie in their order."""
    points = _chosen(name, table, [*numbers])
    components = components_of(points, [str(number) for number in numbers.values()], seed=seed)
    return Space(name=name, components=components, order=order_of(points, seed=seed))


def space_of_words(
    name: str, table: Numbers, words: Mapping[int, str], counts: Mapping[int, int], *, seed: int = 0
) -> Space:
    """The rows of `words`, token -> name, and what the first components have to do with how often each occurs."""
    points = _chosen(name, table, [*words])
    components = components_of(points, [*words.values()], seed=seed)
    ranks = standard(rankdata([counts[token] for token in words])[None])[0]
    places = standard(rankdata(np.asarray(components.places), axis=0).T)
    shuffled = np.abs(ranks[shuffles(len(ranks), seed)] @ places.T).max(axis=1)
    frequency = measured(float(np.abs(places @ ranks).max()), shuffled)
    return Space(name=name, components=components, frequency=frequency)


def _chosen(name: str, table: Numbers, tokens: Sequence[int]) -> Numbers:
    if len(tokens) < FEWEST:
        raise BadInput(
            f"{len(tokens)} tokens are too few for a picture of the {name}", hint=f"at least {FEWEST} have a shape"
        )
    return np.asarray(table[tokens])


def components_of(points: Numbers, labels: Sequence[str], *, seed: int = 0) -> Components:
    """Principal components of points `(count, d_model)`."""
    centred = points - points.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    variance = sizes**2
    total = float(variance.sum())
    if total == 0:
        raise BadInput(
            "all these tokens have the same vector", hint="the model was never trained, or its file is empty"
        )
    shares = variance / total
    rng = np.random.default_rng(seed)
    drawn = [np.linalg.svd(rng.permuted(centred, axis=0), compute_uv=False) for _ in range(HORN)]
    return Components(
        labels=tuple(labels),
        places=tuple(tuple(row) for row in (left * sizes)[:, :COMPONENTS].tolist()),
        explained=tuple(shares[:KEPT].tolist()),
        by_chance=float(np.mean([(sizes[:2] ** 2).sum() / total for sizes in drawn])),
        dimensions=points.shape[1],
    )


def says(space: Space) -> list[str]:
    """What was found, in sentences."""
    components, order, frequency = space.components, space.order, space.frequency
    seen = (
        f"The first two components of the {space.name} hold {percent(sum(components.explained[:2]))} of its variance "
        f"({percent(components.by_chance)} by chance)"
    )
    if frequency is not None:
        verb = "tell" if frequency.is_clear else "do not tell"
        return [
            f"{seen}; the first {COMPONENTS} {verb} how often a token occurs, the best with a correlation of {frequency}."
        ]
    if order is None:
        return [f"{seen}."]
    if order.is_there:
        lie = "lie in their order" if order.steps.value < TRACE else "have a trace of their order, no more"
        ranked = f"one ranks them with a correlation of {order.rank}" if order.rank.is_clear else "none ranks them"
        how = "closes upon itself" if order.ends < 0.5 else "is open"
        sentences = [
            f"{seen}, and the {order.count} numbers {lie}: the step from one to the next, squared, is "
            f"{order.steps} of that between any two.",
            f"The first {COMPONENTS} components know {order.known} of the number's variance, {ranked}; the path {how}.",
        ]
    else:
        sentences = [
            f"{seen}, but the {order.count} numbers do not lie in their order: the step from one to the next, squared, is as long "
            f"as between any two, a ratio of {order.steps}."
        ]
    if order.period.is_clear:
        sentences.append(
            f"Every {order.every:.3g} numbers the {space.name} repeats itself: that holds {order.period} of its variance."
        )
    return sentences


def _plain(weight: torch.Tensor) -> Numbers:
    return weight.detach().double().cpu().numpy()
