"""How fast does the loss fall with parameters, data and compute? The fitted lines on logarithmic axes, a panel each.

loss | .                       straight on these axes: loss - floor = scale * x^-exponent
     |   '--.__
       x       '--             Kaplan et al. 2020, arXiv:2001.08361
"""

from __future__ import annotations

from matplotlib.figure import Figure

from picolab.compare.plots import COLOURS, GREY
from picolab.studies.figures import FIGURES
from picolab.studies.plots.chosen import whole_points
from picolab.studies.plots.scales import scale_by_ratios
from picolab.studies.result import StudyResult
from picolab.studies.words.power_law import NEEDED


def power_law_figure(result: StudyResult) -> Figure | None:
    """Loss against parameters, data and compute, with the fitted lines."""
    fits = [finding.figures for finding in result.findings if finding.kind == "power_law"]
    if not fits:
        return None
    figure = Figure(figsize=(7.2, 3.0 * len(fits)), layout="constrained")
    whole = [point for point in whole_points(result) if point.has(*NEEDED)]
    for place, fit in enumerate(fits):
        plot = figure.add_subplot(len(fits), 1, place + 1)
        xs = [point.figures[fit["x"]].mean for point in whole]
        plot.plot(xs, [point.figures["loss"].mean - fit["floor"] for point in whole], "o", color=GREY, alpha=0.6)
        ends = [fit["low"], fit["high"]]
        plot.plot(
            ends, [fit["scale"] * x ** -fit["exponent"] for x in ends], color=COLOURS[0],
            label=f"exponent {fit['exponent']:.3f} ± {fit['margin']:.3f}",
        )  # fmt: skip
        scale_by_ratios(plot, xs)
        plot.set_yscale("log")
        plot.yaxis.set_minor_formatter(lambda value, _: f"{value:.2g}")
        plot.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
        plot.set_xlabel(FIGURES[fit["x"]].says if fit["x"] != "flops" else "training compute (FLOP)")
        plot.set_ylabel("loss above the floor (nats)" if fit["floor_known"] else "validation loss (nats)")
        plot.legend(fontsize=8)
    return figure
