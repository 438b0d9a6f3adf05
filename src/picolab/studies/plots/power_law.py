"""How fast does the loss fall with parameters, data and compute? The fitted lines on logarithmic axes, a panel each.

loss | o                       straight on these axes: loss - floor = scale * x^-exponent
     | . '--o__                o fitted        . not asked here, because something else holds its loss up
       x       '--o            Kaplan et al. 2020, arXiv:2001.08361
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from picolab.compare.plots import COLOURS, GREY
from picolab.studies.figures import FIGURES
from picolab.studies.plots.chosen import by_condition, whole_points
from picolab.studies.plots.panels import stacked
from picolab.studies.plots.scales import head, scale_by_ratios
from picolab.studies.result import StudyResult
from picolab.studies.words.power_law import NEEDED, fitted_points


def power_law_figure(result: StudyResult) -> Figure | None:
    """Loss against parameters, data and compute, with the fitted lines and the points that they were fitted to."""
    fits = [
        (given, part, found.figures)
        for given, part in by_condition(result)
        for found in part.findings
        if found.kind == "power_law"
    ]
    if not fits:
        return None
    figure, plots = stacked([3.0] * len(fits))
    for plot, (given, part, fit) in zip(plots, fits, strict=True):
        _draw(plot, part, fit)
        says = f"exponent {fit['exponent']:.3f} ± {fit['margin']:.3f}, fitted to the {fit['points']} filled points"
        head(plot, f"{given}: {says}" if given else says)
    return figure


def _draw(plot: Axes, result: StudyResult, fit: Mapping[str, Any]) -> None:
    name, floor = fit["x"], fit["floor"]
    fitted = fitted_points(result.points)[name]
    rest = [point for point in whole_points(result) if point.has(*NEEDED) and point not in fitted]
    for points, colour, inside in ((rest, GREY, "none"), (fitted, COLOURS[0], COLOURS[0])):
        xs = [point.figures[name].mean for point in points]
        ys = [point.figures["loss"].mean - floor for point in points]
        plot.plot(xs, ys, "o", color=colour, markerfacecolor=inside)
    ends = [fit["low"], fit["high"]]
    plot.plot(ends, [fit["scale"] * x ** -fit["exponent"] for x in ends], color=COLOURS[0])
    shown = [*rest, *fitted]
    scale_by_ratios(plot, [point.figures[name].mean for point in shown])
    scale_by_ratios(plot, [point.figures["loss"].mean - floor for point in shown], "y")
    plot.set_xlabel(FIGURES[name].says if name != "flops" else "training compute (FLOP)")
    plot.set_ylabel("loss above the floor\n(nats a token)" if fit["floor_known"] else "validation loss\n(nats a token)")
