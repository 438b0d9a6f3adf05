"""The pictures of a study: nothing is cut off or drawn over, no line needs its colour, nothing incomparable shares a scale."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

from picolab.compare.plots import STYLE
from picolab.studies.plots.along import line_figure
from picolab.studies.plots.heatmap import heatmap_figure
from picolab.studies.plots.panels import look_of
from picolab.studies.plots.parallel import parallel_figure
from picolab.studies.plots.pictures import PICTURES
from picolab.studies.plots.power_law import power_law_figure
from picolab.studies.plots.scales import in_equal_lines
from picolab.studies.result import StudyResult

from made_up_study import made_up, result_of, study_named

LONG = "a-study-with-a-name-that-somebody-thought-about-for-a-long-time-and-could-not-shorten"


def everything(folder: Path, name: str = LONG) -> StudyResult:
    """A study that has every picture: numbers, long names, a condition, turns, power laws, a front."""
    study = study_named(
        name,
        axes={
            "model": ["mingpt", "llama3-lite", "softmax-pico"], "d_model": [16, 64, 256], "lr": [0.0001, 0.03],
            "data": ["numeric", "stories-shipped"],
        },
        seeds=2, also=["tokens_per_second", "sample_gap"], ask=["effects", "turning", "power_law", "pareto"],
    )  # fmt: skip

    def loss(point: Mapping[str, Any], seed: int) -> float:
        return 5 - point["model.d_model"] ** 0.2 + 10 * point["optimizer.lr"] + len(point["data.spec"]) / 9 + seed / 99

    outcomes = made_up(
        study, loss, tokens_per_second=lambda p: 1e7 / p["model.d_model"], sample_gap=lambda p: p["optimizer.lr"],
        parameters=lambda p: 100.0 * p["model.d_model"], tokens=lambda p: 1e6, flops=lambda p: 6e8 * p["model.d_model"],
    )  # fmt: skip
    course: dict[str, Any] = {
        "step": (0, 1, 2, 4), "loss": (6.0, 4.0, 4.5, 5.0), "train_loss": (6.0, 4.0, 2.0, 1.0),
        "memorised": (0.0, 0.1, 0.5, 0.9), "distinct": (1.0, 0.9, 0.8, 0.7),
    }  # fmt: skip
    return result_of(study, [replace(one, course=course) for one in outcomes], folder)


def drawn(draw: Any, result: StudyResult) -> Figure:
    """A figure, laid out as a file of it would be."""
    with rc_context(STYLE):
        figure = draw(result)
        assert isinstance(figure, Figure)
        figure.draw_without_rendering()
    return figure


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    return everything(tmp_path_factory.mktemp("study"))


@pytest.mark.parametrize("name", PICTURES)
def test_no_letter_runs_off_a_picture_and_no_legend_hides_data(name: str, result: StudyResult) -> None:
    figure = drawn(PICTURES[name], result)
    paper = figure.bbox.padded(1)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip() and text.axes is not None:
            box = text.get_window_extent()
            inside = paper.x0 <= box.x0 and box.x1 <= paper.x1 and paper.y0 <= box.y0 and box.y1 <= paper.y1
            ticks = {id(label) for axis in (text.axes.xaxis, text.axes.yaxis) for label in axis.get_ticklabels("both")}
            assert inside or id(text) in ticks, (text.get_text(), box, paper)
    for legend, plot in itertools.product(figure.legends, figure.axes):
        assert not legend.get_window_extent().overlaps(plot.bbox), name
    assert not any(plot.get_legend() for plot in figure.axes)


def test_lines_are_told_apart_without_colour() -> None:
    looks = [look_of(place) for place in range(6)]
    for one, other in itertools.combinations(looks, 2):
        assert (one["linestyle"], one["marker"]) != (other["linestyle"], other["marker"])
        assert one["marker"] != other["marker"], "rings over names have no dash"


def test_losses_on_other_data_share_no_scale_of_colours(result: StudyResult, tmp_path: Path) -> None:
    """Each condition has its own map; where a condition leaves one axis to look at there is none."""
    for draw in (heatmap_figure, parallel_figure):
        heads = [
            plot.get_title("left").replace("\n", " ") for plot in drawn(draw, result).axes if plot.get_title("left")
        ]
        assert [head.partition(":")[0] for head in heads] == ["data numeric", "data stories-shipped"]
        assert all(": 18 points, 2 seeds" in head for head in heads)
    scales = [image.get_clim() for plot in drawn(heatmap_figure, result).axes for image in plot.images]
    assert len(scales) == 2 and scales[0] != scales[1]
    one = study_named(axes={"lr": [0.1, 0.2], "data": ["numeric", "stories-shipped"]}, seeds=2)
    alone = result_of(one, made_up(one, lambda p, s: p["optimizer.lr"] + s), tmp_path)
    assert heatmap_figure(alone) is None and parallel_figure(alone) is None
    assert line_figure(alone) is not None


def test_the_points_that_a_power_law_was_fitted_to_are_the_filled_ones(tmp_path: Path) -> None:
    study = study_named(axes={"d_model": [16, 64, 256], "lr": [0.1, 0.2, 0.3]}, seeds=2, ask=["power_law"])
    tokens = {0.1: 1e5, 0.2: 1e6, 0.3: 1e7}
    outcomes = made_up(
        study, lambda p, s: 9 * p["model.d_model"] ** -0.3 * tokens[p["optimizer.lr"]] ** -0.1 + s / 1e4,
        parameters=lambda p: 100.0 * p["model.d_model"], tokens=lambda p: tokens[p["optimizer.lr"]],
        flops=lambda p: 600 * p["model.d_model"] * tokens[p["optimizer.lr"]],
    )  # fmt: skip
    result = result_of(study, outcomes, tmp_path)
    figure = drawn(power_law_figure, result)
    for plot, found in zip(figure.axes, result.findings, strict=True):
        rest, fitted, line = plot.lines
        assert (rest.get_markerfacecolor(), len(fitted.get_xdata())) == ("none", found.figures["points"])  # type: ignore[arg-type]
        assert len(rest.get_xdata()) + len(fitted.get_xdata()) == 9  # type: ignore[arg-type]
        scale, exponent = found.figures["scale"], found.figures["exponent"]
        assert list(line.get_ydata()) == [scale * x**-exponent for x in line.get_xdata()]  # type: ignore[arg-type,union-attr]
    by_parameters = figure.axes[0].lines[1]
    assert sorted(by_parameters.get_xdata()) == [1600, 6400, 25600]  # type: ignore[arg-type]
    best = [min(o.figures["loss"] for o in outcomes if o.figures["parameters"] == n) for n in (1600, 6400, 25600)]
    assert [pytest.approx(y, abs=1e-3) for y in by_parameters.get_ydata()] == best  # type: ignore[union-attr]


def test_a_label_is_broken_into_lines_of_about_one_length() -> None:
    assert in_equal_lines("validation loss") == ["validation loss"]
    assert in_equal_lines("lowest validation loss on the way") == ["lowest validation", "loss on the way"]
