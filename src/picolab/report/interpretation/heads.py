"""Heads as pictures: what pattern each has, and what is lost without it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from picolab.compare.plots import COLOURS, GREY
from picolab.interpret import causes, heads
from picolab.interpret.causes import Causes
from picolab.interpret.chance import Band
from picolab.interpret.claims import signed
from picolab.interpret.heads import PATTERNS, HeadScores
from picolab.interpret.texts import Texts
from picolab.models.contract import LanguageModel
from picolab.report.interpretation.exhibit import PICTURE, Exhibit, Listing, Picture, cells
from picolab.text.tokenizer import Tokenizer

SHOWN = 24
"""Heads in the tables and pictures, those that matter most."""


def heads_exhibit(
    model: LanguageModel,
    tokenizer: Tokenizer | None,
    texts: Texts | None,
    *,
    name: str,
    longest: int | None = None,
    seed: int = 0,
) -> Exhibit:
    """Every head's patterns on random tokens said twice, and what taking heads out costs there and on `texts`."""
    opening = () if tokenizer is None else tokenizer.opening
    vocabulary = range(model.config.vocab_size if tokenizer is None else tokenizer.vocab_size)
    words = [token for token in vocabulary if tokenizer is None or tokenizer.token_bytes(token)]
    length = min(heads.usual_length(model, longest, len(opening)), len(words))
    said_twice = heads.repeated(words, opening=opening, length=length, seed=seed)
    scores = heads.score_heads(model, said_twice, length=length)
    found = causes.causes_of(model, scores, said_twice, () if texts is None else texts.ids, seed=seed)
    said = f"{scores.rows} texts of {length} random tokens said twice"
    return Exhibit(
        what="heads",
        title=f"What each head of {name} does",
        model=name,
        source=said if texts is None else f"{said}; {texts.source}",
        says=(*heads.says(scores), *causes.says(found)),
        listings=(_patterns(scores), _effects(found)),
        pictures=(_scores_picture(scores), _effects_picture(found)),
        numbers={"scores": scores, "causes": found},
    )


def _patterns(scores: HeadScores) -> Listing:
    best = sorted(scores.heads, key=lambda head: -max(band.mean for band in head.shares.values()))[:SHOWN]
    rows: list[Sequence[object]] = [(h.name, *(h.shares[p] for p in PATTERNS), h.entropy) for h in best]
    rows.append(("spread evenly", *(f"{scores.even[p]:.3f}" for p in PATTERNS), "1.000"))
    columns = ("head", *PATTERNS, "entropy")
    return Listing(
        title="Share of a head's attention on each place, random tokens said twice",
        columns=columns,
        rows=cells(rows),
        right=columns[1:],
    )


def _effects(found: Causes) -> Listing:
    most = sorted(found.effects, key=lambda effect: -effect.second_mean.mean)[:SHOWN]
    columns = (
        "head",
        "second half, mean",
        "second half, zero",
        "first half, mean",
        "own texts, mean",
        "own texts, zero",
    )
    rows = [
        (
            e.name,
            *(
                "-" if b is None else signed(b)
                for b in (e.second_mean, e.second_zero, e.first_mean, e.data_mean, e.data_zero)
            ),
        )
        for e in most
    ]
    return Listing(
        title="Nats a token that taking a head out adds", columns=columns, rows=cells(rows), right=columns[1:]
    )


def _scores_picture(scores: HeadScores) -> Picture:
    layers = 1 + max(head.layer for head in scores.heads)
    count = 1 + max(head.head for head in scores.heads)
    with rc_context(PICTURE):
        figure = Figure(figsize=(min(11.0, 2.6 * len(PATTERNS)), max(2.6, min(9.0, 1.2 + 0.42 * layers))))
        row = figure.subplots(1, len(PATTERNS), squeeze=False)[0]
        for axes, pattern in zip(row, PATTERNS, strict=True):
            shares = np.full((layers, count), np.nan)
            for head in scores.heads:
                shares[head.layer, head.head] = head.shares[pattern].mean
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            axes.set_title(f"{pattern} (even {scores.even[pattern]:.2f})", fontsize=9, color=GREY)
            axes.grid(visible=False)
            axes.set_xticks(range(count) if count <= 16 else [])
            axes.set_yticks(range(layers) if layers <= 24 else [])
            axes.set_xlabel("head")
            if shares.size <= 96:
                for (y, x), share in np.ndenumerate(shares):
                    colour = "white" if share > 0.55 else "#333333"
                    axes.text(x, y, f"{share:.2f}", ha="center", va="center", fontsize=7, color=colour)
        row[0].set_ylabel("block")
    return Picture(
        name="heads",
        title="What each head looks at",
        says=f"The share of a head's attention there, over {scores.rows} texts of {scores.length} random tokens said twice.",
        figure=figure,
    )


def _effects_picture(found: Causes) -> Picture:
    most = sorted(found.effects, key=lambda effect: -effect.second_mean.mean)[:SHOWN]
    kinds: list[tuple[str, str, list[Band | None]]] = [
        ("what is said a second time", COLOURS[0], [effect.second_mean for effect in most]),
        ("the model's own texts", COLOURS[1], [effect.data_mean for effect in most]),
    ]
    with rc_context(PICTURE):
        figure = Figure(figsize=(7.6, min(9.0, 1.4 + 0.34 * len(most))))
        axes = figure.subplots()
        for shift, (label, colour, bands) in zip((-0.14, 0.14), kinds, strict=True):
            there = [(y + shift, band) for y, band in enumerate(bands) if band is not None]
            if there:
                axes.errorbar(
                    [band.mean for _, band in there],
                    [y for y, _ in there],
                    xerr=[band.half for _, band in there],
                    fmt="o",
                    color=colour,
                    label=label,
                    capsize=2,
                    markersize=4,
                )
        axes.axvline(0, color=GREY, linewidth=1)
        axes.set_yticks(range(len(most)), [f"head {effect.name}" for effect in most])
        axes.set_ylim(len(most) - 0.5, -0.5)
        axes.set_xlabel("nats a token that the loss rises without the head (its mean in its place)")
        axes.legend(loc="lower right")
    return Picture(
        name="heads-effects",
        title="What is lost without each head",
        says="How much the loss rises when a head's part is replaced by its mean; bars are 95 % intervals over texts.",
        figure=figure,
    )
