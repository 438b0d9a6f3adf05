"""Pictures for papers and slides: the loss curves and the final losses, as PNG and SVG.

Comparison -> plots/loss.png .svg         held-out loss along the tokens, mean and band, baseline and floor
              plots/loss-log.png .svg     the same on a logarithmic token axis
              plots/training-loss.png .svg
              plots/final.png .svg        where each model ended, seeds as points
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from picolab.compare.curves import Track, thin
from picolab.compare.result import Comparison, Setup, tracks_of

# Okabe and Ito 2008: told apart by every kind of colour vision; the two lightest are left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7A5C00", "#56B4E9", "#333333")
DASHES = ("-", "--", ":", "-.", (0, (8, 2)))
GREY = "#6a6f76"
STYLE: Any = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e6e3dc",
    "axes.axisbelow": True, "legend.frameon": False, "svg.fonttype": "none", "svg.hashsalt": "picolab", "figure.dpi": 100,
}  # fmt: skip


def draw_plots(comparison: Comparison, folder: Path) -> list[Path]:
    """Write all pictures into a folder; those without data are left out. Returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds: tuple[tuple[str, Literal["train", "validation"], bool], ...] = (
        ("loss", "validation", False), ("loss-log", "validation", True), ("training-loss", "train", False),
    )  # fmt: skip
    written: list[Path] = []
    with rc_context(STYLE):
        for name, kind, log_x in kinds:
            tracks = tracks_of(comparison, kind)
            if any(len(track) > 1 for track in tracks.values()):
                written += save_figure(curves_figure(tracks, comparison, kind=kind, log_x=log_x), folder / name)
        if any(row.loss for row in comparison.rows):
            written += save_figure(final_figure(comparison), folder / "final")
    return written


def curves_figure(
    tracks: dict[str, Track], comparison: Comparison, *, kind: Literal["train", "validation"], log_x: bool
) -> Figure:
    """Loss along the tokens: a line a model, a band from its smallest to its largest seed."""
    figure = Figure(figsize=(7.2, 4.4))
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.12, top=0.92)
    axes = figure.add_subplot()
    for i, (model, track) in enumerate(tracks.items()):
        few, colour = thin(track, 400), COLOURS[i % len(COLOURS)]
        start = 1 if log_x and few.tokens[0] == 0 else 0  # no logarithm of the untrained model's place
        tokens = few.tokens[start:]
        axes.plot(tokens, few.mean[start:], color=colour, linestyle=DASHES[i % len(DASHES)], label=model, linewidth=1.8)
        if few.seeds > 1:
            axes.fill_between(tokens, few.low[start:], few.high[start:], color=colour, alpha=0.18, linewidth=0)
    _lines(axes, comparison, across=False)
    if log_x:
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlabel("tokens trained on")
    axes.set_ylabel(f"{'training' if kind == 'train' else 'held-out'} loss (nats a token, lower is better)")
    axes.set_title(_title(comparison.setup), loc="left", fontsize=10, color=GREY)
    axes.legend()
    return figure


def final_figure(comparison: Comparison) -> Figure:
    """Where each model ended: every seed a ring, the mean a bar."""
    rows = [row for row in comparison.rows if row.loss is not None]
    height = 1.2 + 0.42 * len(rows)
    figure = Figure(figsize=(7.2, height))
    longest = max(len(row.model) for row in rows)
    figure.subplots_adjust(left=0.03 + 0.0122 * longest, right=0.98, bottom=0.55 / height, top=1 - 0.35 / height)
    axes = figure.add_subplot()
    others = [row.model for row in rows if not row.baseline]
    for y, row in enumerate(rows):
        colour = GREY if row.baseline else COLOURS[others.index(row.model) % len(COLOURS)]
        losses: Sequence[float] = list(row.losses.values())
        axes.plot(losses, [y] * len(losses), "o", markerfacecolor="none", color=colour)
        axes.plot([sum(losses) / len(losses)], [y], "|", color=colour, markersize=18, markeredgewidth=2.5)
    _lines(axes, comparison, across=True)
    axes.set_yticks(range(len(rows)), [row.model for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("held-out loss (nats a token, lower is better)")
    axes.set_title(_title(comparison.setup), loc="left", fontsize=10, color=GREY)
    return figure


def _lines(axes: Axes, comparison: Comparison, *, across: bool) -> None:
    draw = axes.axvline if across else axes.axhline
    if comparison.baseline is not None and comparison.baseline.loss is not None:
        mean = comparison.baseline.loss.mean
        draw(
            mean,
            color=GREY,
            linestyle=(0, (6, 3)),
            linewidth=1.2,
            label=f"{comparison.baseline.model} baseline {mean:.2f}",
        )
    if comparison.setup.floor is not None:
        draw(
            comparison.setup.floor,
            color="#111111",
            linestyle=":",
            linewidth=1.5,
            label=f"exact floor {comparison.setup.floor:.2f}",
        )


def _title(setup: Setup) -> str:
    seeds = f"{len(setup.seeds)} seeds" if len(setup.seeds) > 1 else "1 seed"
    return f"{setup.data}, {setup.tokens:,} tokens a model, {seeds}; a uniform guess scores {setup.uniform:.2f}"


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and SVG; the same figure gives the same bytes."""
    written = []
    for suffix, options in ((".png", {"dpi": 150}), (".svg", {"metadata": {"Date": None}})):
        figure.savefig(path.with_suffix(suffix), **options)
        written.append(path.with_suffix(suffix))
    return written
