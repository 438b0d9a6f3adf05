"""A study in pictures: PNG and SVG, drawn from study.json alone.

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

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
)

from picolab.compare.plots import COLOURS, DASHES, GREY, STYLE, save_figure
from picolab.studies.figures import FIGURES
from picolab.studies.points import point_said, said
from picolab.studies.result import PointResult, StudyResult
from picolab.studies.study import Axis
from picolab.studies.turning import turn_of, turn_of_run

MOST_PANELS, MOST_LINES = 6, 6
MOST_CELLS = 16
MOST_TICKS = 9
LONG = 7
"""Letters of a name that fit below a cell."""


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


def line_figure(result: StudyResult) -> Figure | None:
    """The goal along the axis that matters most; the means of all points that share a value of it and of the next axis."""
    along, by = _along_and_by(result)
    if along is None:
        return None
    wide = along.is_numeric or by is None or _count(result, along) > 3
    figure = Figure(figsize=(7.2, 4.4 if wide else 3.4), layout="constrained")
    _along(figure.add_subplot(), result, result.study.goal, along, by)
    return figure


def others_figure(result: StudyResult) -> Figure | None:
    """What the same settings do to the other figures asked about, one below another."""
    along, by = _along_and_by(result)
    names = [name for name in result.study.also if any(name in trial.figures for trial in result.finished)]
    if along is None or not names:
        return None
    figure = Figure(figsize=(7.2, 3.0 * len(names)), layout="constrained")
    for place, name in enumerate(names):
        _along(figure.add_subplot(len(names), 1, place + 1), result, name, along, by, legend=place == 0)
    return figure


def _along_and_by(result: StudyResult) -> tuple[Axis | None, Axis | None]:
    """The axis to look along and the one to tell lines apart by: those that matter most; numbers are looked along."""
    axes, given = _by_weight(result), result.study.conditions
    chosen = [axis for axis in axes if axis.name not in given]
    along = next((axis for axis in chosen if axis.is_numeric), next(iter(chosen or axes), None))
    rest = [axis for axis in axes if axis is not along and _count(result, axis) <= MOST_LINES]
    by = next((axis for axis in rest if axis.name in given), next(iter(rest), None))
    return along, by


def _along(plot: Axes, result: StudyResult, name: str, along: Axis, by: Axis | None, *, legend: bool = True) -> None:
    """One figure along one axis: lines over numbers, rings and a bar over names."""
    lines: dict[Any, dict[Any, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for trial in result.finished:
        x = trial.point[along.name]
        if x is not None and name in trial.figures:
            lines[None if by is None else trial.point[by.name]][x][trial.seed].append(trial.figures[name])
    values = _values(result, along)
    for place, (value, places) in enumerate(lines.items()):
        xs = sorted(places) if along.is_numeric else [x for x in values if x in places]
        over = [[statistics.fmean(numbers) for numbers in places[x].values()] for x in xs]
        means = [statistics.fmean(one) for one in over]
        look: dict[str, Any] = {
            "color": COLOURS[place % len(COLOURS)],
            "label": None if by is None else f"{by.short} {said(value)}",
        }
        if not along.is_numeric:
            shift = (place - (len(lines) - 1) / 2) * 0.22
            at = [values.index(x) + shift for x in xs]
            plot.plot(means, at, "|", markersize=16, markeredgewidth=2.5, color=look["color"])
            rings = [(value, y) for y, one in zip(at, over, strict=True) for value in one]
            plot.plot(*zip(*rings, strict=True), "o", markerfacecolor="none", markersize=4, **look)
            continue
        plot.plot(xs, means, "o", linestyle=DASHES[place % len(DASHES)], **look)
        if result.study.has_bands:
            low, high = [min(one) for one in over], [max(one) for one in over]
            plot.fill_between(xs, low, high, color=look["color"], alpha=0.18, linewidth=0)
    says = _says(name)
    if along.is_numeric:
        _scale(plot, [x for places in lines.values() for x in places])
        _label(plot, along.short, says, result)
        if FIGURES[name].digits == 0:
            plot.yaxis.set_major_formatter(_number)
    else:
        plot.set_yticks(range(len(values)), [said(value) for value in values])
        plot.set_ylim(len(values) - 0.4, -0.6)
        plot.grid(visible=True, axis="y", color="#eeeeee")
        _label(plot, says.replace("\n", " "), "", result)
        if FIGURES[name].digits == 0:
            plot.xaxis.set_major_formatter(_number)
    if by is not None and legend:
        plot.legend()


def heatmap_figure(result: StudyResult) -> Figure | None:
    """The mean goal over two axes; over more, means of what the others did."""
    axes = [axis for axis in _by_weight(result) if _count(result, axis) <= MOST_CELLS]
    # What concerns one model only, or is no choice, comes last.
    axes.sort(key=lambda axis: (None in _values(result, axis), axis.name in result.study.conditions))
    axes = axes[:2]
    if len(axes) < 2:
        return None
    across, up = sorted(axes, key=lambda axis: max(len(said(value)) for value in _values(result, axis)))
    cells: dict[tuple[Any, Any], list[float]] = defaultdict(list)
    for point in _whole(result):
        if None not in (point.point[across.name], point.point[up.name]):
            cells[point.point[across.name], point.point[up.name]].append(point.figures[result.study.goal].mean)
    xs, ys = ([value for value in _values(result, axis) if value is not None] for axis in (across, up))
    table = [[statistics.fmean(cells[x, y]) if (x, y) in cells else float("nan") for x in xs] for y in ys]
    known = [value for row in table for value in row if value == value]
    if not known:
        return None
    figure = Figure(figsize=(max(5.0, 1.8 + 0.9 * len(xs)), max(3.4, 1.5 + 0.5 * len(ys))), layout="constrained")
    plot = figure.add_subplot()
    lower = FIGURES[result.study.goal].lower is not False
    image = plot.imshow(table, cmap="viridis" if lower else "viridis_r", aspect="auto")
    for row, values in enumerate(table):
        for column, value in enumerate(values):
            if value == value:
                # What is dark in this map is good: light letters there.
                share = (value - min(known)) / ((max(known) - min(known)) or 1.0)
                dark = share < 0.5 if lower else share > 0.5
                plot.text(
                    column,
                    row,
                    f"{value:.3f}",
                    ha="center",
                    va="center",
                    color="white" if dark else "black",
                    fontsize=9,
                )
    names = [said(x) for x in xs]
    turned: dict[str, Any] = (
        {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > LONG else {}
    )
    plot.set_xticks(range(len(xs)), names, **turned)
    plot.set_yticks(range(len(ys)), [said(y) for y in ys])
    plot.grid(visible=False)
    plot.set_xlabel(across.short)
    plot.set_ylabel(up.short)
    plot.set_title(_title(result), loc="left", fontsize=10, color=GREY)
    figure.colorbar(image, ax=plot, label=_goal(result))
    return figure


def parallel_figure(result: StudyResult) -> Figure | None:
    """Each point a line through its values, equally spaced in their order; the goal last."""
    axes, points = _varied(result), _whole(result)
    if len(axes) < 2 or len(points) < 2:
        return None
    goals = [point.figures[result.study.goal].mean for point in points]
    low, high = min(goals), max(goals)
    lower = FIGURES[result.study.goal].lower is not False
    figure = Figure(figsize=(max(5.5, 1.7 * (len(axes) + 1)), 4.2), layout="constrained")
    plot = figure.add_subplot()
    order = sorted(zip(goals, points, strict=True), key=lambda pair: pair[0], reverse=lower)
    places = {axis.name: _values(result, axis) for axis in axes}
    for goal, point in order:
        good = 1 - (goal - low) / ((high - low) or 1.0)
        good = good if lower else 1 - good
        heights = [_height(point.point[axis.name], places[axis.name]) for axis in axes]
        plot.plot(
            range(len(axes) + 1),
            [*heights, good],
            color=colormaps["cividis_r"](0.1 + 0.85 * good),
            linewidth=1 + 1.5 * good,
        )
    for place, axis in enumerate(axes):
        values = places[axis.name]
        shown = values if len(values) <= 8 else [values[0], values[len(values) // 2], values[-1]]
        for value in shown:
            plot.text(
                place, _height(value, values), f" {said(value)}", fontsize=8, va="center", color="#111111", bbox=_PAPER
            )
    for value, height in ((low, 1.0 if lower else 0.0), (high, 0.0 if lower else 1.0)):
        plot.text(len(axes), height, f" {value:.3f}", fontsize=8, va="center", color="#111111", bbox=_PAPER)
    plot.set_xticks(range(len(axes) + 1), [*(axis.short for axis in axes), result.study.goal])
    plot.set_xlim(-0.1, len(axes) + 0.3)
    plot.set_yticks([])
    plot.spines["left"].set_visible(False)
    plot.grid(visible=True, axis="x", color="#bbbbbb")
    plot.grid(visible=False, axis="y")
    plot.set_title(f"{_title(result)}; the best points are dark", loc="left", fontsize=10, color=GREY)
    return figure


def front_figure(result: StudyResult) -> Figure | None:
    """Goal against cost, and the front of each condition."""
    fronts = [finding.figures for finding in result.findings if finding.kind == "front"]
    if not fronts:
        return None
    figure, plot = _one()
    cost = result.study.cost
    whole = [point for point in _whole(result) if cost in point.figures]
    plot.plot(
        [p.figures[cost].mean for p in whole],
        [p.figures[result.study.goal].mean for p in whole],
        "o",
        color=GREY,
        alpha=0.6,
    )
    if result.study.has_bands:
        for p in whole:
            band = p.figures[result.study.goal]
            plot.plot([p.figures[cost].mean] * 2, [band.low, band.high], color=GREY, alpha=0.4, linewidth=1)
    for place, found in enumerate(fronts):
        on, given = found["points"], found["given"]
        plot.plot(
            [one["cost"] for one in on],
            [one["goal"] for one in on],
            "o",
            linestyle=DASHES[place % len(DASHES)],
            color=COLOURS[place % len(COLOURS)],
            label=f"{given}: nothing cheaper is better" if given else "nothing cheaper is better",
        )
        for number, one in enumerate(on, start=1):  # their names stand in the finding, in this order
            plot.annotate(
                str(number), (one["cost"], one["goal"]), xytext=(5, 4), textcoords="offset points", fontsize=8
            )
    plot.margins(x=0.08)
    _ratios(plot, [p.figures[cost].mean for p in whole])
    plot.legend()
    _label(plot, _says(cost).replace("\n", " ").replace(", lower is better", ""), _goal(result), result)
    return figure


def turning_figure(result: StudyResult) -> Figure | None:
    """Both losses of every point along the steps, seeds as a band, and the mean step of the turn."""
    if "turning" not in result.study.ask:
        return None
    turns = [(p, turn) for p in result.points if (turn := turn_of(p.number, result.trials)) is not None][:MOST_PANELS]
    if not turns:
        return None
    figure = Figure(figsize=(7.2, 0.6 + 2.4 * len(turns)), layout="constrained")
    for row, (point, turn) in enumerate(turns):
        plot = figure.add_subplot(len(turns), 1, row + 1)
        mine = [t for t in result.finished if t.number == point.number and turn_of_run(t) is not None]
        for column, colour, dash, label in (
            ("loss", COLOURS[1], "-", "held-out"),
            ("train_loss", COLOURS[0], "--", "training"),
        ):
            steps = [step for step in mine[0].course["step"] if step is not None]
            seen = [[t.course[column][i] for t in mine if i < len(t.course[column])] for i in range(len(steps))]
            kept = [(s, [v for v in values if v is not None]) for s, values in zip(steps, seen, strict=True)]
            kept = [(s, values) for s, values in kept if values]
            plot.plot([s for s, _ in kept], [statistics.fmean(v) for _, v in kept], dash, color=colour, label=label)
            if result.study.has_bands:
                plot.fill_between(
                    [s for s, _ in kept],
                    [min(v) for _, v in kept],
                    [max(v) for _, v in kept],
                    color=colour,
                    alpha=0.18,
                    linewidth=0,
                )
        if turn.claimed:
            plot.axvline(
                turn.step.mean, color=GREY, linestyle=":", label=f"overfitting begins: step {turn.step.mean:.0f}"
            )
        plot.set_ylabel("loss (nats a token)")
        plot.set_title(point_said(point.point), loc="left", fontsize=10, color=GREY)
        plot.legend(fontsize=8)
        if row == len(turns) - 1:
            plot.set_xlabel("step")
    return figure


def by_heart_figure(result: StudyResult) -> Figure | None:
    """Shares of the samples' 4-grams along the steps: those that stand in the training text, and those that are different ones."""
    points = [
        p for p in result.points if any(t.number == p.number and "memorised" in t.course for t in result.finished)
    ]
    if not points:
        return None
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    for row, (column, says) in enumerate(
        (("memorised", "stand in the training text"), ("distinct", "are different ones"))
    ):
        plot = figure.add_subplot(2, 1, row + 1)
        for place, point in enumerate(points[:MOST_LINES]):
            mine = [t for t in result.finished if t.number == point.number and column in t.course]
            steps = mine[0].course["step"]
            seen = [(s, [v for t in mine if (v := t.course[column][i]) is not None]) for i, s in enumerate(steps)]
            seen = [(s, values) for s, values in seen if values]
            xs = [s for s, _ in seen if s is not None]
            colour = COLOURS[place % len(COLOURS)]
            plot.plot(
                xs, [statistics.fmean(v) for _, v in seen], color=colour, linestyle=DASHES[place % len(DASHES)],
                label=point_said(point.point),
            )  # fmt: skip
            if result.study.has_bands:
                plot.fill_between(
                    xs, [min(v) for _, v in seen], [max(v) for _, v in seen], color=colour, alpha=0.18, linewidth=0
                )
        plot.set_ylim(-0.03, 1.03)
        plot.yaxis.set_major_formatter(PercentFormatter(1.0))
        plot.set_title(f"4-grams of samples that {says}", loc="left", fontsize=10, color=GREY)
        if row == 0:
            plot.legend(fontsize=8)
    plot.set_xlabel("step")
    return figure


