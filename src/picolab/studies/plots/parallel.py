"""Which settings do good points have in common? Every point a line through all axes, the goal last, the best dark.

lr       n_layers   loss
0.004 .    2 ___--- 2.25      Inselberg 1985, The plane with parallel coordinates
0.001 -----1 ------ 2.41
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure

from picolab.studies.plots.chosen import values_of, varied_axes, whole_points
from picolab.studies.plots.scales import head, title_of
from picolab.studies.points import said
from picolab.studies.result import StudyResult, best_first

MOST_VALUES = 8
"""Values written beside an axis; of more, the ends and the middle."""
PAPER: Any = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5}


def parallel_figure(result: StudyResult) -> Figure | None:
    """Each point a line through its values, equally spaced in their order; the goal last."""
    goal, axes, points = result.study.goal, varied_axes(result), whole_points(result)
    if len(axes) < 2 or len(points) < 2:
        return None
    best, worst = (best_first(points, goal)[place].figures[goal].mean for place in (0, -1))
    figure = Figure(figsize=(max(5.5, 1.7 * (len(axes) + 1)), 4.2), layout="constrained")
    plot = figure.add_subplot()
    places = {axis.name: values_of(result, axis) for axis in axes}
    for point in reversed(best_first(points, goal)):  # the best is drawn last, over all others
        good = (worst - point.figures[goal].mean) / ((worst - best) or 1.0)
        heights = [_height(point.point[axis.name], places[axis.name]) for axis in axes]
        colour = colormaps["cividis_r"](0.1 + 0.85 * good)
        plot.plot(range(len(axes) + 1), [*heights, good], color=colour, linewidth=1 + 1.5 * good)
    for place, axis in enumerate(axes):
        values = places[axis.name]
        shown = values if len(values) <= MOST_VALUES else [values[0], values[len(values) // 2], values[-1]]
        for value in shown:
            _write(plot, place, _height(value, values), said(value))
    for value, height in ((best, 1.0), (worst, 0.0)):
        _write(plot, len(axes), height, f"{value:.3f}")
    plot.set_xticks(range(len(axes) + 1), [*(axis.short for axis in axes), goal])
    plot.set_xlim(-0.1, len(axes) + 0.3)
    plot.set_yticks([])
    plot.spines["left"].set_visible(False)
    plot.grid(visible=True, axis="x", color="#bbbbbb")
    plot.grid(visible=False, axis="y")
    head(plot, f"{title_of(result)}; the best points are dark")
    return figure


def _height(value: Any, values: Sequence[Any]) -> float:
    return values.index(value) / (len(values) - 1) if len(values) > 1 else 0.5


def _write(plot: Any, place: int, height: float, says: str) -> None:
    plot.text(place, height, f" {says}", fontsize=8, va="center", color="#111111", bbox=PAPER)
