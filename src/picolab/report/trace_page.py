"""The page of a trace: one pass, forward and backward, every number of it under the reader's hand.

    Narration + Recording -> the text | the pass, step by step, on a drawing of its block | where it looks | what it would say
                             halfway up | the same in words

Everything shown was recorded; nothing is computed by the page but positions and colours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from picolab.interpret.logit_lens import logit_lens
from picolab.models.contract import LanguageModel
from picolab.report import figures
from picolab.report.narration.step import Narration, Section, Step
from picolab.report.page import SCRIPTS, STYLES, Fact, render
from picolab.runs import atomic
from picolab.trace.recording import PREFILL, Recording
from picolab.trace.sites import GRAD, known, layer_of
from picolab.trace.statistics import statistics_of

MOST_TOKENS = 48
"""Tokens whose own numbers are on the page; of a longer text, the first."""

LANES = 6
"""Lanes of every value shown for the chosen token."""

WEIGHTS = 160_000
"""Attention weights on the page: about half a megabyte."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TracePage:
    """What the page shows; `data` and `attention` are for its scripts."""

    kind: str
    title: str
    lead: str
    facts: tuple[Fact, ...]
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]
    data: Mapping[str, Any]
    attention: tuple[Mapping[str, Any], ...]
    command: str
    made: str
    names: tuple[str, ...] = ()


def write_trace_page(
    narration: Narration,
    recording: Recording,
    path: Path,
    *,
    model: LanguageModel | None = None,
    losses: Tensor | None = None,
    command: str = "",
    made: str = "",
) -> Path:
    """Write the page of one narrated pass. With a `model` here it has a logit lens; `losses` `(1, time)` shade the text."""
    page = trace_page(narration, recording, model=model, losses=losses, command=command, made=made)
    with atomic.reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    styles, scripts = (*STYLES, "trace.css"), (*SCRIPTS, "trace.js")
    atomic.write_text(path, render(page, "trace.html.j2", styles=styles, scripts=scripts))
    return path


def trace_page(
    narration: Narration,
    recording: Recording,
    *,
    model: LanguageModel | None = None,
    losses: Tensor | None = None,
    command: str = "",
    made: str = "",
) -> TracePage:
    """The page as data."""
    words = [word.piece for word in narration.words][:MOST_TOKENS]
    return TracePage(
        kind="trace",
        title=f"One pass through {narration.model}",
        lead=_lead(narration),
        facts=_facts(narration, recording, losses),
        warnings=narration.notes,
        sections=narration.sections,
        data={
            "words": words,
            "followed": min(narration.followed, len(words) - 1),
            "losses": None if losses is None else _numbers(losses[0, : len(words)]),
            "sites": _sites(narration, recording, len(words)),
            "lens": _lens(model, recording, narration, len(words)),
        },
        attention=_attention(narration, recording, words),
        command=command,
        made=made,
    )


def _lead(narration: Narration) -> str:
    count = len(narration.words)
    return f"{count} tokens go up through the model to a loss, and the loss goes back down as gradients: every number is here."


def _facts(narration: Narration, recording: Recording, losses: Tensor | None) -> tuple[Fact, ...]:
    layers = {layer for site in recording.sites if (layer := layer_of(site)) is not None}
    forward = [site for site in recording.sites if not site.startswith(GRAD)]
    facts = [
        Fact(label="Engine", value=narration.engine.split(" ")[0], note=narration.engine),
        Fact(label="Architecture", value=narration.architecture, note=f"{len(layers)} blocks"),
        Fact(label="Tokens", value=str(len(narration.words)), note="read in one pass"),
        Fact(label="Places", value=str(len(forward)), note="recorded on the way"),
    ]
    if losses is not None:
        mean = float(losses.float().mean())
        facts.append(
            Fact(label="Loss", value=figures.loss(mean), note=f"as unsure as among {math.exp(mean):.1f} words")
        )
    return tuple(facts)


