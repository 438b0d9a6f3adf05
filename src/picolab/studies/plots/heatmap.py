"""What do two settings do together? The goal as colour and number, over the two axes that matter most.

    n_layers 2 | 2.31 | 2.25 | 2.40 |
             1 | 2.35 | 2.30 | 2.41 |        each cell a mean over seeds, and over what the other settings did
                 .001   .002   .004  lr

Each condition has a map of its own, with colours of its own: across them no cell is better than another.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from picolab.studies.figures import FIGURES
from picolab.studies.plots.chosen import axes_by_weight, by_condition, count_of, values_of, whole_points
from picolab.studies.plots.panels import stacked
from picolab.studies.plots.scales import figure_label, head, title_of
from picolab.studies.points import said
from picolab.studies.result import StudyResult
from picolab.studies.study import Axis

MOST_CELLS = 16
LONG = 7
"""Letters of a name that fit below a cell."""


def heatmap_figure(result: StudyResult) -> Figure | None:
    """The mean goal over two axes; over more, means of what the others did."""
    maps = [(given, part, *axes) for given, part in by_condition(result) if (axes := _two_axes(part)) is not None]
    if not maps:
        return None
    width = max(5.0, *(1.8 + 0.9 * count_of(part, across) for _, part, across, _ in maps))
    figure, plots = stacked([max(3.4, 1.5 + 0.5 * count_of(part, up)) for _, part, _, up in maps], width)
    for plot, (given, part, across, up) in zip(plots, maps, strict=True):
        _draw(plot, part, across, up)
        head(plot, title_of(part, given))
    return figure


def _draw(plot: Axes, result: StudyResult, across: Axis, up: Axis) -> None:
    xs, ys = ([value for value in values_of(result, axis) if value is not None] for axis in (across, up))
    table = _means(result, across, up, xs, ys)
    figure = FIGURES[result.study.goal]
    image = plot.imshow(table, cmap="viridis" if figure.wants_small else "viridis_r", aspect="auto")
    _write_numbers(plot, table, result.study.goal)
    names = [said(x) for x in xs]
    turned: dict[str, Any] = (
        {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > LONG else {}
    )
    plot.set_xticks(range(len(xs)), names, **turned)
    plot.set_yticks(range(len(ys)), [said(y) for y in ys])
    plot.grid(visible=False)
    plot.set_xlabel(across.short)
    plot.set_ylabel(up.short)
    plot.get_figure().colorbar(image, ax=plot, label=figure_label(result.study.goal))  # type: ignore[union-attr]


def _two_axes(result: StudyResult) -> tuple[Axis, Axis] | None:
    """The two that matter most, shorter names across; what concerns one model only comes last."""
    axes = [axis for axis in axes_by_weight(result) if count_of(result, axis) <= MOST_CELLS]
    axes.sort(key=lambda axis: None in values_of(result, axis))
    if len(axes) < 2:
        return None
    across, up = sorted(axes[:2], key=lambda axis: max(len(said(value)) for value in values_of(result, axis)))
    together = any(None not in (point.point[across.name], point.point[up.name]) for point in whole_points(result))
    return (across, up) if together else None


def _means(result: StudyResult, across: Axis, up: Axis, xs: Sequence[Any], ys: Sequence[Any]) -> list[list[float]]:
    """The mean goal of the points in each cell; NaN, which is left white, where there is none."""
    cells: dict[tuple[Any, Any], list[float]] = defaultdict(list)
    for point in whole_points(result):
        cells[point.point[across.name], point.point[up.name]].append(point.figures[result.study.goal].mean)
    return [[statistics.fmean(cells[x, y]) if (x, y) in cells else float("nan") for x in xs] for y in ys]


def _write_numbers(plot: Axes, table: Sequence[Sequence[float]], goal: str) -> None:
    """Each cell's mean: light letters on what is dark in this map, which is what is good."""
    figure = FIGURES[goal]
    known = [value for row in table for value in row if value == value]
    for row, values in enumerate(table):
        for column, value in enumerate(values):
            if value == value:
                share = (value - min(known)) / ((max(known) - min(known)) or 1.0)
                colour = "white" if (share < 0.5 if figure.wants_small else share > 0.5) else "black"
                plot.text(column, row, figure.brief(value), ha="center", va="center", color=colour, fontsize=9)
