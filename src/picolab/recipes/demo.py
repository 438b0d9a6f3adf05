"""The main job in a minute, offline: four kinds of language model learn the same data, twice.

    numbers   rules with a known best possible loss:  what does each model make of `2 4 6 8`, before and after?
    stories   shipped micro-stories:                   what does each model write?

Equal budgets, the n-gram counts beside the networks, the floor where it is known. Everything lands in one folder with a page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from picolab.compare.compare import RunBegins, RunEnds, compare
from picolab.compare.result import Comparison
from picolab.models.contract import LanguageModel
from picolab.report.comparison import comparison_report
from picolab.report.demo import demo_report
from picolab.runs.folder import Run
from picolab.text.tokenizer import Tokenizer
from picolab.train.events import Event
from picolab.weights.checkpoint import load_model, load_tokenizer
from picolab.zoo import create

QUESTION = "2 4 6 8"
ANSWER = "10"


@dataclass(frozen=True, slots=True)
class Part:
    """One comparison of the demo: its folder, models, data, budget, and settings that differ from the defaults."""

    name: str
    models: tuple[str, ...]
    data: str
    tokens: int
    settings: Mapping[str, str]
    prompt: str | None = None


# Small rows and many steps: a budget that a laptop meets in a minute teaches more in 300 small steps than in 50 large ones.
PARTS = (
    Part(
        "numbers",
        ("ngram", "kgram-embed", "lstm", "softmax-pico"),
        "numeric:counting+arithmetic+alternating:numbers=64",
        250_000,
        # Of rules, a tenth would be kept back twice: with so few, counting itself would be among them.
        {"context_length": "64", "batch_size": "8", "lr": "0.004", "validation": "0.05", "test": "0"},
        prompt=QUESTION,
    ),
    Part(
        "stories",
        ("ngram", "kgram-embed", "lstm", "qwen2-pico"),
        "stories-shipped",
        150_000,
        {"context_length": "128", "batch_size": "4", "lr": "0.004", "tokenizer": "characters"},
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """The most probable next tokens after `QUESTION`, with their probabilities."""

    model: str
    before: tuple[tuple[str, float], ...]
    after: tuple[tuple[str, float], ...]

    @property
    def right(self) -> bool:
        """Whether training made the rule's next number the first choice."""
        return self.after[0][0] == ANSWER


@dataclass(frozen=True, kw_only=True, slots=True)
class Demo:
    """Everything the demo found, and the page that shows it."""

    parts: tuple[tuple[str, Comparison], ...]
    predictions: tuple[Prediction, ...]
    report: Path

    @property
    def complete(self) -> bool:
        """Whether nothing was interrupted."""
        return all(comparison.complete for _, comparison in self.parts)


def demo(out: Path, *, seed: int = 0, report: Callable[[RunBegins | RunEnds | Event], None] | None = None) -> Demo:
    """Run both comparisons into `out`; the same call goes on where an interrupted one stopped."""
    done: list[tuple[str, Comparison]] = []
    predictions: tuple[Prediction, ...] = ()
    for part in PARTS:
        folder = out / part.name
        comparison = compare(
            part.models,
            data=part.data,
            tokens=part.tokens,
            seeds=(seed,),
            out=folder,
            overrides=part.settings,
            prompt=part.prompt,
            report=report,
        )
        comparison_report(comparison, folder)
        done.append((part.name, comparison))
        if not comparison.complete:
            break
        if part.prompt == QUESTION:
            predictions = tuple(predict(folder, model, comparison) for model in part.models)
    page = demo_report(out, done, QUESTION, ANSWER, [(p.model, p.before, p.after) for p in predictions])
    return Demo(parts=tuple(done), predictions=predictions, report=page)


def predict(folder: Path, model: str, comparison: Comparison) -> Prediction:
    """What a model of the comparison says after `QUESTION`, freshly initialised and trained."""
    row = next(row for row in comparison.rows if row.model == model)
    run = Run.open(folder / row.runs[0].run)
    checkpoint = run.best() or run.last()
    if checkpoint is None:
        return Prediction(model=model, before=(), after=())
    trained, tokenizer = load_model(checkpoint.path), load_tokenizer(checkpoint.path)
    settings = run.settings
    fresh = create(model, vocab_size=tokenizer.vocab_size, seed=settings.seed, **settings.model.overrides)
    return Prediction(model=model, before=next_tokens(fresh.eval(), tokenizer), after=next_tokens(trained, tokenizer))


@torch.no_grad()
def next_tokens(model: LanguageModel, tokenizer: Tokenizer, count: int = 3) -> tuple[tuple[str, float], ...]:
    """The `count` most probable tokens after `QUESTION`."""
    ids = torch.tensor([[tokenizer.eot, *tokenizer.encode(QUESTION)]])
    probs = model(ids)[0, -1].softmax(-1)
    top = probs.topk(count)
    return tuple((tokenizer.token_name(int(i)), float(p)) for p, i in zip(top.values, top.indices, strict=True))
