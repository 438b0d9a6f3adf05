"""One run as a page: the same pieces as a comparison, with its texts step by step.

Run on disk -> metrics, samples, last checkpoint -> head, words, curves, parameters, samples, attention -> report.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from picolab.compare.curves import Series, over_seeds, series_of
from picolab.compare.exhibits import attention_over, size_of
from picolab.models.contract import LanguageModel
from picolab.report import figures
from picolab.report.interpretation.kept import kept_of
from picolab.report.page import Card, Fact, Page, Tab, write
from picolab.report.pieces import attention_data, composition, curve_data, curves_data, line_data
from picolab.report.preference import with_preference
from picolab.runs.folder import Run
from picolab.runs.preference import is_preference_run
from picolab.weights.checkpoint import load_model, load_tokenizer

REPORT = "report.html"
TABS = 8


def run_report(run: Run) -> Path:
    """Write `report.html` into the run's folder; returns its path."""
    page = run_page(run)
    return write(with_preference(page, run) if is_preference_run(run) else page, run.path / REPORT)


def run_page(run: Run) -> Page:
    """What the report of a run shows; what the run has not (yet) is left out."""
    settings, meta, rows, samples = run.settings, run.meta, run.metrics(), run.samples
    # The training loss of pairs is in another unit than that of text: the two do not share a chart.
    train = series_of([] if is_preference_run(run) else rows, "train/loss")
    validation = series_of(rows, "val/loss")
    name, last = settings.model.preset, run.last()
    model = None if last is None else load_model(last.path)
    looks = None
    if model is not None and last is not None and samples:
        text = samples[-1]["prompt"] + samples[-1]["text"]
        looks = attention_over(model, load_tokenizer(last.path), text, name=name, seed=settings.seed)
    uniform = None if model is None else math.log(model.config.vocab_size)
    words = in_words(train, validation, status=run.status, says=str(meta.get("says", "")))
    versions = meta.get("versions", {})
    return Page(
        kind="run",
        title=f"{name} learns {settings.data.spec}",
        lead=words[0],
        facts=_facts(run, rows, model),
        words=words[1:],
        names=(name,),
        curves=_curves(name, train, validation, uniform),
        compositions=() if model is None else tuple(composition(name, size) for size in [size_of(model)] if size.total),
        samples_lead="What the model wrote on the way; the prompt is grey.",
        tabs=_tabs(samples),
        attention=() if looks is None else attention_data([looks]),
        learned=kept_of(run.path),
        method=_method(run),
        command=f"picolab train --config {run.path.name}/settings.yaml",
        made=f"Made by picolab {versions.get('picolab', '')} from a run of {str(meta.get('created', ''))[:10]}.",
    )


def in_words(train: Series, validation: Series, *, status: str, says: str) -> tuple[str, ...]:
    """How the run went, in sentences that its numbers support."""
    sentences = []
    if len(validation) > 1:
        first, end = validation.loss[0], validation.loss[-1]
        best = min(range(len(validation)), key=validation.loss.__getitem__)
        how = "fell" if end < first else "rose"
        sentences.append(
            f"Held-out loss {how} from {first:.3f} to {end:.3f} nats a token in {validation.step[-1]:,} steps "
            f"({figures.short(validation.tokens[-1])} tokens, {figures.seconds(validation.seconds[-1])})."
        )
        if best < len(validation) - 1:
            sentences.append(
                f"It was lowest at step {validation.step[best]:,}, {validation.loss[best]:.3f}, and "
                f"{end - validation.loss[best]:.3f} higher at the end."
            )
        else:
            sentences.append("The last held-out loss is the lowest one: more steps may bring it lower.")
        if len(train):
            recent = train.loss[-max(1, len(train) // 10) :]
            mean = math.fsum(recent) / len(recent)
            sentences.append(
                f"Over the last tenth of the steps the training loss was {mean:.3f} on average, the held-out loss at the end is "
                f"{abs(end - mean):.3f} {'above' if end > mean else 'below'} it."
            )
    elif len(validation):
        sentences.append(f"Held-out loss is {validation.loss[0]:.3f} nats a token.")
    else:
        sentences.append("Nothing has been measured on held-out text yet.")
    if status != "finished":
        sentences.append(f"The run is {status}{': ' + says if says else ''}.")
    return tuple(sentences)


def _facts(run: Run, rows: Sequence[dict[str, Any]], model: LanguageModel | None) -> tuple[Fact, ...]:
    settings, done = run.settings, rows[-1] if rows else {}
    losses = [row["val/loss"] for row in rows if row.get("val/loss") is not None]
    bits = [row["val/bits_per_byte"] for row in rows if row.get("val/bits_per_byte") is not None]
    rates = sorted(row["tokens_per_second"] for row in rows if row.get("tokens_per_second") is not None)
    facts = [
        Fact(
            label="Held-out loss",
            value=figures.loss(losses[-1] if losses else None),
            note="nats a token, lower is better",
        ),
        Fact(label="Bits a byte", value=figures.loss(bits[-1] if bits else None), note="held-out, lower is better"),
        Fact(
            label="Trained on",
            value=f"{figures.short(done.get('tokens'))} tokens",
            note=f"{figures.whole(done.get('step'))} steps",
        ),
        Fact(
            label="Speed",
            value=figures.short(rates[len(rates) // 2] if rates else None),
            note="tokens a second, median step",
        ),
        Fact(
            label="Batch",
            value=f"{settings.training.batch_size} × {settings.data.context_length}",
            note="rows × tokens",
        ),
    ]
    if model is not None:
        vocab = model.config.vocab_size
        note = f"a uniform guess scores {math.log(vocab):.2f}"
        facts.append(Fact(label="Vocabulary", value=figures.whole(vocab), note=note))
    facts.append(Fact(label="Status", value=run.status, note=f"seed {settings.seed}"))
    return tuple(facts)


def _curves(name: str, train: Series, validation: Series, uniform: float | None) -> dict[str, Any] | None:
    if uniform is None or not (len(train) or len(validation)):
        return None
    tracks = {"train": over_seeds([train]), "validation": over_seeds([validation])}
    lines = [line_data("uniform", "uniform guess", "uniform", uniform, "grey", "1 4")]
    return curves_data([curve_data(name, "m0", "", tracks)], lines, uniform, seeds=1)


def _tabs(samples: Sequence[dict[str, Any]]) -> tuple[Tab, ...]:
    steps = list(dict.fromkeys(int(sample["step"]) for sample in samples))
    if len(steps) > TABS:  # the first, the last, and some evenly between
        steps = [steps[round(i * (len(steps) - 1) / (TABS - 1))] for i in range(TABS)]
    return tuple(
        Tab(
            label=f"step {step:,}",
            says="Drawn from the smallest set of tokens that holds 95 % of the probability.",
            cards=tuple(
                Card(title=f"after step {step:,}", colour="m0", note="", prompt=sample["prompt"], text=sample["text"])
                for sample in samples
                if sample["step"] == step
            ),
        )
        for step in steps
    )


def _method(run: Run) -> tuple[tuple[str, str], ...]:
    settings = run.settings

    def said(section: dict[str, Any]) -> str:
        return ", ".join(f"{key} {value}" for key, value in section.items() if value is not None)

    return (
        (
            "Loss",
            "The mean of −ln p(token | tokens before it), in nats; the end of every text is scored, padding is not.",
        ),
        ("Model", said(settings.model.model_dump())),
        ("Data", said(settings.data.model_dump())),
        ("Training", said(settings.training.model_dump())),
        ("Optimizer", said(settings.optimizer.model_dump())),
    )