def _sites(narration: Narration, recording: Recording, time: int) -> list[dict[str, Any]]:
    """Every place of the forward pass in order, with its numbers, its gradient's, and what the narration says of it."""
    told: dict[str, tuple[Section, Step]] = {
        step.site: (section, step) for section in narration.sections for step in section.steps if step.site
    }
    rows = []
    for entry in recording.entries:
        if entry.phase != PREFILL or entry.step or entry.kept is None or entry.site.startswith(GRAD):
            continue
        kind = known(entry.site)
        section_step = told.get(entry.site)
        gradient = GRAD + entry.site
        rows.append(
            {
                "site": entry.site,
                "block": layer_of(entry.site),
                "place": entry.site if layer_of(entry.site) is None else entry.site.split(".", 2)[2],
                "dims": entry.dims or "",
                "what": kind.says if kind else "",
                "value": _value(entry.value, entry.dims, time),
                "gradient": _value(recording[gradient], entry.dims, time) if gradient in recording else None,
                "step": None if section_step is None else _step(section_step[1]),
            }
        )
    return rows


def _step(step: Step) -> dict[str, Any]:
    return {
        "title": step.title,
        "says": step.says,
        "formula": step.formula or "",
        "source": str(step.source) if step.source else "",
    }


def _value(value: Tensor, dims: str | None, time: int) -> dict[str, Any]:
    """Statistics of a value, its size at every token, and a few numbers of each token's."""
    value = value.detach().float().cpu()
    whole = statistics_of(value)
    axes = (dims or "").split()
    at = axes.index("time") if "time" in axes and len(axes) == value.ndim else min(1, value.ndim - 1)
    by_token = value.movedim(at, 0)[:time]
    by_token = by_token.reshape(len(by_token), -1)
    return {
        "shape": list(whole.shape),
        "dtype": whole.dtype,
        **{name: _number(getattr(whole, name)) for name in ("mean", "std", "rms", "minimum", "maximum")},
        "notFinite": whole.not_finite,
        "tokens": _numbers(by_token.square().mean(-1).sqrt()),
        "few": [_numbers(row[:LANES]) for row in by_token],
    }


def _lens(
    model: LanguageModel | None, recording: Recording, narration: Narration, time: int
) -> list[dict[str, Any]] | None:
    if model is None or "embed" not in recording or not hasattr(model, "final_norm"):
        return None
    streams = {s: recording[s] for s in recording.sites if s == "embed" or s.endswith("resid_post")}
    lens = logit_lens(model, {s: v.detach() for s, v in streams.items() if not s.startswith(GRAD)})
    spell = _speller(model)
    return [
        {
            "place": "embedding" if place == "embed" else f"block {layer_of(place)}",
            "cells": [
                {
                    "words": [spell(int(i)) for i in lens.top[row, t]],
                    "probs": _numbers(lens.probs[row, t]),
                    "entropy": _number(float(lens.entropy[row, t])),
                }
                for t in range(min(time, lens.top.shape[1]))
            ],
        }
        for row, place in enumerate(lens.places)
    ]


def _speller(model: LanguageModel) -> Any:
    tokenizer = getattr(model, "tokenizer", None)

    def spell(token: int) -> str:
        if tokenizer is None or token >= tokenizer.vocab_size:
            return str(token)
        return figures.printable(tokenizer.token_bytes(token).decode("utf-8", "replace")) or "∅"

    return spell


def _attention(narration: Narration, recording: Recording, words: Sequence[str]) -> tuple[Mapping[str, Any], ...]:
    """The maps as the explorer reads them: lower triangles in thousandths."""
    layers = [site for site in recording.sites if site.endswith("attention.probs") and not site.startswith(GRAD)]
    if not layers:
        return ()
    heads = sum(recording[site].shape[1] for site in layers)
    time = min(len(words), max((t for t in range(1, len(words) + 1) if heads * t * (t + 1) // 2 <= WEIGHTS), default=1))
    below = torch.ones(time, time, dtype=torch.bool).tril()
    weights = []
    for site in layers:
        probs = recording[site][0].detach().float().cpu()[:, :time, :time]
        weights.append([(1000 * head[below]).round().int().tolist() for head in probs])
    return ({"model": narration.model, "tokens": list(words[:time]), "weights": weights},)


def _numbers(values: Tensor) -> list[float | None]:
    return [_number(float(value)) for value in values.flatten()]


def _number(value: float) -> float | None:
    """Four significant digits; None for what JSON has no name for."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
