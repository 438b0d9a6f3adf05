"""Which settings do good points have in common? Every point a line through all axes, the goal last, the best dark.

    lr       n_layers   loss
    0.004 .    2 ___--- 2.25      Inselberg 1985, The plane with parallel coordinates
    0.001 -----1 ------ 2.41

Each condition has a picture of its own: across them no point is better than another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from picolab.studies.figures import FIGURES
from picolab.studies.plots.chosen import by_condition, values_of, varied_axes, whole_points
from picolab.studies.plots.panels import stacked
from picolab.studies.plots.scales import head, title_of
from picolab.studies.points import said
from picolab.studies.result import StudyResult, best_first

MOST_VALUES = 8
"""Values written beside an axis; of more, the ends and the middle."""
PAPER: Any = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5}


def parallel_figure(result: StudyResult) -> Figure | None:
    """Each point a line through its values, equally spaced in their order; the goal last."""
    parts = [(given, part) for given, part in by_condition(result) if len(varied_axes(part)) > 1]
    if not parts:
        return None
    width = max(5.5, *(1.7 * (len(varied_axes(part)) + 1) for _, part in parts))
    figure, plots = stacked([4.2] * len(parts), width)
    for plot, (given, part) in zip(plots, parts, strict=True):
        _draw(plot, part)
        head(plot, f"{title_of(part, given)}; the best points are dark")
    return figure


def _draw(plot: Axes, result: StudyResult) -> None:
    goal, axes = result.study.goal, varied_axes(result)
    points = best_first(whole_points(result), goal)
    best, worst = (points[place].figures[goal].mean for place in (0, -1))
    places = {axis.name: values_of(result, axis) for axis in axes}
    for point in reversed(points):  # the best is drawn last, over all others
        good = (worst - point.figures[goal].mean) / ((worst - best) or 1.0)
        heights = [_height(point.point[axis.name], places[axis.name]) for axis in axes]
        colour = colormaps["cividis_r"](0.1 + 0.85 * good)
        plot.plot(range(len(axes) + 1), [*heights, good], color=colour, linewidth=1 + 1.5 * good)
    for place, axis in enumerate(axes):
        values = places[axis.name]
        shown = values if len(values) <= MOST_VALUES else [values[0], values[len(values) // 2], values[-1]]
        for value in shown:
            _write(plot, place, _height(value, values), said(value))
    for mean, height in ((best, 1.0), (worst, 0.0)):
        _write(plot, len(axes), height, FIGURES[goal].brief(mean))
    unit = FIGURES[goal].unit
    last = goal.replace("_", " ") + (f"\n({unit})" if unit else "")
    plot.set_xticks(range(len(axes) + 1), [*(axis.short for axis in axes), last])
    plot.set_xlim(-0.1, len(axes) + 0.3)
    plot.set_yticks([])
    plot.spines["left"].set_visible(False)
    plot.grid(visible=True, axis="x", color="#bbbbbb")
    plot.grid(visible=False, axis="y")


def _height(value: Any, values: Sequence[Any]) -> float:
    return values.index(value) / (len(values) - 1) if len(values) > 1 else 0.5


def _write(plot: Axes, place: int, height: float, says: str) -> None:
    plot.text(place, height, f" {says}", fontsize=8, va="center", color="#111111", bbox=PAPER)
