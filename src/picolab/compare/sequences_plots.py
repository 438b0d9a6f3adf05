"""Pictures of what was learned of integer sequences, as PNG and SVG.

Comparison -> plots/families.png .svg     loss at every position of a text, a panel a family, the exact floor drawn
              plots/rules.png .svg        determined numbers right: trained rules, others, twice and four times the length
              plots/lengths.png .svg      seconds and memory along the length of a text, both axes logarithmic
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, LogLocator, NullLocator, PercentFormatter

from picolab.compare.plots import COLOURS, DASHES, GREY, STYLE, save_figure
from picolab.compare.result import Comparison
from picolab.compare.sequences import Sequences
from picolab.compare.sequences_words import RIGHT, judged_part
from picolab.measure.sequences import Point

FLOOR = "#111111"
PARTS = {"train": "trained", "validation": "validation", "test": "test", "2x": "2x", "4x": "4x"}
"""What parts are called along an axis, in this order."""


def draw_sequence_plots(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the pictures of a comparison on integer sequences; nothing for other data. Returns what was written."""
    written: list[Path] = []
    with rc_context(STYLE):
        if comparison.families:
            written += save_figure(families_figure(comparison), folder / "families")
            written += save_figure(rules_figure(comparison), folder / "rules")
        if comparison.lengths:
            written += save_figure(lengths_figure(comparison), folder / "lengths")
    return written


def families_figure(comparison: Comparison) -> Figure:
    """Loss along the positions of held-out documents: what no model can be below, and each model."""
    part = judged_part(comparison.families)
    families = _in_order(row.family for row in comparison.families if row.part == part)
    figure, panels = _panels(families, "nats")
    for family, axes in zip(families, panels, strict=True):
        drawn = False
        for model, look in _looks(comparison).items():
            points = _profile([one for one in comparison.sequences if one.model == model], part, family)
            if not points:
                continue
            places = [point.position + 1 for point in points]
            if not drawn:
                axes.plot(
                    places, [p.floor for p in points], color=FLOOR, linestyle=":", linewidth=2.2, label="exact floor"
                )
                drawn = True
            axes.plot(places, [p.floor + p.excess for p in points], label=model, linewidth=1.5, **look)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("number of the text")
    _legend(figure, panels, f"Loss on {_called(part)}, by position: the dotted floor is the entropy of the exact law")
    return figure


def rules_figure(comparison: Comparison) -> Figure:
    """Share of determined numbers that are right, part after part."""
    with_numbers = [row for row in comparison.families if row.accuracy is not None]
    families = _in_order(row.family for row in with_numbers)
    figure, panels = _panels(families, "determined numbers right")
    for family, axes in zip(families, panels, strict=True):
        parts = [part for part in PARTS if any(r.part == part and r.family == family for r in with_numbers)]
        for model, look in _looks(comparison).items():
            rows = {row.part: row for row in with_numbers if row.model == model and row.family == family}
            here = [(i, band) for i, part in enumerate(parts) if part in rows and (band := rows[part].accuracy)]
            axes.plot([i for i, _ in here], [b.mean for _, b in here], marker="o", markersize=4, label=model, **look)
            axes.fill_between([i for i, _ in here], [b.low for _, b in here], [b.high for _, b in here],
                              color=look["color"], alpha=0.15, linewidth=0)  # fmt: skip
        axes.axhline(RIGHT, color=FLOOR, linestyle=":", linewidth=1)
        axes.set_xticks(range(len(parts)), [PARTS[part] for part in parts], rotation=35, ha="right")
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _legend(
        figure, panels, f"Determined numbers right; dotted: {RIGHT:.0%}. 2x and 4x: numbers beyond the trained lengths"
    )
    return figure


def lengths_figure(comparison: Comparison) -> Figure:
    """Seconds to read a text and bytes to remember it, along its length."""
    figure = Figure(figsize=(7.6, 3.6))
    figure.subplots_adjust(left=0.09, right=0.985, bottom=0.15, top=0.76, wspace=0.28)
    left, right = figure.subplots(1, 2)
    looks = _looks(comparison)
    for one in comparison.lengths:
        at = [cost.length for cost in one.costs]
        for axes, values, growth in (
            (left, [cost.seconds for cost in one.costs], one.time_growth),
            (right, [cost.memory for cost in one.costs], one.memory_growth),
        ):
            power = "" if growth is None else f", grows as n^{growth:.2f}"
            axes.plot(at, values, marker="o", markersize=4, label=one.model + power, **looks[one.model])
    for axes, title, unit in ((left, "seconds to read a text", "s"), (right, "bytes to remember it", "B")):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(FixedLocator(sorted({c.length for one in comparison.lengths for c in one.costs})))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(EngFormatter(unit))
        axes.set_xlabel("tokens")
        axes.set_title(title, loc="left", fontsize=10, color=GREY)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.09), fontsize=8.5, borderaxespad=0)
    return figure


def _panels(families: Sequence[str], says: str) -> tuple[Figure, list[Axes]]:
    columns = min(3, max(1, len(families)))
    lines = -(-len(families) // columns)
    figure = Figure(figsize=(7.6, 1.1 + 2.3 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    panels = list(grid.flatten())
    for spare in panels[len(families) :]:
        spare.set_axis_off()
    for family, axes in zip(families, panels, strict=False):
        axes.set_title(family, loc="left", fontsize=10, color=GREY)
    for line in grid:
        line[0].set_ylabel(says)
    return figure, panels[: len(families)]


def _legend(figure: Figure, panels: Sequence[Axes], title: str) -> None:
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, color=GREY)
    figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=4, fontsize=9)


def _looks(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Colour and pattern of every model, as in the other pictures; the baseline is grey."""
    others = [row.model for row in comparison.rows if not row.baseline]
    looks: dict[str, dict[str, Any]] = {
        model: {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)]}
        for i, model in enumerate(others)
    }
    looks |= {row.model: {"color": GREY, "linestyle": (0, (6, 3))} for row in comparison.rows if row.baseline}
    return looks


def _profile(studies: Sequence[Sequences], part: str, family: str) -> list[Point]:
    """The mean over seeds at every position that all seeds have."""
    found = [
        {point.position: point for point in score.profile}
        for study in studies
        for one in study.parts
        if one.name == part
        for score in one.scores
        if score.family == family
    ]
    if not found:
        return []
    shared = sorted(set.intersection(*(set(points) for points in found)))
    return [
        Point(
            position=at,
            count=sum(points[at].count for points in found),
            floor=float(np.mean([points[at].floor for points in found])),
            excess=float(np.mean([points[at].excess for points in found])),
        )
        for at in shared
    ]


def _called(part: str) -> str:
    return {"test": "held-out rules (test)", "validation": "held-out rules (validation)"}.get(part, "trained rules")


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
