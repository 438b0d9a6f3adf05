"""Neurons as pictures: how selective they are, and what the most selective ones do for each kind of text."""

from __future__ import annotations

import copy

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

from picolab.compare.plots import COLOURS, GREY
from picolab.interpret import neurons
from picolab.interpret.chance import CLEAR
from picolab.interpret.neurons import Neuron, Neurons
from picolab.interpret.texts import Texts
from picolab.models.contract import LanguageModel
from picolab.report.interpretation.exhibit import PICTURE, Exhibit, Listing, Picture, cells, legible
from picolab.text.tokenizer import Tokenizer
from picolab.zoo import build, settings_of

LARGEST_TWIN = 50_000_000
"""Parameters up to which the architecture with random weights is asked beside the model."""


def neurons_exhibit(model: LanguageModel, tokenizer: Tokenizer, texts: Texts, *, name: str, seed: int = 0) -> Exhibit:
    """Which neurons answer to which kind of text, what they are strongest at, which are dead."""
    untrained, notes = _twin(model, seed)
    found = neurons.neurons_of(model, texts, untrained=untrained, seed=seed)
    return Exhibit(
        what="neurons",
        title=f"What the neurons of {name} answer to",
        model=name,
        source=texts.source,
        says=tuple(neurons.says(found)),
        listings=(_top(found), _contexts(found, tokenizer)),
        pictures=(_picture(found),),
        numbers={"neurons": found},
        notes=notes,
    )


def _twin(model: LanguageModel, seed: int) -> tuple[LanguageModel | None, tuple[str, ...]]:
    """The same architecture with random weights, if it is small."""
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > LARGEST_TWIN:
        return None, (f"With {count:,} parameters no twin with random weights was made to compare with.",)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        twin = build(model.architecture, copy.deepcopy(settings_of(model)))
    return twin.to(model.device).eval(), ()


def _top(found: Neurons) -> Listing:
    columns = ("neuron", "selectivity", "q", "strongest for", *found.groups)
    rows = [
        (one.name, f"{one.selectivity:.2f}", f"{one.q:.3f}", one.group, *(f"{mean:.3f}" for mean in one.means))
        for one in found.top
    ]
    right = tuple(column for column in columns if column not in ("neuron", "strongest for"))
    return Listing(
        title="The most selective neurons, mean activation by kind", columns=columns, rows=cells(rows), right=right
    )


def _contexts(found: Neurons, tokenizer: Tokenizer) -> Listing:
    rows = []
    for one in found.top:
        for context in one.contexts:
            before, token, after = (
                tokenizer.decode(part).replace("\n", "⏎")
                for part in (
                    context.tokens[: context.at],
                    context.tokens[context.at : context.at + 1],
                    context.tokens[context.at + 1 :],
                )
            )
            name = tokenizer.token_name(context.tokens[context.at]) if not token else token.strip()
            rows.append(
                (
                    one.name,
                    f"{context.activation:.2f}",
                    context.group,
                    f"{before.strip()} [{name}] {after.strip()}".strip(),
                )
            )
    return Listing(
        title="Where they are strongest; the token itself in brackets",
        columns=("neuron", "activation", "kind", "text"),
        rows=cells(rows),
        right=("activation",),
    )


def _picture(found: Neurons) -> Picture:
    with rc_context(PICTURE):
        figure = Figure(figsize=(9.6, 4.2))
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        values, clear = np.asarray(found.selectivity), np.asarray(found.q) < CLEAR
        edges = np.linspace(0, max(0.05, float(values.max()) * 1.02), 31)
        parts = [values[~clear], values[clear]]
        left.hist(
            parts, bins=edges.tolist(), stacked=True, color=["#b9bdc2", COLOURS[0]], label=["q ≥ 0.05", "q < 0.05"]
        )
        left.axvline(
            float(np.median(values)), color=COLOURS[0], linestyle="--", label=f"median {np.median(values):.2f}"
        )
        if found.random is not None:
            left.axvline(found.random, color=GREY, linestyle=":", label=f"random weights {found.random:.2f}")
        left.set_xlabel("share of the variance over texts that lies between kinds")
        left.set_ylabel("neurons")
        left.set_title(f"{found.count} neurons, {found.texts} texts", loc="left", fontsize=10, color=GREY)
        left.legend(fontsize=8)
        means = np.array([_standard(one) for one in found.top])
        image = right.imshow(means, cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto", interpolation="nearest")
        right.grid(visible=False)
        right.set_xticks(
            range(len(found.groups)),
            [legible(group, 18) for group in found.groups],
            rotation=30,
            ha="right",
            fontsize=8,
        )
        right.set_yticks(range(len(found.top)), [one.name for one in found.top], fontsize=8)
        right.set_title("the most selective, by kind", loc="left", fontsize=10, color=GREY)
        figure.colorbar(image, ax=right, pad=0.02, fraction=0.05, label="mean, in spreads of the kinds")
    return Picture(
        name="neurons",
        title="How selective the neurons are",
        says="Left: how much of each neuron's variance lies between kinds of text. Right: the most selective.",
        figure=figure,
    )


def _standard(one: Neuron) -> list[float]:
    values = np.asarray(one.means)
    return ((values - values.mean()) / (float(values.std()) or 1.0)).tolist()
