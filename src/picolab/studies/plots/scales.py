"""How do the axes of a plot read? What, in which unit, which way is good; numbers in three digits; ratios where values span much.

(nats a token, lower is better)         |----|----|----|        0.002   64   4.1 k   65.5 k
                                        1    2    5    10       equal ratios equally far apart
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import fill, wrap
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from picolab.compare.plots import GREY
from picolab.studies.figures import FIGURES, shortened
from picolab.studies.result import StudyResult

MOST_TICKS = 9
LINE = 32
"""Letters of a label that stand in one line."""
LETTERS, MARGIN = 11.5, 0.9
"""Letters of a head in an inch, and inches left of it."""

TICKS = (
    (0.6, (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0)), (1.3, (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)), (3.0, (1.0, 2.0, 5.0)),
    (math.inf, (1.0,)),
)  # fmt: skip
"""Ticks within a decade, for an axis of less than so many decades."""


def label_axes(plot: Axes, x: str, y: str, result: StudyResult) -> None:
    """Name both axes, and the study above them."""
    plot.set_xlabel(x)
    plot.set_ylabel(y)
    head(plot, title_of(result))


def head(plot: Axes, says: str) -> None:
    """A quiet line above a plot, or several where one would run off the picture."""
    figure = plot.get_figure(root=True)
    assert figure is not None
    letters = int((figure.get_size_inches()[0] - MARGIN) * LETTERS)
    plot.set_title(fill(says, letters, break_on_hyphens=False), loc="left", fontsize=10, color=GREY)


def title_of(result: StudyResult, given: str = "") -> str:
    """Which study this is, or which condition of it, and how much stands behind it."""
    seeds = f"{len(result.study.seeds)} seeds" if result.study.has_bands else "1 seed, no band"
    name = given or f"{result.study.name}{', tiny' if result.study.tiny else ''}"
    return f"{name}: {len(result.points)} points, {seeds}"


def figure_label(name: str) -> str:
    """A figure for an axis of a plot: what, in which unit, which way is good."""
    figure = FIGURES[name]
    says = "\n".join(in_equal_lines(figure.says))
    return f"{says}\n({figure.unit}{figure.way})" if figure.unit else says


def in_equal_lines(words: str) -> list[str]:
    """Words in as few lines as they need, each about as long: no last word stands alone."""
    needed = len(wrap(words, LINE))
    width = next(w for w in range(math.ceil(len(words) / needed), LINE + 1) if len(wrap(words, w)) == needed)
    return wrap(words, width)


def scale_x(plot: Axes, xs: Sequence[float]) -> None:
    """Equal ratios apart where values span more than a factor of eight; few values are their own ticks."""
    different = sorted(set(xs))
    if not xs:
        return
    if min(xs) > 0 and max(xs) / min(xs) > 8:
        scale_by_ratios(plot, xs)
    else:
        plot.xaxis.set_major_locator(MaxNLocator(nbins=8))
    if 1 < len(different) <= MOST_TICKS:
        plot.set_xticks(different)
        plot.xaxis.set_minor_locator(NullLocator())
    plot.xaxis.set_major_formatter(tick_label)


def scale_by_ratios(plot: Axes, values: Sequence[float], which: Literal["x", "y"] = "x") -> None:
    """A logarithmic axis with numbers that people read, enough of them where it is short."""
    plot.set(**{f"{which}scale": "log"})
    axis = plot.xaxis if which == "x" else plot.yaxis
    above = [value for value in values if value > 0]
    decades = math.log10(max(above) / min(above)) if above else 0.0
    within = next(steps for most, steps in TICKS if decades < most)
    axis.set_major_locator(LogLocator(subs=within))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(tick_label)


def tick_label(value: float, _: Any = None) -> str:
    """A number at a tick, as matplotlib asks for it."""
    return shortened(value)
