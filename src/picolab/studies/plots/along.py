"""What does one setting do? A figure along the axis that matters most, a line a value of the axis that matters next.

numbers   loss |\\__        names   lstm  o|o          o a seed
               |  --\\__             gpt2     o |o      | their mean
                 lr                       loss
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from picolab.studies.figures import FIGURES
from picolab.studies.plots.band import draw_band
from picolab.studies.plots.chosen import axes_by_weight, count_of, values_of
from picolab.studies.plots.panels import legend_below, look_of, stacked
from picolab.studies.plots.scales import figure_label, head, scale_x, tick_label, title_of
from picolab.studies.points import said
from picolab.studies.result import StudyResult
from picolab.studies.study import Axis

MOST_LINES = 6

Line = Mapping[Any, list[float]]
"""For each value of the axis, the figure of every seed."""


def line_figure(result: StudyResult) -> Figure | None:
    """The goal along the axis that matters most; the means of all points that share a value of it and of the next axis."""
    along = axis_along(result)
    wide = along is not None and (along.is_numeric or count_of(result, along) > 3)
    return _draw(result, [result.study.goal], height=4.4 if wide else 3.4)


def others_figure(result: StudyResult) -> Figure | None:
    """What the same settings do to the other figures asked about, one below another."""
    names = [name for name in result.study.also if any(name in trial.figures for trial in result.finished)]
    return _draw(result, names, height=3.0)


def axis_along(result: StudyResult) -> Axis | None:
    """The axis that these pictures look along; None where nothing varies."""
    return _along_and_by(result)[0]


def _draw(result: StudyResult, names: Sequence[str], *, height: float) -> Figure | None:
    along, by = _along_and_by(result)
    if along is None or not names:
        return None
    figure, plots = stacked([height] * len(names))
    for plot, name in zip(plots, names, strict=True):
        lines = _lines(result, name, along, by)
        draw = _draw_numbers if along.is_numeric else _draw_names
        draw(plot, result, name, along, lines)
    head(plots[0], title_of(result))
    if along.is_numeric:
        plots[-1].set_xlabel(along.short)
    legend_below(figure, plots[0])
    return figure


def _along_and_by(result: StudyResult) -> tuple[Axis | None, Axis | None]:
    """The axis to look along and the one to tell lines apart by: those that matter most; numbers are looked along."""
    axes, given = axes_by_weight(result), result.study.conditions
    chosen = [axis for axis in axes if axis.name not in given]
    along = next((axis for axis in chosen if axis.is_numeric), next(iter(chosen or axes), None))
    rest = [axis for axis in axes if axis is not along and count_of(result, axis) <= MOST_LINES]
    by = next((axis for axis in rest if axis.name in given), next(iter(rest), None))
    return along, by


def _lines(result: StudyResult, name: str, along: Axis, by: Axis | None) -> dict[str, Line]:
    """The lines by their labels: each seed's mean over the settings that have no line of their own."""
    found: dict[Any, dict[Any, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for trial in result.finished:
        x = trial.point[along.name]
        if x is not None and name in trial.figures:
            found[None if by is None else trial.point[by.name]][x][trial.seed].append(trial.figures[name])
    return {
        "" if by is None else f"{by.short} {said(value)}": {
            x: [statistics.fmean(numbers) for numbers in seeds.values()] for x, seeds in places.items()
        }
        for value, places in found.items()
    }


def _draw_numbers(plot: Axes, result: StudyResult, name: str, along: Axis, lines: Mapping[str, Line]) -> None:
    for place, (label, line) in enumerate(lines.items()):
        xs = sorted(line)
        over = [line[x] for x in xs]
        draw_band(plot, xs, over, spread=result.study.has_bands, label=label, **look_of(place))
    scale_x(plot, [x for line in lines.values() for x in line])
    plot.set_ylabel(figure_label(name))
    if FIGURES[name].digits == 0:
        plot.yaxis.set_major_formatter(tick_label)


def _draw_names(plot: Axes, result: StudyResult, name: str, along: Axis, lines: Mapping[str, Line]) -> None:
    values = values_of(result, along)
    for place, (label, line) in enumerate(lines.items()):
        look, shift = look_of(place) | {"linestyle": "none"}, (place - (len(lines) - 1) / 2) * 0.22
        shown = [(values.index(x) + shift, line[x]) for x in values if x in line]
        means = [statistics.fmean(over) for _, over in shown]
        plot.plot(means, [y for y, _ in shown], "|", markersize=16, markeredgewidth=2.5, color=look["color"])
        rings = [(value, y) for y, over in shown for value in over]
        plot.plot(*zip(*rings, strict=True), markerfacecolor="none", markersize=5, label=label, **look)
    plot.set_yticks(range(len(values)), [said(value) for value in values])
    plot.set_ylim(len(values) - 0.4, -0.6)
    plot.grid(visible=True, axis="y", color="#eeeeee")
    plot.set_xlabel(figure_label(name).replace("\n", " "))
    if FIGURES[name].digits == 0:
        plot.xaxis.set_major_formatter(tick_label)
