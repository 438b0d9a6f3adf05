"""Where do the losses part? Both losses of every point along the steps, seeds as a band, a dotted line where overfitting begins.

held-out  \\_:_/           training  \\_:__
            : step s                   :  \\__
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from picolab.compare.plots import COLOURS, GREY
from picolab.studies.plots.band import along_steps, draw_band
from picolab.studies.plots.panels import legend_below, stacked
from picolab.studies.plots.scales import head
from picolab.studies.points import point_said
from picolab.studies.result import StudyResult
from picolab.studies.turning import Turn, turn_of, turn_of_run

MOST_PANELS = 6
CURVES = (("loss", COLOURS[1], "-", "held-out"), ("train_loss", COLOURS[0], "--", "training"))


def turning_figure(result: StudyResult) -> Figure | None:
    """A panel a point that has a turn, whether it can be claimed or not."""
    if "turning" not in result.study.ask:
        return None
    turns = [(p, turn) for p in result.points if (turn := turn_of(p.number, result.trials)) is not None]
    if not turns:
        return None
    shown = turns[:MOST_PANELS]
    figure, plots = stacked([2.5] * len(shown))
    for plot, (point, turn) in zip(plots, shown, strict=True):
        _draw(plot, result, turn)
        begins = f"overfitting begins at step {turn.step.mean:.0f}" if turn.claimed else "no turn can be claimed"
        head(plot, f"{point_said(point.point)}: {begins}")
    rest = len(turns) - len(shown)
    plots[-1].set_xlabel("step" + (f"   ({rest} more points are in the words only)" if rest else ""))
    legend_below(figure, plots[0])
    return figure


def _draw(plot: Axes, result: StudyResult, turn: Turn) -> None:
    mine = [t for t in result.finished if t.number == turn.number and turn_of_run(t) is not None]
    for column, colour, dash, label in CURVES:
        xs, over = along_steps(mine, column)
        draw_band(plot, xs, over, spread=result.study.has_bands, color=colour, linestyle=dash, label=label)
    if turn.claimed:
        plot.axvline(turn.step.mean, color=GREY, linestyle=":")
    plot.set_ylabel("loss (nats a token)")
