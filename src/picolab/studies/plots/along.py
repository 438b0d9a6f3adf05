"""What does one setting do? A figure along the axis that matters most, a line a value of the axis that matters next.

numbers   loss |\\__        names   lstm  o|o          o a seed
               |  --\\__             gpt2     o |o      | their mean
                 lr                       loss
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from picolab.compare.plots import COLOURS, DASHES
from picolab.studies.figures import FIGURES
from picolab.studies.plots.band import draw_band
from picolab.studies.plots.chosen import axes_by_weight, count_of, values_of
from picolab.studies.plots.scales import figure_label, label_axes, scale_x, tick_label
from picolab.studies.points import said
from picolab.studies.result import StudyResult
from picolab.studies.study import Axis

MOST_LINES = 6

Line = Mapping[Any, list[float]]
"""For each value of the axis, the figure of every seed."""


def line_figure(result: StudyResult) -> Figure | None:
    """The goal along the axis that matters most; the means of all points that share a value of it and of the next axis."""
    along, by = _along_and_by(result)
    if along is None:
        return None
    wide = along.is_numeric or by is None or count_of(result, along) > 3
    figure = Figure(figsize=(7.2, 4.4 if wide else 3.4), layout="constrained")
    _draw(figure.add_subplot(), result, result.study.goal, along, by)
    return figure


def others_figure(result: StudyResult) -> Figure | None:
    """What the same settings do to the other figures asked about, one below another."""
    along, by = _along_and_by(result)
    names = [name for name in result.study.also if any(name in trial.figures for trial in result.finished)]
    if along is None or not names:
        return None
    figure = Figure(figsize=(7.2, 3.0 * len(names)), layout="constrained")
    for place, name in enumerate(names):
        _draw(figure.add_subplot(len(names), 1, place + 1), result, name, along, by, legend=place == 0)
    return figure


def _along_and_by(result: StudyResult) -> tuple[Axis | None, Axis | None]:
    """The axis to look along and the one to tell lines apart by: those that matter most; numbers are looked along."""
    axes, given = axes_by_weight(result), result.study.conditions
    chosen = [axis for axis in axes if axis.name not in given]
    along = next((axis for axis in chosen if axis.is_numeric), next(iter(chosen or axes), None))
    rest = [axis for axis in axes if axis is not along and count_of(result, axis) <= MOST_LINES]
    by = next((axis for axis in rest if axis.name in given), next(iter(rest), None))
    return along, by


def _draw(plot: Axes, result: StudyResult, name: str, along: Axis, by: Axis | None, *, legend: bool = True) -> None:
    """One figure along one axis: lines over numbers, rings and a bar over names."""
    lines = _lines(result, name, along, by)
    if along.is_numeric:
        _draw_numbers(plot, result, name, along, lines)
    else:
        _draw_names(plot, result, name, along, lines)
    if by is not None and legend:
        plot.legend()


def _lines(result: StudyResult, name: str, along: Axis, by: Axis | None) -> dict[str | None, Line]:
    """The lines by their labels: each seed's mean over the settings that have no line of their own."""
    found: dict[Any, dict[Any, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for trial in result.finished:
        x = trial.point[along.name]
        if x is not None and name in trial.figures:
            found[None if by is None else trial.point[by.name]][x][trial.seed].append(trial.figures[name])
    return {
        None if by is None else f"{by.short} {said(value)}": {
            x: [statistics.fmean(numbers) for numbers in seeds.values()] for x, seeds in places.items()
        }
        for value, places in found.items()
    }


def _draw_numbers(plot: Axes, result: StudyResult, name: str, along: Axis, lines: Mapping[str | None, Line]) -> None:
    for place, (label, line) in enumerate(lines.items()):
        xs = sorted(line)
        draw_band(
            plot, xs, [line[x] for x in xs], spread=result.study.has_bands, color=COLOURS[place % len(COLOURS)],
            marker="o", linestyle=DASHES[place % len(DASHES)], label=label,
        )  # fmt: skip
    scale_x(plot, [x for line in lines.values() for x in line])
    label_axes(plot, along.short, figure_label(name), result)
    if FIGURES[name].digits == 0:
        plot.yaxis.set_major_formatter(tick_label)


def _draw_names(plot: Axes, result: StudyResult, name: str, along: Axis, lines: Mapping[str | None, Line]) -> None:
    values = values_of(result, along)
    for place, (label, line) in enumerate(lines.items()):
        colour, shift = COLOURS[place % len(COLOURS)], (place - (len(lines) - 1) / 2) * 0.22
        shown = [(values.index(x) + shift, line[x]) for x in values if x in line]
        means = [statistics.fmean(over) for _, over in shown]
        plot.plot(means, [y for y, _ in shown], "|", markersize=16, markeredgewidth=2.5, color=colour)
        rings = [(value, y) for y, over in shown for value in over]
        plot.plot(*zip(*rings, strict=True), "o", markerfacecolor="none", markersize=4, color=colour, label=label)
    plot.set_yticks(range(len(values)), [said(value) for value in values])
    plot.set_ylim(len(values) - 0.4, -0.6)
    plot.grid(visible=True, axis="y", color="#eeeeee")
    label_axes(plot, figure_label(name).replace("\n", " "), "", result)
    if FIGURES[name].digits == 0:
        plot.xaxis.set_major_formatter(tick_label)
