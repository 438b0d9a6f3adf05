"""The page of the recipe `counted-attention`: a comparison's page, with the share of the gain every arm recovers, and its heads.

findings in words; dots and curves; table with gain, steps and who is frozen; maps of counted and trained heads side by side
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from picolab.compare.gain import COUNTING, Gain, Standing, mean_of
from picolab.compare.plots import GREY
from picolab.compare.result import Attention, Comparison, Row
from picolab.report import figures
from picolab.report.comparison import REPORT, colours_of, comparison_page
from picolab.report.embedded import Shown, address_of
from picolab.report.interpretation.exhibit import PICTURE, as_svg, legible
from picolab.report.page import Cell, Line, Page, Table, write

LEGIBLE = 24
"""Tokens of a map: as many as can be written beside it."""
CAPTION = (
    "Losses are on the held-out split; a range is the smallest to the largest seed. Gain recovered: (no attention - arm) / (no "
    "attention - trainable), seed by seed, with its 95 % margin; above 100 % an arm learned more within this budget, which does "
    "not say that it could learn more in the end. Steps: when the held-out curve is as low as the trainable arm ends."
)


def counted_report(
    comparison: Comparison, gain: Gain, words: Sequence[str], folder: Path, *, side_by_side: Sequence[str], command: str
) -> Path:
    """Write `report.html` into the folder; returns its path. `side_by_side` are the arms whose heads are drawn together."""
    return write(counted_page(comparison, gain, words, side_by_side=side_by_side, command=command), folder / REPORT)


def counted_page(
    comparison: Comparison, gain: Gain, words: Sequence[str], *, side_by_side: Sequence[str], command: str
) -> Page:
    """What the page shows."""
    maps = [one for name in side_by_side for one in comparison.attention if one.model == name]
    names = [one.model for one in maps]
    says = (
        f"The same text, the same places: heads of {', '.join(names)}. A row is a token that reads, a column one that is read; "
        "darker is more (square root). Below, every head of every arm can be looked at."
    )
    page = comparison_page(comparison)
    return replace(
        page,
        title="Attention written down, attention learned",
        lead=words[0],
        names=(),  # "random" and "counted" are also words
        words=(*words[1:], *comparison.ranking[-1:]),
        curves=_curves(page, comparison),
        table=_table(comparison, gain),
        pictures=(Shown(title="Heads side by side", says=says, address=address_of(as_svg(heads_figure(maps)))),)
        if maps
        else (),
        command=command,
    )


def _curves(page: Page, comparison: Comparison) -> Mapping[str, Any] | None:
    """The curves of what learns step by step: counts have none, and a line between two points would look like one."""
    if page.curves is None:
        return None
    counting = {row.model for row in comparison.rows if row.family == COUNTING}
    return {**page.curves, "models": [one for one in page.curves["models"] if one["name"] not in counting]}


def heads_figure(maps: Sequence[Attention]) -> Figure:
    """A line of maps for every arm: all its heads, layer by layer, over the beginning of the same text."""
    heads = max(sum(len(layer) for layer in one.weights) for one in maps)
    time = min(LEGIBLE, *(len(one.tokens) for one in maps))
    with rc_context(PICTURE):
        figure = Figure(figsize=(2.3 * heads + 0.6, 2.5 * len(maps)))
        grid = figure.subplots(len(maps), heads, squeeze=False)
        for line, one in zip(grid, maps, strict=True):
            labels = [legible(token, 6) for token in one.tokens[:time]]
            named = [
                (f"{layer}.{head}", weights)
                for layer, row in enumerate(one.weights)
                for head, weights in enumerate(row)
            ]
            for axes, (name, weights) in zip(line, named, strict=False):
                axes.imshow(
                    _square(weights, time), cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1), interpolation="nearest"
                )
                axes.set_title(f"{one.model}, head {name}", fontsize=8, color=GREY)
                axes.set_xticks(range(time), labels, rotation=90, fontsize=5)
                axes.set_yticks(range(time), labels, fontsize=5)
                axes.grid(visible=False)
    return figure


def _square(weights: Sequence[int], time: int) -> np.ma.MaskedArray[tuple[int, ...], np.dtype[np.float64]]:
    square = np.zeros((time, time))
    square[np.tril_indices(time)] = np.asarray(weights[: time * (time + 1) // 2]) / 1000
    return np.ma.masked_where(~np.tri(time, dtype=bool), square)


def _table(comparison: Comparison, gain: Gain) -> Table:
    colours = colours_of(comparison.rows)
    lines = []
    for row in comparison.rows:
        standing = gain.of(row.model)
        reasons = "; ".join(row.reasons)
        lines.append(
            Line(
                colour=colours[row.model],
                name=row.model,
                says=_spelled(comparison.setup.arms.get(row.model, row.family)),
                baseline=row.baseline,
                cells=() if standing is None else _cells(row, standing),
                reason=reasons,
            )
        )
    columns = (
        ("Arm", ""),
        ("Loss", "nats a token, lower is better"),
        ("Bits a byte", "lower is better"),
        ("Gain recovered", "of zero to trainable"),
        ("Steps", "to where trainable ends"),
        ("Time", "a run"),
        ("Trainable", "parameters"),
    )
    return Table(columns=columns, lines=tuple(lines), caption=CAPTION)


def _spelled(spec: str) -> str:
    """What an arm is, in pieces that a narrow column can break."""
    return spec.replace(":", ", ").replace(",", ", ").replace(",  ", ", ").replace("+", " + ")


def _cells(row: Row, standing: Standing) -> tuple[Cell, ...]:
    size, trainable = row.size, None if row.size is None else row.size.trainable
    several = row.loss is not None and row.loss.seeds > 1
    loss, bits = (None if band is None else band.mean for band in (row.loss, row.bits_per_byte))
    spread = f"{row.loss.low:.3f} to {row.loss.high:.3f}" if row.loss is not None and several else "one seed"
    share, margin = standing.mean, standing.margin
    steps = [one.step for one in standing.reached_best]
    missing = len(row.losses) - len(steps)
    seconds = standing.seconds.mean if standing.seconds else None
    return (
        Cell(text=figures.loss(loss), key=loss, note=spread),
        Cell(text=figures.loss(bits), key=bits),
        Cell(
            text=figures.NOTHING if share is None else f"{100 * share:.1f} %",
            key=share,
            note="" if margin is None else f"± {100 * margin:.1f}",
        ),
        Cell(
            text=f"{mean_of(steps):,.0f}" if steps else figures.NOTHING if row.family == COUNTING else "never",
            key=mean_of(steps) if steps else None,
            note=f"{missing} of {len(row.losses)} seeds never" if steps and missing else "",
        ),
        Cell(text=figures.seconds(seconds), key=seconds),
        Cell(
            text=figures.whole(trainable),
            key=trainable,
            note=f"{figures.whole(size.frozen)} frozen, {figures.whole(size.buffers)} in buffers" if size else "",
        ),
    )
