"""Does a step fit into a device's memory, and if not, what would make it fit?

whole model on every device (ddp) -> blocks recomputed -> shards of it (fsdp) -> both          the first that fits is taken
each in as few pieces (`training.accumulate`) as fit                                           a piece has at least one row
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from picolab.measure.planning.hardware import WIDTHS, Device
from picolab.measure.planning.memory import Layout, Moment, Strategy, worst_moment
from picolab.measure.planning.saved import Work
from picolab.measure.planning.shape import Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """One way to lay out a step; `rows` are those of one piece on one device."""

    layout: Layout
    rows: int
    worst: Moment
    fits: bool


def ways(
    shape: Shape,
    device: Device,
    *,
    devices: int,
    rows: int,
    length: int,
    dtype: str,
    strategies: Sequence[Strategy],
    recompute: Sequence[bool],
    pieces: int | None,
) -> list[Way]:
    """Each way that is allowed, `rows` of a step on every device, in the order in which they are to be preferred."""
    work = Work(rows=rows, length=length, width=WIDTHS[dtype], kind=device.kind)
    return [
        _in_pieces(shape, device, replace(work), Layout(devices=devices, strategy=strategy, recompute=again), pieces)
        for strategy in strategies
        for again in recompute
    ]


def _in_pieces(shape: Shape, device: Device, work: Work, layout: Layout, pieces: int | None) -> Way:
    """The way with as few pieces as fit, or with those asked for; with single rows if nothing fits."""
    for n in [pieces] if pieces is not None else _divisors(work.rows):
        piece = replace(work, rows=max(1, work.rows // n))
        laid = replace(layout, pieces=n)
        worst = worst_moment(shape, piece, laid)
        way = Way(layout=laid, rows=piece.rows, worst=worst, fits=worst.n_bytes <= device.usable)
        if way.fits:
            break
    return way


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
