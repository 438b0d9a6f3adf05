"""Attention as pictures: the map of one text for every head, and where every head looks on average, by distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from picolab.compare.plots import GREY
from picolab.interpret import attention
from picolab.interpret.attention import Looks
from picolab.interpret.chance import Numbers
from picolab.interpret.texts import Texts
from picolab.models.contract import LanguageModel
from picolab.report.interpretation.exhibit import PICTURE, Exhibit, Listing, Picture, cells, legible

MOST_TOKENS = 40
MOST_MAPS = 64
"""Heads in one picture; of a larger model the first blocks'."""

WEIGHTS = 160_000
"""Attention weights on a page: about half a megabyte."""

LEGIBLE = 24
"""Tokens that can be written beside a map."""


def attention_exhibit(
    model: LanguageModel, words: Sequence[str], shown: Sequence[int], texts: Texts, *, name: str
) -> Exhibit:
    """The map of the text `shown`, whose tokens are `words`, and the habits of every head over `texts`."""
    ids, labels = list(shown)[:MOST_TOKENS], list(words)[:MOST_TOKENS]
    maps, looks = attention.maps_of(model, ids), attention.looks_of(model, texts)
    columns = ("head", "most at", "its share", "spread evenly", "first token", "token before")
    rows = [
        (look.name, place, share, f"{looks.even[place]:.3f}", look.first, look.back[1])
        for look in looks.heads
        for place, share in [look.favourite]
    ]
    numbers = {"looks": looks, "tokens": ids, "words": labels, "maps": [np.round(one, 4).tolist() for one in maps]}
    return Exhibit(
        what="attention",
        title=f"Where {name} looks",
        model=name,
        source=texts.source,
        says=tuple(attention.says(looks)),
        listings=(Listing(title="Where each head looks", columns=columns, rows=cells(rows), right=columns[2:]),),
        pictures=(_maps(maps, labels), _habits(looks)),
        numbers=numbers,
        attention=(explorer(name, labels, maps),),
    )


def explorer(name: str, words: Sequence[str], maps: Sequence[Numbers]) -> dict[str, object]:
    """The maps as the page's explorer reads them: lower triangles in thousandths, over as much of the text as fits."""
    heads = sum(len(one) for one in maps)
    time = max((t for t in range(1, len(words) + 1) if heads * t * (t + 1) // 2 <= WEIGHTS), default=1)
    below = np.tril_indices(time)
    weights = [[np.round(1000 * head[below]).astype(int).tolist() for head in one] for one in maps]
    return {"model": name, "tokens": list(words[:time]), "weights": weights}


def _maps(maps: Sequence[Numbers], words: Sequence[str]) -> Picture:
    heads = max(len(one) for one in maps)
    layers = max(1, min(len(maps), MOST_MAPS // heads))
    side = max(1.2, min(4.2, 11 / heads))
    written = len(words) <= LEGIBLE and side > 2.5
    with rc_context(PICTURE):
        figure = Figure(
            figsize=(side * heads + (0.9 if written else 0.5), (side + (0.75 if written else 0.2)) * layers)
        )
        grid = figure.subplots(layers, heads, squeeze=False)
        for layer, one in enumerate(maps[:layers]):
            for head, weights in enumerate(one):
                axes = grid[layer][head]
                seen = np.ma.masked_where(~np.tri(len(weights), dtype=bool), weights)
                axes.imshow(seen, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1), interpolation="nearest")
                axes.set_title(f"head {layer}.{head}", fontsize=8, color=GREY)
                axes.grid(visible=False)
                axes.set_xticks([])
                axes.set_yticks([])
                if written:
                    labels = [legible(word, 10) for word in words]
                    axes.set_xticks(range(len(words)), labels, rotation=90, fontsize=6)
                    axes.set_yticks(range(len(words)), labels, fontsize=6)
    rest = f"; the first {layers} of {len(maps)} blocks" if layers < len(maps) else ""
    return Picture(
        name="attention",
        title="One text, every head",
        says=f"A row is a token that reads, a column one that is read; darker is more (square root){rest}.",
        figure=figure,
    )


def _habits(looks: Looks) -> Picture:
    places = [attention.words(i) for i in range(attention.BACK)]
    shares = np.array([[*(band.mean for band in look.back), look.first.mean] for look in looks.heads])
    few = len(looks.heads) <= MOST_MAPS
    with rc_context(PICTURE):
        figure = Figure(figsize=(8.2, min(9.0, 1.5 + 0.26 * len(looks.heads))))
        axes = figure.subplots()
        image = axes.imshow(
            shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1), aspect="auto", interpolation="nearest"
        )
        axes.grid(visible=False)
        axes.set_xticks(range(len(places) + 1), [*places, "first token"], rotation=30, ha="right", fontsize=8)
        if few:
            axes.set_yticks(range(len(looks.heads)), [f"head {look.name}" for look in looks.heads], fontsize=8)
        if shares.size <= 200:
            for y, row in enumerate(shares):
                for x, share in enumerate(row):
                    colour = "white" if share > 0.35 else "#333333"
                    axes.text(x, y, f"{share:.2f}", ha="center", va="center", fontsize=7, color=colour)
        figure.colorbar(image, ax=axes, pad=0.01, fraction=0.04)
    return Picture(
        name="attention-distance",
        title="Where each head looks on average",
        says=f"The mean share of a head's attention by distance over {looks.texts} texts of {looks.source}; the first token apart.",
        figure=figure,
    )
