"""How do several plots stand on one picture, and where is said what a line means? One below another; below them all, over no data.

+---------+
|   ..--  |     the same look at the same place in every panel:
+---------+     a colour, a dash and a mark, so that colour is never needed
| --..    |
+---------+
 - lstm  -- gpt-oss
"""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from picolab.compare.plots import COLOURS, DASHES

WIDTH = 7.2
MARKS = ("o", "s", "^", "D", "v", "P", "X")
LETTERS = 84
"""Letters that a legend's line holds."""
ROW = 0.2
"""Inches that a legend's line takes."""


def stacked(heights: list[float], width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    """A figure with a plot for each height, in inches."""
    figure = Figure(figsize=(width, sum(heights)), layout=ConstrainedLayoutEngine(h_pad=0.06, hspace=0.06))
    return figure, list(figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])


def look_of(place: int) -> dict[str, Any]:
    """How the line at a place is drawn: told from its neighbours by colour, by dash and by mark."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": DASHES[place % len(DASHES)],
        "marker": MARKS[place % len(MARKS)],
    }


def legend_below(figure: Figure, plot: Axes) -> None:
    """What the lines of a plot mean, below all plots, on paper of its own; nothing where none has a name."""
    handles, labels = plot.get_legend_handles_labels()
    if labels:
        columns = min(len(labels), max(1, LETTERS // (max(map(len, labels)) + 8)))
        figure.set_figheight(figure.get_figheight() + ROW * math.ceil(len(labels) / columns))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9)
