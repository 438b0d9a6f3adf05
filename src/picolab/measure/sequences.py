"""How far from the best possible does a model predict integer sequences, family by family?

    prefix -> P exact, by Bayes      floor    entropy of P
           -> Q the model's          excess   sum of P log(P / Q), 0 only where the model is right; floor + excess = its loss
                                              = excess about when the text ends + excess about which number comes

Excess is an expectation over P at every position that was read, not the luck of one document. A position is determined where one
number, if a number comes, is all but certain (but for noise), and not only because other rules that fit are rarer: those without
chance that are left agree. There the model's favourite number is right or wrong.

Beyond the lengths a model was trained on no document goes on, so there it is asked which number comes, given that one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from picolab.data.numeric import World, family_of
from picolab.data.numeric_floor import agreed, following
from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.text.tokenizer import Tokenizer

CERTAIN = 0.99
"""Posterior of a number, given that one comes, from which it is determined."""
GOES_ON = 0.01
"""Least chance that a number comes at all, where the model is asked which."""
BATCH = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A position, 0 the first number of a document, over all documents that reach it; floor and excess in nats."""

    position: int
    count: int
    floor: float
    excess: float


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyScore:
    """One family: nats a token, on average over positions. `ending` is the part of the excess about when a document ends."""

    family: str
    documents: int
    positions: int
    floor: float
    excess: float
    ending: float
    determined: int
    right: int
    profile: tuple[Point, ...]

    @property
    def loss(self) -> float:
        """What the model loses on average: the floor and what it is above it."""
        return self.floor + self.excess

    @property
    def accuracy(self) -> float | None:
        """Share of determined positions where the model's favourite number is the right one; None without such a position."""
        return self.right / self.determined if self.determined else None


def score_sequences(
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Sequence[Sequence[int]],
    world: World,
    *,
    beyond: int | None = None,
) -> tuple[FamilyScore, ...]:
    """The scores of every family that has documents, in the world's order. With `beyond`, only positions from there on count, and
    of them only which number comes."""
    longest = max(map(len, documents), default=0) + (beyond is None)
    if longest > model.config.context_length:
        raise BadInput(
            f"sequences of {longest} tokens are longer than the model's context of {model.config.context_length}",
            hint="score shorter ones, or a model with a longer context",
        )
    words = _Words(tokenizer, world)
    readable = [tuple(numbers) for numbers in documents if words.knows(numbers)]
    rows: dict[str, list[_Row]] = {family: [] for family in world.families}
    was_training = model.training
    model.eval()
    try:
        exact, alone = following(readable, world), agreed(readable, world)
        for begun in range(0, len(readable), BATCH):
            some = readable[begun : begun + BATCH]
            for numbers, said in zip(some, _predictions(model, words, some), strict=True):
                row = _compare(next(exact), next(alone), said, words, world, beyond)
                rows[family_of(numbers, world)].append(row)
    finally:
        model.train(was_training)
    return tuple(_family(family, some) for family, some in rows.items() if some)


@dataclass(frozen=True, slots=True)
class _Row:
    """One document, a number a position; `first` is the position of the first."""

    first: int
    floor: np.ndarray
    excess: np.ndarray
    ending: np.ndarray
    determined: np.ndarray
    right: np.ndarray


class _Words:
    """Which token stands for a number. Numbers that the vocabulary lacks are left out: a corpus may be too small to show all."""

    def __init__(self, tokenizer: Tokenizer, world: World) -> None:
        token_of = {tokenizer.token_name(i): i for i in range(tokenizer.vocab_size)}
        self.numbers = [x for x in range(world.numbers) if str(x) in token_of]
        self.tokens = [token_of[str(x)] for x in self.numbers]
        self.eot = tokenizer.eot
        self._token = dict(zip(self.numbers, self.tokens, strict=True))

    def knows(self, numbers: Sequence[int]) -> bool:
        return all(x in self._token for x in numbers)

    def ids(self, numbers: Sequence[int]) -> list[int]:
        return [self.eot, *(self._token[x] for x in numbers)]


@torch.inference_mode()
def _predictions(model: LanguageModel, words: _Words, documents: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """For every document `(length + 1, numbers + 1)`: log-probabilities of the known numbers, then of its end."""
    rows = [words.ids(numbers) for numbers in documents]
    time = min(max(map(len, rows)), model.config.context_length)
    padded = torch.tensor([(row + [words.eot] * time)[:time] for row in rows], device=model.device)
    said: Tensor = model(padded).double().log_softmax(-1)[..., [*words.tokens, words.eot]].cpu()
    return [said[i, : len(row)].numpy() for i, row in enumerate(rows)]


def _compare(
    exact: np.ndarray, alone: np.ndarray, said: np.ndarray, words: _Words, world: World, beyond: int | None
) -> _Row:
    p = exact[: len(said), [*words.numbers, world.numbers]]
    p = p / p.sum(axis=1, keepdims=True)
    goes_on = p[:, :-1].sum(axis=1)
    best = p[:, :-1].argmax(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        certain = p[:, :-1].max(axis=1) / goes_on >= CERTAIN * (1 - world.noise / 100)
    ending = _divergence(np.stack([goes_on, p[:, -1]], 1), np.stack([_total(said[:, :-1]), said[:, -1]], 1))
    if beyond is not None:
        kept = np.arange(len(p)) >= beyond
        kept &= goes_on > 0
        said = said[:, :-1] - _total(said[:, :-1])[:, None]
        p = p[:, :-1] / np.where(goes_on, goes_on, 1.0)[:, None]
        ending = np.zeros_like(ending)
    else:
        kept = np.full(len(p), True)
    determined = certain & alone[: len(said)] & (goes_on >= GOES_ON)
    favourite = said[:, : len(words.numbers)].argmax(axis=1)
    return _Row(
        first=int(np.argmax(kept)) if kept.any() else 0,
        floor=-_expected(p, np.log(np.where(p, p, 1.0)))[kept],
        excess=_divergence(p, said)[kept],
        ending=ending[kept],
        determined=determined[kept],
        right=(determined & (favourite == best))[kept],
    )


def _expected(p: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums of p * value; what cannot happen counts for nothing, whatever its value."""
    return np.where(p > 0, p * np.where(p > 0, values, 0.0), 0.0).sum(axis=1)


def _divergence(p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """Kullback and Leibler 1951: how many nats are lost by believing q. Never negative but for rounding."""
    return np.maximum(_expected(p, np.log(np.where(p, p, 1.0)) - log_q), 0.0)


def _total(log_q: np.ndarray) -> np.ndarray:
    return np.logaddexp.reduce(log_q, axis=1)


def _family(family: str, rows: Sequence[_Row]) -> FamilyScore:
    floor, excess, ending, determined, right = (
        np.concatenate([getattr(row, name) for row in rows])
        for name in ("floor", "excess", "ending", "determined", "right")
    )
    place = np.concatenate([row.first + np.arange(len(row.floor)) for row in rows])
    count = len(place)
    return FamilyScore(
        family=family,
        documents=len(rows),
        positions=count,
        floor=float(floor.mean()) if count else 0.0,
        excess=float(excess.mean()) if count else 0.0,
        ending=float(ending.mean()) if count else 0.0,
        determined=int(determined.sum()),
        right=int(right.sum()),
        profile=tuple(
            Point(
                position=int(at),
                count=int((place == at).sum()),
                floor=float(floor[place == at].mean()),
                excess=float(excess[place == at].mean()),
            )
            for at in np.unique(place)
        ),
    )
