"""How do the axes of a plot read? What, in which unit, which way is good; numbers in three digits; ratios where values span much.

(nats a token, lower is better)         |----|----|----|        0.002   64   4.1 k   65.5 k
                                        1    2    5    10       equal ratios equally far apart
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from picolab.compare.plots import GREY
from picolab.studies.figures import FIGURES, shortened
from picolab.studies.result import StudyResult

MOST_TICKS = 9


def label_axes(plot: Axes, x: str, y: str, result: StudyResult) -> None:
    """Name both axes, and the study above them."""
    plot.set_xlabel(x)
    plot.set_ylabel(y)
    head(plot, title_of(result))


def head(plot: Axes, says: str) -> None:
    """A quiet line above a plot."""
    plot.set_title(says, loc="left", fontsize=10, color=GREY)


def title_of(result: StudyResult) -> str:
    """Which study this is, and how much stands behind it."""
    seeds = f"{len(result.study.seeds)} seeds" if result.study.has_bands else "1 seed, no band"
    return f"{result.study.name}{', tiny' if result.study.tiny else ''}: {len(result.points)} points, {seeds}"


def figure_label(name: str) -> str:
    """A figure for an axis of a plot: what, in which unit, which way is good."""
    figure = FIGURES[name]
    says = "\n".join(wrap(figure.says, 32))
    return f"{says}\n({figure.unit}{figure.way})" if figure.unit else says


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


def scale_by_ratios(plot: Axes, xs: Sequence[float]) -> None:
    """A logarithmic axis with numbers that people read, enough of them where it is short."""
    plot.set_xscale("log")
    decades = math.log10(max(xs) / min(xs)) if xs and min(xs) > 0 else 0.0
    plot.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 3 else (1.0, 2.0, 5.0)))
    plot.xaxis.set_minor_formatter(NullFormatter())
    plot.xaxis.set_major_formatter(tick_label)


def tick_label(value: float, _: Any = None) -> str:
    """A number at a tick, as matplotlib asks for it."""
    return shortened(value)