def power_law_figure(result: StudyResult) -> Figure | None:
    """Loss against parameters, data and compute, with the fitted lines."""
    fits = [finding.figures for finding in result.findings if finding.kind == "power_law"]
    if not fits:
        return None
    figure = Figure(figsize=(7.2, 3.0 * len(fits)), layout="constrained")
    whole = [p for p in _whole(result) if {"parameters", "tokens", "flops", "loss"} <= set(p.figures)]
    for place, fit in enumerate(fits):
        plot = figure.add_subplot(len(fits), 1, place + 1)
        plot.plot(
            [p.figures[fit["x"]].mean for p in whole],
            [p.figures["loss"].mean - fit["floor"] for p in whole],
            "o",
            color=GREY,
            alpha=0.6,
        )
        ends = [fit["low"], fit["high"]]
        plot.plot(
            ends, [fit["scale"] * x ** -fit["exponent"] for x in ends], color=COLOURS[0],
            label=f"exponent {fit['exponent']:.3f} ± {fit['margin']:.3f}",
        )  # fmt: skip
        _ratios(plot, [p.figures[fit["x"]].mean for p in whole])
        plot.set_yscale("log")
        plot.yaxis.set_minor_formatter(lambda value, _: f"{value:.2g}")
        plot.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
        plot.set_xlabel(FIGURES[fit["x"]].says if fit["x"] != "flops" else "training compute (FLOP)")
        plot.set_ylabel("loss above the floor (nats)" if fit["floor_known"] else "validation loss (nats)")
        plot.legend(fontsize=8)
    return figure


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
_PAPER: Any = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5}


