"""What do samples repeat? The share of their 4-grams that stand in the training text, and the share that are different ones.

100 % |      ____     stand in the training text
      |  ___/
      |_/_________    step
"""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from picolab.studies.plots.band import along_steps, draw_band
from picolab.studies.plots.panels import legend_below, look_of, stacked
from picolab.studies.plots.scales import head
from picolab.studies.points import point_said
from picolab.studies.result import StudyResult

MOST_LINES = 6
PANELS = (("memorised", "stand in the training text"), ("distinct", "are different ones"))


def by_heart_figure(result: StudyResult) -> Figure | None:
    """Both shares along the steps, a line a point."""
    measured = {t.number for t in result.finished if "memorised" in t.course}
    points = [point for point in result.points if point.number in measured]
    if not points:
        return None
    figure, plots = stacked([2.7] * len(PANELS))
    for plot, (column, says) in zip(plots, PANELS, strict=True):
        for place, point in enumerate(points[:MOST_LINES]):
            xs, over = along_steps([t for t in result.finished if t.number == point.number], column)
            look = look_of(place) | {"marker": None}
            draw_band(plot, xs, over, spread=result.study.has_bands, label=point_said(point.point), **look)
        plot.set_ylim(-0.03, 1.03)
        plot.yaxis.set_major_formatter(PercentFormatter(1.0))
        head(plot, f"4-grams of samples that {says}")
    rest = len(points) - MOST_LINES
    plots[-1].set_xlabel("step" + (f"   ({rest} more points are in the words only)" if rest > 0 else ""))
    legend_below(figure, plots[0])
    return figure
