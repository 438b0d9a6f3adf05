"""What do samples repeat? The share of their 4-grams that stand in the training text, and the share that are different ones.

100 % |      ____     stand in the training text
      |  ___/
      |_/_________    step
"""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from picolab.compare.plots import COLOURS, DASHES
from picolab.studies.plots.band import along_steps, draw_band
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
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    for row, (column, says) in enumerate(PANELS):
        plot = figure.add_subplot(2, 1, row + 1)
        for place, point in enumerate(points[:MOST_LINES]):
            xs, over = along_steps([t for t in result.finished if t.number == point.number], column)
            draw_band(
                plot, xs, over, spread=result.study.has_bands, color=COLOURS[place % len(COLOURS)],
                linestyle=DASHES[place % len(DASHES)], label=point_said(point.point),
            )  # fmt: skip
        plot.set_ylim(-0.03, 1.03)
        plot.yaxis.set_major_formatter(PercentFormatter(1.0))
        head(plot, f"4-grams of samples that {says}")
        if row == 0:
            plot.legend(fontsize=8)
    plot.set_xlabel("step")
    return figure