def _whole(result: StudyResult) -> list[PointResult]:
    return [p for p in result.points if p.status == "finished" and result.study.goal in p.figures]


def _varied(result: StudyResult) -> list[Axis]:
    return [axis for axis in result.study.axes if _count(result, axis) > 1]


def _values(result: StudyResult, axis: Axis) -> list[Any]:
    found = dict.fromkeys(p.point[axis.name] for p in _whole(result))
    return sorted(found, key=lambda v: (v is None, v)) if axis.is_numeric else list(found)


def _count(result: StudyResult, axis: Axis) -> int:
    return len([value for value in _values(result, axis) if value is not None])


def _by_weight(result: StudyResult) -> list[Axis]:
    """The axes that vary, those that matter most first, as the findings rank them; the rest in their own order."""
    ranks: dict[str, int] = {}
    for finding in result.findings:
        if finding.kind in ("effect", "share") and finding.figures["figure"] == result.study.goal:
            ranks.setdefault(finding.figures["axis"], finding.figures["rank"])
    return sorted(_varied(result), key=lambda axis: ranks.get(axis.short, len(ranks) + 1))


def _height(value: Any, values: Sequence[Any]) -> float:
    return values.index(value) / (len(values) - 1) if len(values) > 1 else 0.5


def _goal(result: StudyResult) -> str:
    return _says(result.study.goal)


