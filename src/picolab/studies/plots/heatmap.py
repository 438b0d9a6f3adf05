"""What do two settings do together? The goal as colour and number, over the two axes that matter most.

n_layers 2 | 2.31 | 2.25 | 2.40 |
         1 | 2.35 | 2.30 | 2.41 |        each cell a mean over seeds, and over what the other settings did
             .001   .002   .004  lr
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from picolab.studies.figures import FIGURES
from picolab.studies.plots.chosen import axes_by_weight, count_of, values_of, whole_points
from picolab.studies.plots.scales import figure_label, label_axes
from picolab.studies.points import said
from picolab.studies.result import StudyResult
from picolab.studies.study import Axis

MOST_CELLS = 16
LONG = 7
"""Letters of a name that fit below a cell."""


def heatmap_figure(result: StudyResult) -> Figure | None:
    """The mean goal over two axes; over more, means of what the others did."""
    chosen = _two_axes(result)
    if chosen is None:
        return None
    across, up = chosen
    xs, ys = ([value for value in values_of(result, axis) if value is not None] for axis in chosen)
    table = _means(result, across, up, xs, ys)
    if all(value != value for row in table for value in row):
        return None
    figure = Figure(figsize=(max(5.0, 1.8 + 0.9 * len(xs)), max(3.4, 1.5 + 0.5 * len(ys))), layout="constrained")
    plot = figure.add_subplot()
    small = FIGURES[result.study.goal].wants_small
    image = plot.imshow(table, cmap="viridis" if small else "viridis_r", aspect="auto")
    _write_numbers(plot, table, small=small)
    names = [said(x) for x in xs]
    turned: dict[str, Any] = (
        {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > LONG else {}
    )
    plot.set_xticks(range(len(xs)), names, **turned)
    plot.set_yticks(range(len(ys)), [said(y) for y in ys])
    plot.grid(visible=False)
    label_axes(plot, across.short, up.short, result)
    figure.colorbar(image, ax=plot, label=figure_label(result.study.goal))
    return figure


def _two_axes(result: StudyResult) -> tuple[Axis, Axis] | None:
    """The two that matter most, shorter names across; what concerns one model only, or is no choice, comes last."""
    axes = [axis for axis in axes_by_weight(result) if count_of(result, axis) <= MOST_CELLS]
    axes.sort(key=lambda axis: (None in values_of(result, axis), axis.name in result.study.conditions))
    if len(axes) < 2:
        return None
    across, up = sorted(axes[:2], key=lambda axis: max(len(said(value)) for value in values_of(result, axis)))
    return across, up


def _means(result: StudyResult, across: Axis, up: Axis, xs: Sequence[Any], ys: Sequence[Any]) -> list[list[float]]:
    """The mean goal of the points in each cell; NaN, which is left white, where there is none."""
    cells: dict[tuple[Any, Any], list[float]] = defaultdict(list)
    for point in whole_points(result):
        cells[point.point[across.name], point.point[up.name]].append(point.figures[result.study.goal].mean)
    return [[statistics.fmean(cells[x, y]) if (x, y) in cells else float("nan") for x in xs] for y in ys]


def _write_numbers(plot: Axes, table: Sequence[Sequence[float]], *, small: bool) -> None:
    """Each cell's mean: light letters on what is dark in this map, which is what is good."""
    known = [value for row in table for value in row if value == value]
    for row, values in enumerate(table):
        for column, value in enumerate(values):
            if value == value:
                share = (value - min(known)) / ((max(known) - min(known)) or 1.0)
                colour = "white" if (share < 0.5 if small else share > 0.5) else "black"
                plot.text(column, row, f"{value:.3f}", ha="center", va="center", color=colour, fontsize=9)
