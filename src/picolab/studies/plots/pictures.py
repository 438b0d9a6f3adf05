"""Which pictures has a study? Each as PNG and SVG, under the name of its question.

    turning.png    both losses along the steps, and the step where they part
    by-heart.png   what share of samples stands in the training text, along the steps
    line.png       the goal along the axis that matters most, a line a value of the one that matters next, a band from seed to seed
    others.png     the same of the other figures that were asked about
    heatmap.png    the two axes that matter most, the goal as colour and number
    parallel.png   every point as a line through all axes, the best dark
    front.png      goal against cost, the points worth their price joined
    power-law.png  the fitted lines on logarithmic axes

One seed has no band: none is drawn. A picture whose data are not there is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from picolab.compare.plots import STYLE, save_figure
from picolab.studies.plots.along import line_figure, others_figure
from picolab.studies.plots.by_heart import by_heart_figure
from picolab.studies.plots.front import front_figure
from picolab.studies.plots.heatmap import heatmap_figure
from picolab.studies.plots.parallel import parallel_figure
from picolab.studies.plots.power_law import power_law_figure
from picolab.studies.plots.turning import turning_figure
from picolab.studies.result import StudyResult


def draw_plots(result: StudyResult, folder: Path) -> list[Path]:
    """Write all pictures into a folder. Returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    with rc_context(STYLE):
        for name, draw in PICTURES.items():
            figure = draw(result)
            if figure is not None:
                written += save_figure(figure, folder / name)
    return written


PICTURES: dict[str, Callable[[StudyResult], Figure | None]] = {
    "turning": turning_figure,
    "by-heart": by_heart_figure,
    "line": line_figure,
    "others": others_figure,
    "heatmap": heatmap_figure,
    "parallel": parallel_figure,
    "front": front_figure,
    "power-law": power_law_figure,
}
