"""What do two engines read, in which pieces, and how far apart are their logits? Random tokens, drawn when asked.

    5 17 200 9            at once           [5 17 200 9]            a prefill
                          one by one        [5] [17] [200] [9]      what generation does
                          in pieces         [5] [17 200] [9]        a conversation that goes on

The distance at a position is the largest difference of two logits there, relative to the reference's largest absolute logit there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from picolab.errors import BadInput
from picolab.trace.engines.engine import Engine

Text = tuple[int, ...]
Pieces = Sequence[Sequence[int]]

MOST_LOGITS = 1 << 25
"""Logits of one text that are held at once, 128 MB: a large vocabulary makes the longest text shorter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A position of one of the texts, both counted from 0; texts are numbered from short to long."""

    prompt: int
    length: int
    position: int

    def __str__(self) -> str:
        return f"prompt {self.prompt} ({self.length} token{'s' if self.length > 1 else ''}), position {self.position}"


class Tally:
    """The worst of many positions, and how many are worse than they may be."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.worst = 0.0
        self.place: Place | None = None
        self.positions = self.beyond = 0
        self.not_finite: tuple[Place, str] | None = None

    def add(self, prompt: int, ours: Tensor, theirs: Tensor, *, first: int = 0, length: int | None = None) -> None:
        """Compare logits `(time, vocab)` of a text, of `length` tokens in all, from its position `first` on."""
        gaps, length = apart(ours, theirs), length or len(theirs)
        self.positions += len(gaps)
        self.beyond += int((gaps > self.tolerance).sum())
        at = int(gaps.argmax())
        if self.place is None or gaps[at] > self.worst:
            self.worst, self.place = float(gaps[at]), Place(prompt=prompt, length=length, position=first + at)
        for side, logits in (("here", ours), ("there", theirs)):
            bad = ~torch.isfinite(logits).all(-1)
            if self.not_finite is None and bad.any():
                self.not_finite = Place(prompt=prompt, length=length, position=first + int(bad.nonzero()[0])), side

    @property
    def passed(self) -> bool:
        return not self.beyond


def apart(ours: Tensor, theirs: Tensor) -> Tensor:
    """The distance at each position; infinite where a logit of either side is not a finite number."""
    width = min(ours.shape[-1], theirs.shape[-1])  # where vocabularies differ, that is told by a check of its own
    gap = (ours[..., :width] - theirs[..., :width]).abs().amax(-1)
    relative = torch.where(gap == 0, torch.zeros_like(gap), gap / theirs.abs().amax(-1))
    finite = torch.isfinite(ours).all(-1) & torch.isfinite(theirs).all(-1)
    return torch.where(finite, relative, torch.full_like(relative, math.inf))


def read_text(engine: Engine, pieces: Pieces) -> Tensor:
    """Logits `(time, vocab)` of a new text, read piece by piece."""
    engine.forget()
    return torch.cat([read_on(engine, piece) for piece in pieces])


def read_on(engine: Engine, piece: Sequence[int]) -> Tensor:
    """Logits after each of these tokens, refused if there are more or fewer of them."""
    logits = engine.read(piece)
    if logits.ndim != 2 or len(logits) != len(piece):
        raise BadInput(
            f"{engine.name} gives logits of shape {tuple(logits.shape)} for {len(piece)} tokens",
            hint="one row for each token read is meant: (time, vocab)",
        )
    return logits


def at_once(text: Text) -> Pieces:
    return [text]


def one_by_one(text: Text) -> Pieces:
    return [[token] for token in text]


def in_pieces(text: Text, rng: random.Random) -> Pieces:
    """The text cut at random, into pieces of one token to a third of it."""
    pieces, start, most = [], 0, max(2, len(text) // 3)
    while start < len(text):
        end = start + rng.randint(1, most)
        pieces.append(text[start:end])
        start = end
    return pieces


def draw(rng: random.Random, length: int, vocab_size: int) -> Text:
    return tuple(rng.randrange(vocab_size) for _ in range(length))


def draw_lengths(rng: random.Random, count: int, longest: int) -> list[int]:
    """The longest, one token, two, and between them what chance gives, short ones as likely as long ones; ascending."""
    chosen = [longest, 1, min(2, longest)][:count]
    least, most = min(3, longest), max(longest - 1, 1)
    while len(chosen) < count:
        chosen.append(round(math.exp(rng.uniform(math.log(least), math.log(max(least, most))))))
    return sorted(chosen)


def longest_text(first: Engine, second: Engine, most: int) -> int:
    """How long texts may be: what both can read, what is asked for, and what fits into memory."""
    limits = [engine.context_length for engine in (first, second) if engine.context_length is not None]
    return max(1, min([*limits, most, MOST_LOGITS // max(first.vocab_size, second.vocab_size)]))
