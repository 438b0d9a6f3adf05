"""The dot plot of final losses: every seed a ring, their mean a bar, the floor and the baseline as lines, on one axis.

values, lines -> one linear axis that holds them all -> places in percent of its width
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from picolab.compare.result import Row, Setup
from picolab.report import figures
from picolab.report.page import DotPlot, Dots, Mark


def dot_plot(rows: Sequence[Row], setup: Setup, colours: dict[str, str]) -> DotPlot | None:
    """The plot of the rows that finished; None where none did."""
    finished = [row for row in rows if row.loss is not None]
    if not finished:
        return None
    lines = _lines(finished, setup)
    values = [row.loss.low for row in finished if row.loss] + [row.loss.high for row in finished if row.loss]
    low, high = min(values), max(values)
    span = max(high - low, 0.02 * abs(high), 1e-6)
    # A uniform guess far above all models would press them into a corner: it is then told in the caption only.
    near = [line for line in lines if line[2] != "uniform" or line[1] <= high + 1.2 * span]
    low, high = min([low, *(line[1] for line in near)]), max([high, *(line[1] for line in near)])
    pad = 0.04 * max(high - low, span)
    low, high = low - pad, high + pad

    def at(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    return DotPlot(
        rows=tuple(
            Dots(
                model=row.model,
                colour=colours[row.model],
                low=at(row.loss.low),
                width=round(at(row.loss.high) - at(row.loss.low), 2),
                mean=at(row.loss.mean),
                seeds=tuple(at(value) for value in row.losses.values()),
                value=figures.loss(row.loss.mean),
                spread=f"{row.loss.low:.3f} to {row.loss.high:.3f}" if row.loss.seeds > 1 else "one seed",
            )
            for row in finished
            if row.loss is not None
        ),
        marks=tuple(
            Mark(label=f"{label} {figures.loss(value)}", value=value, at=at(value), kind=kind)
            for label, value, kind in sorted(near, key=lambda line: line[1])
        ),
        ticks=tuple((at(value), label) for value, label in ticks(low, high)),
        axis=_axis(setup),
    )


def ticks(low: float, high: float, count: int = 5) -> list[tuple[float, str]]:
    """Round values between two ends, with as many decimals as their distance needs."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step), math.floor(high / step)
    return [(i * step, f"{i * step:.{decimals}f}") for i in range(first, last + 1)]


def _lines(finished: Sequence[Row], setup: Setup) -> list[tuple[str, float, str]]:
    lines = [("uniform guess", setup.uniform, "uniform")]
    if setup.floor is not None:
        lines.append(("exact floor", setup.floor, "floor"))
    lines += [(f"{row.model} baseline", row.loss.mean, "baseline") for row in finished if row.baseline and row.loss]
    return lines


def _axis(setup: Setup) -> str:
    floor = "" if setup.floor is None else f"; no model can be below {setup.floor:.3f}, the exact entropy of this data"
    return (
        f"Loss on the {setup.scored_split} split, nats a token. Lower is better; "
        f"a uniform guess scores {setup.uniform:.2f}{floor}. Rings are seeds, the bar is their mean."
    )
