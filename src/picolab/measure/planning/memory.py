"""How much memory does one device need at its worst moment? Every line is a product that a person can check.

    always        weights, AdamW's two averages, DDP's buckets or FSDP's gathered layers
    head          all blocks' activations, a chunk of logits, the head's gradient        the end of a forward pass
    first, last   all activations and one gradient .. all gradients and one block's activations: the backward pass
    update        gradients only

Gradients are let go of after every step (`zero_grad(set_to_none=True)`), so a step in one piece meets its activations without
them; from the second piece of a step on they are there. What is counted is what tensors hold: a GPU's context and an allocator's
gaps come on top.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from picolab.measure.planning.saved import FLOAT, Kept, Work, kept_by_block, kept_outside
from picolab.measure.planning.shape import Shape

Strategy = Literal["ddp", "fsdp"]

CHUNK_ELEMENTS = 2**25
ALIGNED = 64
"""As parts/cross_entropy.py has them (a test compares): the logits held at once, and what a vocabulary is filled up to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One thing that takes memory, and how its bytes come about."""

    name: str
    says: str
    n_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A moment of a step, and what is held then."""

    name: str
    says: str
    lines: tuple[Line, ...]

    @property
    def n_bytes(self) -> int:
        return sum(line.n_bytes for line in self.lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How a step is spread: `devices` of a strategy, each taking its rows in `pieces`; blocks recomputed or kept."""

    devices: int = 1
    strategy: Strategy = "ddp"
    pieces: int = 1
    recompute: bool = False

    @property
    def shards(self) -> int:
        return self.devices if self.strategy == "fsdp" else 1


def worst_moment(shape: Shape, work: Work, layout: Layout) -> Moment:
    """The moment of a step that needs the most memory on one device."""
    return max(moments(shape, work, layout), key=lambda moment: moment.n_bytes)


def moments(shape: Shape, work: Work, layout: Layout) -> tuple[Moment, ...]:
    """The moments that can be the worst, each with all that is held then."""
    always = _always(shape, work, layout)
    begin = _begin(shape, layout)
    held = _Held(shape, work, layout)
    gradients = held.gradients
    earlier = gradients if layout.pieces > 1 else None  # left by the pieces before
    return (
        _moment(
            "head",
            "the head's loss",
            *always,
            earlier,
            *held.activations,
            *held.at_head,
        ),
        _moment("first", "the last block's backward pass", *always, earlier, *held.at_first),
        _moment(
            "last",
            "the first block's backward pass",
            *always,
            gradients,
            *held.at_last,
            held.scattering,
        ),
        _moment("update", "the optimizer's step", *always, gradients),
        *([_moment("start", "the beginning, before it is sharded", *begin)] if begin else []),
    )


def _moment(name: str, says: str, *lines: Line | None) -> Moment:
    return Moment(name=name, says=says, lines=tuple(line for line in lines if line is not None and line.n_bytes))


def _always(shape: Shape, work: Work, layout: Layout) -> list[Line]:
    """What is there in every moment."""
    p, n = shape.parameters, layout.shards
    share = f" / {n}" if n > 1 else ""
    lines = [
        Line(name="weights", says=f"{p:,} x 4 B{share}", n_bytes=FLOAT * p // n),
        Line(name="optimizer", says=f"{p:,} x 8 B{share}, AdamW's two averages", n_bytes=2 * FLOAT * p // n),
    ]
    if layout.devices > 1 and layout.strategy == "ddp":
        lines.append(Line(name="buckets", says=f"{p:,} x 4 B, gradients on their way", n_bytes=FLOAT * p))
    if n > 1:
        says = f"{shape.outside:,} x 4 B + 2 blocks of {shape.block:,} x {work.width} B"
        lines.append(Line(name="gathered", says=says, n_bytes=FLOAT * shape.outside + 2 * work.width * shape.block))
    return lines


def _begin(shape: Shape, layout: Layout) -> list[Line]:
    """FSDP takes shards of a model that is whole on every device."""
    if layout.shards == 1:
        return []
    p = shape.parameters
    return [
        Line(name="weights", says=f"{p:,} x 4 B", n_bytes=FLOAT * p),
        Line(name="shards", says=f"{p:,} x 4 B / {layout.shards}", n_bytes=FLOAT * p // layout.shards),
    ]


class _Held:
    """What a pass over one piece holds."""

    def __init__(self, shape: Shape, work: Work, layout: Layout) -> None:
        self.shape, self.work, self.layout = shape, work, layout
        self.kept: Kept = kept_by_block(shape, work)

    @property
    def gradients(self) -> Line:
        """All of them, on their way to the optimizer."""
        p, n = self.shape.parameters, self.layout.shards
        return Line(name="gradients", says=f"{p:,} x 4 B" + (f" / {n}" if n > 1 else ""), n_bytes=FLOAT * p // n)

    @property
    def scattering(self) -> Line | None:
        """What FSDP adds up before it scatters it: whole gradients of the last pieces of the model, and their copies to send."""
        if self.layout.shards == 1:
            return None
        outside, block = self.shape.outside, self.shape.block
        says = f"{outside:,} x 8 B + 2 blocks of {block:,} x 4 B"
        return Line(name="scattering", says=says, n_bytes=2 * FLOAT * (outside + block))

    @property
    def activations(self) -> list[Line]:
        """At the end of the forward pass."""
        return [
            *self._blocks(whole=0 if self.layout.recompute else self.shape.n_layers),
            self._outside(),
            *self._casts(),
        ]

    @property
    def at_head(self) -> list[Line]:
        """The chunked loss (parts/cross_entropy.py): logits, gradients of features and weight, copies the products need."""
        shape, tokens, width = self.shape, self.work.tokens, self.work.width
        filled = (
            math.ceil(shape.vocab_size / ALIGNED) * ALIGNED if shape.vocab_size >= 64 * ALIGNED else shape.vocab_size
        )
        chunks = max(1, math.ceil(tokens * shape.vocab_size / CHUNK_ELEMENTS))
        rows = math.ceil(tokens / chunks)
        logits, d = rows * filled * width, shape.d_model
        # A capped head keeps its slopes beside the logits, and three of their size exist while they are made.
        most, steady = ((4 if chunks > 1 else 3), 2) if shape.traits.capped else (1, 1)
        gradient, part = FLOAT * shape.head, width * filled * d
        # The first chunk's part becomes the gradient; later ones are added to it.
        adding = part + (gradient if chunks > 1 or self.work.mixed else 0)
        if chunks > 1 and self.work.mixed and self.work.kind == "cpu":
            adding += gradient  # a CPU adds types that differ by widening one of them whole
        copy = filled * d * width if self.work.mixed or filled != shape.vocab_size else 0
        worst, gradients = max(
            (most, gradient if chunks > 1 else 0),
            (steady, adding),
            key=lambda pair: pair[0] * logits + pair[1],
        )
        copies = 2 if self.work.mixed else 1  # features in float32, and in the type of the products
        return [
            Line(
                name="logits",
                says=f"{rows:,} tokens at a time x {filled:,} words x {width} B"
                + (f" x {worst}, capped" if worst > 1 else ""),
                n_bytes=worst * logits,
            ),
            Line(
                name="head slope",
                says=f"{shape.vocab_size:,} x {d:,} x {_each(gradients, shape.head)}",
                n_bytes=gradients,
            ),
            Line(name="head copy", says=f"{filled:,} x {d:,} x {width} B", n_bytes=copy),
            Line(
                name="head input",
                says=f"{tokens:,} tokens x {d:,} x {FLOAT + copies * width} B, with its slope",
                n_bytes=tokens * d * (FLOAT + copies * width),
            ),
        ]

    @property
    def at_first(self) -> list[Line]:
        """The backward pass enters the last block; the head has left its gradient."""
        shape, work = self.shape, self.work
        gradient = FLOAT * shape.head
        return [
            *self.activations,
            *self._recomputed(),
            Line(name="head slope", says=f"{shape.head:,} x 4 B", n_bytes=gradient),
            self._slopes(work.tokens * (FLOAT * shape.d_model + self._in_block())),
        ]

    @property
    def at_last(self) -> list[Line]:
        """The backward pass is in the first block; all others have let go of theirs."""
        shape, work = self.shape, self.work
        return [
            *self._blocks(whole=0 if self.layout.recompute else 1, entered=1),
            *self._recomputed(),
            self._slopes(work.tokens * (FLOAT * shape.d_model + self._in_block())),
        ]

    def _in_block(self) -> int:
        """Bytes a token of slopes inside a feed-forward layer beyond what it lets go of."""
        return self.work.width * (
            self.shape.d_ff * (2 if self.shape.traits.feed == "gated" else 1) + self.shape.d_model
        )

    def _slopes(self, n_bytes: int) -> Line:
        return Line(
            name="slopes", says=f"of the stream and inside a block, {self.work.tokens:,} tokens", n_bytes=n_bytes
        )

    def _blocks(self, *, whole: int, entered: int | None = None) -> list[Line]:
        tokens, layers = self.work.tokens, self.shape.n_layers
        if self.layout.recompute:
            inputs = layers if entered is None else entered
            each = FLOAT * self.shape.d_model
            return [
                Line(
                    name="activations",
                    says=f"{inputs} blocks' inputs x {tokens:,} tokens x {each:,} B",
                    n_bytes=inputs * tokens * each,
                )
            ]
        k = self.kept
        stream = k.total - k.mask
        return [
            Line(
                name="activations",
                says=f"{whole} blocks x {tokens:,} tokens x {stream:,} B",
                n_bytes=whole * tokens * stream,
            ),
            Line(
                name="masks", says=f"{whole} blocks x {tokens:,} tokens x {k.mask:,} B", n_bytes=whole * tokens * k.mask
            ),
        ]

    def _recomputed(self) -> list[Line]:
        if not self.layout.recompute:
            return []
        tokens, each = self.work.tokens, self.kept.total
        return [Line(name="recomputed", says=f"1 block x {tokens:,} tokens x {each:,} B", n_bytes=tokens * each)]

    def _outside(self) -> Line:
        tokens, each = self.work.tokens, kept_outside(self.shape, self.work)
        return Line(name="outside", says=f"{tokens:,} tokens x {each:,} B outside blocks", n_bytes=tokens * each)

    def _casts(self) -> list[Line]:
        """Autocast keeps a short copy of every matrix it has multiplied by, until the pass is over; FSDP gathers short ones."""
        if not self.work.mixed or self.layout.shards > 1:
            return []
        numbers = self.shape.n_layers * self.shape.block_matrices
        return [
            Line(
                name="copies",
                says=f"{numbers:,} x {self.work.width} B, matrices for the products",
                n_bytes=self.work.width * numbers,
            )
        ]


def _each(n_bytes: int, numbers: int) -> str:
    """Bytes a number, rounded where a filled-up vocabulary makes them crooked."""
    return f"{n_bytes / numbers:.3g} B"