def _says(name: str) -> str:
    """A figure for an axis of a plot: what, in which unit, which way is good."""
    figure = FIGURES[name]
    way = {True: ", lower is better", False: ", higher is better", None: ""}[figure.lower]
    says = "\n".join(wrap(figure.says, 32))
    return f"{says}\n({figure.unit}{way})" if figure.unit else says


def _title(result: StudyResult) -> str:
    seeds = f"{len(result.study.seeds)} seeds" if result.study.has_bands else "1 seed, no band"
    return f"{result.study.name}{', tiny' if result.study.tiny else ''}: {len(result.points)} points, {seeds}"


def _one() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    return figure, figure.add_subplot()


def _label(plot: Axes, x: str, y: str, result: StudyResult) -> None:
    plot.set_xlabel(x)
    plot.set_ylabel(y)
    plot.set_title(_title(result), loc="left", fontsize=10, color=GREY)


def _scale(plot: Axes, xs: Sequence[float]) -> None:
    """Equal ratios apart where values span more than a factor of eight; few values are their own ticks."""
    different = sorted(set(xs))
    if not xs:
        return
    if min(xs) > 0 and max(xs) / min(xs) > 8:
        _ratios(plot, xs)
    else:
        plot.xaxis.set_major_locator(MaxNLocator(nbins=8))
    if 1 < len(different) <= MOST_TICKS:
        plot.set_xticks(different)
        plot.xaxis.set_minor_locator(NullLocator())
    plot.xaxis.set_major_formatter(_number)


def _number(value: float, _: Any = None) -> str:
    """Three digits of a number: 0.002, 64, 4.1 k, 65.5 k, 1.2 M."""
    for unit, size in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _ratios(plot: Axes, xs: Sequence[float]) -> None:
    """A logarithmic axis with numbers that people read, enough of them where it is short."""
    plot.set_xscale("log")
    decades = math.log10(max(xs) / min(xs)) if xs and min(xs) > 0 else 0.0
    plot.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 3 else (1.0, 2.0, 5.0)))
    plot.xaxis.set_minor_formatter(NullFormatter())
    plot.xaxis.set_major_formatter(_number)
