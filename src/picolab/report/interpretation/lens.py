"""The logit lens as pictures: the words a text would get at every depth, and at which depth the answer is found."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from picolab.compare.plots import COLOURS, GREY
from picolab.interpret import depth
from picolab.interpret.depth import Depth
from picolab.interpret.logit_lens import Lens
from picolab.interpret.texts import Texts
from picolab.models.contract import LanguageModel
from picolab.report.interpretation.exhibit import PICTURE, Exhibit, Listing, Picture, cells, legible
from picolab.text.tokenizer import Tokenizer

COLUMNS = 14
"""Tokens of the text in the picture and the table."""


def lens_exhibit(
    model: LanguageModel, tokenizer: Tokenizer | None, shown: Sequence[int], texts: Texts, *, name: str
) -> Exhibit:
    """What the model would say at every depth of the text `shown`, and over `texts` how good that is."""
    lens, depths = depth.lens_of(model, shown), depth.depths_of(model, texts)

    def spell(token: int) -> str:
        return tokenizer.token_name(token) if tokenizer is not None and token < tokenizer.vocab_size else str(token)

    words = [spell(token) for token in shown][: min(COLUMNS, lens.top.shape[1])]
    first = [[spell(int(token)) for token in row[: len(words), 0]] for row in lens.top]
    numbers = {
        "depths": depths,
        "lens": {
            "tokens": list(shown)[: lens.top.shape[1]],
            "places": lens.places,
            "top": lens.top.tolist(),
            "probs": [[[round(p, 5) for p in cell] for cell in row] for row in lens.probs.tolist()],
        },
    }
    return Exhibit(
        what="lens",
        title=f"What {name} would say halfway up",
        model=name,
        source=texts.source,
        says=tuple(depth.says(depths, len(texts))),
        listings=(_depths(depths), _words(lens, words, first)),
        pictures=(_grid(lens, words, first), _curve(depths, len(texts))),
        numbers=numbers,
    )


def _depths(depths: Sequence[Depth]) -> Listing:
    columns = ("read from", "loss (nats)", "first choice is the last")
    rows = [(depth.where(one.place), one.loss, one.agrees) for one in depths]
    return Listing(title="The answer at every depth", columns=columns, rows=cells(rows), right=columns[1:])


def _words(lens: Lens, words: Sequence[str], first: Sequence[Sequence[str]]) -> Listing:
    columns = ("token", *(depth.where(place) for place in lens.places))
    rows = [(word, *(row[t] for row in first)) for t, word in enumerate(words)]
    return Listing(title="First choice for what follows each token", columns=columns, rows=cells(rows))


def _grid(lens: Lens, words: Sequence[str], first: Sequence[Sequence[str]]) -> Picture:
    probs = lens.probs[:, : len(words), 0].numpy()
    with rc_context(PICTURE):
        figure = Figure(figsize=(1.6 + 0.82 * len(words), 1.2 + 0.36 * len(lens.places)))
        axes = figure.subplots()
        image = axes.imshow(probs, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower", interpolation="nearest")
        axes.grid(visible=False)
        axes.set_xticks(range(len(words)), [legible(word, 9) for word in words], fontsize=8)
        axes.set_yticks(range(len(lens.places)), [depth.where(place) for place in lens.places], fontsize=8)
        for y, row in enumerate(first):
            for x, word in enumerate(row):
                colour = "white" if probs[y, x] > 0.55 else "#222222"
                axes.text(x, y, legible(word, 9), ha="center", va="center", fontsize=7.5, color=colour)
        axes.set_xlabel("token read")
        figure.colorbar(image, ax=axes, pad=0.01, fraction=0.03, label="its probability")
    return Picture(
        name="lens",
        title="The first choice at every depth",
        says="A column is a token of the text, a row a depth; each cell the word the model would choose if it stopped there.",
        figure=figure,
    )


def _curve(depths: Sequence[Depth], texts: int) -> Picture:
    x = range(len(depths))
    with rc_context(PICTURE):
        figure = Figure(figsize=(8.2, 3.4))
        left, right = figure.subplots(1, 2)
        for axes, bands, label, colour in (
            (left, [one.loss for one in depths], "loss of the next token (nats)", COLOURS[0]),
            (right, [one.agrees for one in depths], "first choice is the model's last", COLOURS[1]),
        ):
            axes.errorbar(x, [b.mean for b in bands], yerr=[b.half for b in bands], marker="o", color=colour, capsize=3)
            step = max(1, len(depths) // 8)
            axes.set_xticks([*x][::step], [depth.where(one.place) for one in depths][::step], rotation=30, ha="right")
            axes.set_title(label, loc="left", fontsize=10, color=GREY)
            axes.set_ylim(bottom=0)
    return Picture(
        name="lens-depth",
        title="Where the answer is found",
        says=f"Means over {texts} texts with their 95 % intervals.",
        figure=figure,
    )
