"""What does the cost buy? Every point, its seeds' spread, and the points that no cheaper one beats, joined and numbered.

loss | 1--.
     |  '--2---.        . beaten        the numbers are those of the sentence
     |    .   '-3
       compute
"""

from __future__ import annotations

from matplotlib.figure import Figure

from picolab.compare.plots import GREY
from picolab.studies.figures import FIGURES
from picolab.studies.plots.chosen import whole_points
from picolab.studies.plots.panels import legend_below, look_of, stacked
from picolab.studies.plots.scales import figure_label, label_axes, scale_by_ratios, tick_label
from picolab.studies.result import StudyResult


def front_figure(result: StudyResult) -> Figure | None:
    """Goal against cost, and the front of each condition."""
    fronts = [finding.figures for finding in result.findings if finding.kind == "front"]
    if not fronts:
        return None
    figure, (plot,) = stacked([4.4])
    goal, cost = result.study.goal, result.study.cost
    whole = [point for point in whole_points(result) if cost in point.figures]
    costs = [point.figures[cost].mean for point in whole]
    plot.plot(costs, [point.figures[goal].mean for point in whole], "o", color=GREY, alpha=0.6)
    if result.study.has_bands:
        for x, point in zip(costs, whole, strict=True):
            band = point.figures[goal]
            plot.plot([x, x], [band.low, band.high], color=GREY, alpha=0.4, linewidth=1)
    for place, found in enumerate(fronts):
        on, given = found["points"], found["given"]
        says = f"{given}: nothing cheaper is better" if given else "nothing cheaper is better"
        plot.plot([one["cost"] for one in on], [one["goal"] for one in on], label=says, **look_of(place))
        for number, one in enumerate(on, start=1):  # their names stand in the finding, in this order
            at = (one["cost"], one["goal"])
            plot.annotate(str(number), at, xytext=(5, 4), textcoords="offset points", fontsize=8)
    plot.margins(x=0.08)
    scale_by_ratios(plot, costs)
    if FIGURES[goal].digits == 0:
        plot.yaxis.set_major_formatter(tick_label)
    legend_below(figure, plot)
    paid = figure_label(cost).replace("\n", " ").replace(FIGURES[cost].way, "")
    label_axes(plot, paid, figure_label(goal), result)
    return figure
