"""Pieces that the page of a comparison and the page of a run have in common: data for the scripts, small enough for one file.

Track -> thinned columns          Attention -> a prefix of the text that fits          Size -> parts of the model
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from picolab.compare.curves import Track, thin
from picolab.compare.result import Attention, Size
from picolab.report import figures
from picolab.report.page import Composition

POINTS = 260
"""Of a curve; more than a screen shows."""
WEIGHTS = 160_000
"""Attention weights on a page, all models together: about half a megabyte."""


def track_data(track: Track) -> dict[str, Any]:
    """A track as the page's script reads it: thinned, four decimals."""
    few = thin(track, POINTS)
    return {
        "step": few.step,
        "tokens": few.tokens,
        "seconds": [round(value, 2) for value in few.seconds],
        **{name: [round(value, 4) for value in getattr(few, name)] for name in ("mean", "low", "high")},
        "seeds": few.seeds,
    }


def attention_data(maps: Sequence[Attention]) -> tuple[dict[str, Any], ...]:
    """Attention maps as the page's script reads them; with many large models, over the beginning of the text only.

    Rows of a lower triangle lie one after the other, so the maps of the first tokens are a prefix of those of all tokens.
    """
    heads = sum(len(layer) for one in maps for layer in one.weights)
    longest = max((t for t in range(1, 1000) if heads * t * (t + 1) // 2 <= WEIGHTS), default=1)
    shown = []
    for one in maps:
        time = min(longest, len(one.tokens))
        kept = time * (time + 1) // 2
        shown.append(
            {
                "model": one.model,
                "tokens": [figures.printable(token) for token in one.tokens[:time]],
                "weights": [[head[:kept] for head in layer] for layer in one.weights],
            }
        )
    return tuple(shown)


def curve_data(name: str, colour: str, dash: str, tracks: Mapping[str, Track]) -> dict[str, Any]:
    """One model's curves as the page's script reads them."""
    return {"name": name, "colour": colour, "dash": dash, **{kind: track_data(track) for kind, track in tracks.items()}}


def line_data(kind: str, label: str, short: str, value: float, colour: str, dash: str) -> dict[str, Any]:
    """A horizontal line of the chart."""
    return {"kind": kind, "name": kind, "label": label, "short": short, "value": value, "colour": colour, "dash": dash}


def curves_data(
    models: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], uniform: float, *, seeds: int
) -> dict[str, Any]:
    """The chart's data and its caption."""
    bands = "Lines are means over seeds, bands reach from the smallest to the largest seed. " if seeds > 1 else ""
    return {
        "models": models,
        "lines": lines,
        "has_validation": any(model["validation"]["step"] for model in models),
        "caption": f"Loss in nats a token: lower is better; a uniform guess scores {uniform:.2f}. {bands}"
        "Training losses are of single batches and jump; held-out curves read a part of the split, the table all of it.",
    }


def composition(model: str, size: Size) -> Composition:
    """The parts of a model, largest first; more than six are gathered in a last one."""
    parts = sorted(size.percentages.items(), key=lambda part: -part[1])
    if len(parts) > 6:
        parts = [*parts[:5], (f"{len(parts) - 5} smaller parts", round(sum(share for _, share in parts[5:]), 1))]
    notes = []
    if size.frozen:
        notes.append(f"{figures.whole(size.trainable)} trainable, {figures.whole(size.frozen)} frozen")
    if size.buffers:
        notes.append(f"{figures.whole(size.buffers)} numbers in buffers besides")
    return Composition(
        model=model, total=f"{figures.whole(size.total)} parameters", parts=tuple(parts), note="; ".join(notes)
    )
