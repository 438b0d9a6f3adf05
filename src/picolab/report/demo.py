"""The demo's page: what four models made of a question, before and after, and the way to both comparisons.

predictions (a table), rankings in words, samples side by side; numbers/report.html and stories/report.html hold the rest
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from picolab.compare.result import Comparison
from picolab.report import figures
from picolab.report.comparison import REPORT, colours_of
from picolab.report.page import Card, Cell, Fact, Line, Link, Page, Tab, Table, write

Choices = Sequence[tuple[str, float]]
"""The most probable next tokens with their probabilities, best first."""

SHOWN = (("numbers", "greedy"), ("stories", "greedy"), ("stories", "p=0.95"))
"""Which samples the page shows, as (part, sampler)."""


def demo_report(
    folder: Path,
    parts: Sequence[tuple[str, Comparison]],
    question: str,
    answer: str,
    predictions: Sequence[tuple[str, Choices, Choices]],
) -> Path:
    """Write `report.html` into the demo's folder; `predictions` are (model, before, after)."""
    return write(_page(parts, question, answer, predictions), folder / REPORT)


def _page(
    parts: Sequence[tuple[str, Comparison]],
    question: str,
    answer: str,
    predictions: Sequence[tuple[str, Choices, Choices]],
) -> Page:
    first = parts[0][1]
    names = tuple(dict.fromkeys(row.model for _, comparison in parts for row in comparison.rows))
    return Page(
        kind="demo",
        title="The same data, four kinds of model",
        lead="N-gram counts, a k-gram network, an LSTM and a small transformer learn integer sequences whose rule is known, "
        "then stories, each on the same budget.",
        facts=tuple(fact for name, comparison in parts for fact in _facts(name, comparison)),
        warnings=() if all(comparison.complete for _, comparison in parts) else ("The demo was interrupted.",),
        links=tuple(
            Link(
                label=f"{name.capitalize()}: the whole comparison", href=f"{name}/{REPORT}", says=_found_in(comparison)
            )
            for name, comparison in parts
        ),
        words=tuple(
            f"{name.capitalize()}. {sentence}" for name, comparison in parts for sentence in comparison.ranking
        ),
        names=names,
        table=_table(first, question, answer, predictions) if predictions else None,
        samples_lead="The same prompt and the same seed for every model; the prompt is grey.",
        tabs=_tabs(parts),
        command="picolab demo",
        made=f"Made by picolab {first.setup.picolab} on {first.setup.created}, {first.setup.machine}.",
    )


def _facts(name: str, comparison: Comparison) -> tuple[Fact, ...]:
    setup, best = comparison.setup, next((row for row in comparison.rows if row.loss is not None), None)
    facts = [Fact(label=f"{name.capitalize()}, budget", value=figures.short(setup.tokens), note="tokens a model")]
    if best is not None and best.loss is not None:
        floor = (
            f"floor {figures.loss(setup.floor)}"
            if setup.floor is not None
            else f"guessing {figures.loss(setup.uniform)}"
        )
        facts.append(
            Fact(
                label=f"{name.capitalize()}, best loss",
                value=figures.loss(best.loss.mean),
                note=f"{best.model}; {floor}",
            )
        )
    return tuple(facts)


def _found_in(comparison: Comparison) -> str:
    looked = "curves, figures, parameters, samples"
    return f"{looked} and attention maps" if comparison.attention else looked


def _table(
    comparison: Comparison, question: str, answer: str, predictions: Sequence[tuple[str, Choices, Choices]]
) -> Table:
    colours = colours_of(comparison.rows)
    rows = {row.model: row for row in comparison.rows}
    lines = []
    for model, before, after in sorted(predictions, key=lambda p: list(rows).index(p[0])):
        chance = next((probability for token, probability in after if token == answer), 0.0)
        lines.append(
            Line(
                colour=colours[model],
                name=model,
                says=rows[model].family,
                baseline=rows[model].baseline,
                cells=(
                    Cell(text=_first(before), key=before[0][1] if before else None, note=_others(before)),
                    Cell(text=_first(after), key=after[0][1] if after else None, note=_others(after)),
                    Cell(text="yes" if after and after[0][0] == answer else "no", key=-chance),
                ),
            )
        )
    return Table(
        columns=(
            ("Model", ""),
            ("Before training", "most probable next token"),
            ("After training", "most probable next token"),
            ("Right", f"the rule says {answer}"),
        ),
        lines=tuple(lines),
        title=f"What follows {question}?",
        caption="Below each first choice: the next two, with their probabilities.",
    )


def _first(choices: Choices) -> str:
    return f"{choices[0][0]} ({choices[0][1]:.0%})" if choices else figures.NOTHING


def _others(choices: Choices) -> str:
    return "  ".join(f"{token} {probability:.0%}" for token, probability in choices[1:])


def _tabs(parts: Sequence[tuple[str, Comparison]]) -> tuple[Tab, ...]:
    tabs = []
    for part, sampler in SHOWN:
        comparison = dict(parts).get(part)
        if comparison is None:
            continue
        colours = colours_of(comparison.rows)
        cards = tuple(
            Card(title=row.model, colour=colours[row.model], note=row.family, prompt=s.prompt, text=s.text)
            for row in comparison.rows
            for s in row.samples
            if s.sampler == sampler
        )
        says = (
            "Always the most likely token."
            if sampler == "greedy"
            else "Drawn from the likeliest 95 % of the probability."
        )
        tabs.append(Tab(label=f"{part}, {sampler}", says=says, cards=cards))
    return tuple(tabs)
