"""The embedding as pictures: the first two components, numbers joined in their order, and how much each component explains."""

from __future__ import annotations

from collections import Counter

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from picolab.compare.plots import COLOURS, GREY
from picolab.interpret import embeddings, neighbours
from picolab.interpret.embeddings import Space
from picolab.interpret.neighbours import Likeness
from picolab.interpret.texts import Texts
from picolab.models.contract import LanguageModel
from picolab.report.interpretation.exhibit import PICTURE, Exhibit, Listing, Picture, cells, legible, percent
from picolab.text.tokenizer import Tokenizer

WORDS = 400
"""Tokens of a picture of words, the most frequent; LABELLED of them by name."""
LABELLED = 48


def embeddings_exhibit(
    model: LanguageModel, tokenizer: Tokenizer, texts: Texts, *, name: str, seed: int = 0
) -> Exhibit:
    """What the tables of vectors of a model show: order of numbers, or likeness of words."""
    numbers, sentences, likenesses = embeddings.numbers_of(tokenizer), [], {}
    spaces: list[Space] = []
    counts = Counter(token for row in texts.ids for token in row if tokenizer.token_bytes(token))
    listings = []
    for table_name, table in embeddings.vectors_of(model).items():
        if numbers:
            spaces.append(embeddings.space_of_numbers(table_name, table, numbers, seed=seed))
        else:
            words = {token: tokenizer.token_name(token) for token, _ in counts.most_common(WORDS)}
            spaces.append(embeddings.space_of_words(table_name, table, words, counts, seed=seed))
            silent = frozenset(range(tokenizer.vocab_size)) - set(counts)
            likenesses[table_name] = neighbours.likeness_of(table, texts.ids, silent, seed=seed)
        sentences += embeddings.says(spaces[-1])
        if table_name in likenesses:
            sentences.append(neighbours.says(likenesses[table_name], table_name))
            listings.append(_nearest(table_name, likenesses[table_name], tokenizer))
    listings.append(_variance(spaces))
    if getattr(model.config, "tied", False):
        sentences.append("The head reads with the same table: there is no other unembedding.")
    return Exhibit(
        what="embeddings",
        title=f"How {name} stores its tokens",
        model=name,
        source=texts.source,
        says=tuple(sentences),
        listings=tuple(listings),
        pictures=tuple(_picture(space) for space in spaces),
        numbers={"spaces": spaces, "likeness": likenesses},
    )


def _nearest(name: str, likeness: Likeness, tokenizer: Tokenizer) -> Listing:
    rows = [
        (
            tokenizer.token_name(one.token),
            one.count,
            "  ".join(f"{tokenizer.token_name(token)} {cosine:.2f}" for token, cosine in one.nearest),
        )
        for one in likeness.shown
    ]
    return Listing(
        title=f"Nearest in the {name}, by cosine",
        columns=("token", "times", "nearest"),
        rows=cells(rows),
        right=("times",),
    )


def _variance(spaces: list[Space]) -> Listing:
    rows = [(space.name, *(percent(share) for share in space.components.explained[:6])) for space in spaces]
    columns = ("table", *(f"component {i + 1}" for i in range(max(len(row) for row in rows) - 1)))
    return Listing(title="Explained variance", columns=columns, rows=cells(rows), right=columns[1:])


def _picture(space: Space) -> Picture:
    ordered = space.order is not None
    with rc_context(PICTURE):
        figure = Figure(figsize=(9.6, 4.8))
        path, bars = figure.subplots(1, 2, width_ratios=(2.6, 1))
        _draw_path(figure, path, space)
        explained = [100 * share for share in space.components.explained]
        bars.bar(range(1, len(explained) + 1), explained, color=COLOURS[0])
        bars.set_xlabel("component")
        bars.xaxis.set_major_locator(MaxNLocator(integer=True))
        bars.set_ylabel("share of the variance (%)")
        bars.set_title("explained variance", loc="left", fontsize=10, color=GREY)
    what = "the numbers joined in their order" if ordered else "the most frequent tokens"
    return Picture(
        name=space.name,
        title=f"The {space.name}: {what}",
        says=f"The {space.name} along its first two components, {what}; beside it what each component explains.",
        figure=figure,
    )


def _draw_path(figure: Figure, axes: Axes, space: Space) -> None:
    places, labels = np.asarray(space.components.places), space.components.labels
    x, y = places[:, 0], places[:, 1] if places.shape[1] > 1 else np.zeros(len(places))
    axes.set_xlabel(f"component 1 ({percent(space.components.explained[0])})")
    if places.shape[1] > 1:
        axes.set_ylabel(f"component 2 ({percent(space.components.explained[1])})")
    axes.set_title(f"{space.name}, {len(labels)} tokens", loc="left", fontsize=10, color=GREY)
    if space.order is None:
        axes.scatter(x, y, s=10, color=COLOURS[0], alpha=0.35, linewidths=0)
        shown = range(min(LABELLED, len(labels)))
    else:
        axes.plot(x, y, color=GREY, linewidth=0.8, alpha=0.6)
        values = np.array([float(label) for label in labels])
        rank = np.linspace(0.0, 0.92, len(values))
        dots = axes.scatter(
            x, y, c=np.arange(len(values)), s=22, cmap=colormaps["viridis"], zorder=2, vmax=len(values) / 0.92
        )
        bar = figure.colorbar(dots, ax=axes, pad=0.01, fraction=0.04, boundaries=np.arange(len(values)))
        ticks = np.unique(np.linspace(0, len(rank) - 1, 5).round().astype(int))
        bar.set_ticks([float(i) for i in ticks], labels=[labels[i] for i in ticks])
        shown = range(0, len(labels), max(1, len(labels) // 32))
    for i in shown:
        axes.annotate(legible(labels[i]), (x[i], y[i]), xytext=(2, 2), textcoords="offset points", fontsize=7)
