"""A comparison as a page.

Comparison -> head, words, dot plot, curves, table, parameters, samples, attention, method -> report.html
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from picolab.compare.bands import Band
from picolab.compare.curves import Track
from picolab.compare.ranking import NOT_HELD_OUT, seeds_named
from picolab.compare.result import Comparison, Row, Size, tracks_of
from picolab.report import figures
from picolab.report.dots import dot_plot
from picolab.report.method import how_to_read
from picolab.report.page import Card, Cell, Fact, Line, Page, Tab, Table, write
from picolab.report.pieces import attention_data, composition, curve_data, curves_data, line_data
from picolab.report.sequences import families_of

REPORT = "report.html"
COLOURS, BASELINE_COLOUR = 8, "grey"
# Colour is never the only difference: the line pattern repeats at another length than the colours do.
DASHES = ("", "7 3", "2 3", "10 3 2 3", "14 4")

SAMPLER_SAYS = {
    "greedy": "Always the most likely token: what the model is surest of, and where it falls into loops.",
    "p=0.95": "Drawn from the smallest set of tokens that holds 95 % of the probability.",
    "p=1": "Drawn from the whole distribution: what the model has really learned, unlikely tokens included.",
}


def comparison_report(comparison: Comparison, folder: Path) -> Path:
    """Write `report.html` into the comparison's folder; returns its path."""
    return write(comparison_page(comparison), folder / REPORT)


def comparison_page(comparison: Comparison) -> Page:
    """What the report of a comparison shows."""
    setup, rows = comparison.setup, comparison.rows
    colours = colours_of(rows)
    return Page(
        kind="comparison",
        title=f"{_named(rows)} {_short(setup.data)}",
        lead=comparison.ranking[0],
        warnings=_warnings(comparison),
        facts=_facts(comparison),
        words=comparison.ranking[1:],
        names=tuple(row.model for row in rows),
        dots=dot_plot(rows, setup, colours),
        curves=_curves(comparison, colours),
        table=_table(comparison, colours),
        families=families_of(comparison, colours),
        compositions=tuple(composition(row.model, row.size) for row in rows if row.size is not None and row.size.total),
        samples_lead="The same prompt and the same seed for every model; the prompt is grey.",
        tabs=_tabs(rows, colours),
        attention=attention_data(comparison.attention),
        method=how_to_read(comparison),
        command=command_of(comparison),
        made=f"Made by picolab {setup.picolab} on {setup.created}, {setup.machine}.",
    )


def command_of(comparison: Comparison) -> str:
    """The command line that repeats the comparison."""
    setup = comparison.setup
    specs = {row.model: setup.arms.get(row.model, row.model) for row in comparison.rows}
    models = [name if name == spec else f"{name}={spec}" for name, spec in specs.items()]
    overrides = [word for key, value in setup.overrides.items() for word in (f"--{key}", value)]
    seeds = str(len(setup.seeds)) if setup.seeds == tuple(range(len(setup.seeds))) else ",".join(map(str, setup.seeds))
    words = [
        "picolab",
        "compare",
        *models,
        "--data",
        setup.data,
        "--tokens",
        str(setup.tokens),
        "--seeds",
        seeds,
        *overrides,
    ]
    return shlex.join(words)


def colours_of(rows: Sequence[Row]) -> dict[str, str]:
    """A colour name a model; the baseline is grey."""
    others = [row.model for row in rows if not row.baseline]
    return {row.model: BASELINE_COLOUR for row in rows if row.baseline} | {
        model: f"m{i % COLOURS}" for i, model in enumerate(others)
    }


def _warnings(comparison: Comparison) -> tuple[str, ...]:
    interrupted = "This comparison was interrupted: only what had finished is shown."
    return tuple(
        text
        for text, true in ((interrupted, not comparison.complete), (NOT_HELD_OUT, not comparison.setup.held_out))
        if true
    )


def _facts(comparison: Comparison) -> tuple[Fact, ...]:
    setup = comparison.setup
    seeds = ", ".join(map(str, setup.seeds))
    return (
        Fact(label="Budget", value=figures.whole(setup.tokens), note="tokens, for every model and seed"),
        Fact(label="Seeds", value=str(len(setup.seeds)), note=f"{seeds}: same data order for all models"),
        Fact(label="Vocabulary", value=figures.whole(setup.vocab_size), note=setup.tokenizer),
        Fact(label="Batch", value=f"{setup.batch_size} × {setup.context_length}", note="rows × tokens"),
        Fact(
            label="Scored on",
            value=figures.whole(setup.scored_tokens),
            note=f"{setup.scored_split} tokens" + (", never trained on" if setup.held_out else ""),
        ),
        Fact(label="Uniform guess", value=f"{setup.uniform:.2f}", note="nats a token, to be undercut"),
        Fact(
            label="Exact floor",
            value="unknown" if setup.floor is None else f"{setup.floor:.3f}",
            note="only synthetic data knows its own" if setup.floor is None else "nats a token, entropy of the rule",
        ),
    )


def _curves(comparison: Comparison, colours: Mapping[str, str]) -> dict[str, Any] | None:
    setup = comparison.setup
    train, validation = tracks_of(comparison, "train"), tracks_of(comparison, "validation")
    models = [
        curve_data(
            row.model,
            colours[row.model],
            DASHES[i % len(DASHES)],
            {"train": train.get(row.model, Track()), "validation": validation.get(row.model, Track())},
        )
        for i, row in enumerate(row for row in comparison.rows if not row.baseline)
        if row.model in train or row.model in validation
    ]
    if not models:
        return None
    lines = [line_data("uniform", "uniform guess", "uniform", setup.uniform, BASELINE_COLOUR, "1 4")]
    if setup.floor is not None:
        lines.append(line_data("floor", "exact floor", "floor", setup.floor, "ink", "2 3"))
    if comparison.baseline is not None and comparison.baseline.loss is not None:
        name = comparison.baseline.model
        lines.append(
            line_data("baseline", f"{name} baseline", name, comparison.baseline.loss.mean, BASELINE_COLOUR, "8 4")
        )
    return curves_data(models, lines, setup.uniform, seeds=len(setup.seeds))


def _table(comparison: Comparison, colours: Mapping[str, str]) -> Table:
    columns = [("Model", ""), ("Loss", "nats a token, lower is better"), ("Bits a byte", "lower is better")]
    if comparison.setup.floor is not None:
        columns.append(("Above floor", "nats a token"))
    columns += [
        ("Speed", "tokens a second"),
        ("Memory", "peak of the run"),
        ("Parameters", "in all"),
    ]
    lines = []
    for row in comparison.rows:
        reasons = "; ".join(f"{seeds_named(seeds)}: {reason}" for reason, seeds in row.reasons.items())
        lines.append(
            Line(
                colour=colours[row.model],
                name=row.model,
                says=row.family + (f"; {reasons}" if reasons and row.loss else ""),
                baseline=row.baseline,
                cells=_cells(row, floor=comparison.setup.floor is not None) if row.loss else (),
                reason=reasons,
            )
        )
    return Table(columns=tuple(columns), lines=tuple(lines))


def _cells(row: Row, *, floor: bool) -> tuple[Cell, ...]:
    loss, bits, excess, speed, size = row.loss, row.bits_per_byte, row.excess, row.tokens_per_second, row.size
    spread = ""
    if loss is not None:
        spread = f"{loss.low:.3f} to {loss.high:.3f}" if loss.seeds > 1 else "one seed"
        if loss.standard_error is not None:
            spread += f", s.e. {loss.standard_error:.3f}"
    cells = [
        Cell(text=figures.loss(_mean(loss)), key=_mean(loss), note=spread),
        Cell(text=figures.loss(_mean(bits)), key=_mean(bits)),
    ]
    if floor:
        cells.append(Cell(text=figures.loss(_mean(excess)), key=_mean(excess)))
    cells += [
        Cell(text=figures.short(_mean(speed)), key=_mean(speed)),
        Cell(text=figures.memory(row.peak_memory), key=row.peak_memory),
        Cell(
            text=figures.whole(size.total) if size and (size.total or not size.buffers) else figures.NOTHING,
            key=size.total if size else None,
            note=_size_note(size) if size else "",
        ),
    ]
    return tuple(cells)


def _mean(band: Band | None) -> float | None:
    return None if band is None else band.mean


def _size_note(size: Size) -> str:
    if not size.total:
        return f"{figures.short(size.buffers)} stored numbers"
    learned = "all trainable" if size.trainable == size.total else f"{figures.short(size.trainable)} trainable"
    return learned + (f", {figures.short(size.frozen)} frozen" if size.frozen else "")


def _tabs(rows: Sequence[Row], colours: Mapping[str, str]) -> tuple[Tab, ...]:
    samplers = dict.fromkeys(sample.sampler for row in rows for sample in row.samples)
    return tuple(
        Tab(
            label=sampler,
            says=SAMPLER_SAYS.get(sampler, ""),
            cards=tuple(
                Card(
                    title=row.model,
                    colour=colours[row.model],
                    note=f"loss {figures.loss(_mean(row.loss))}",
                    prompt=sample.prompt,
                    text=sample.text,
                )
                for row in rows
                for sample in row.samples
                if sample.sampler == sampler
            ),
        )
        for sampler in samplers
    )


def _short(data: str, limit: int = 30) -> str:
    """A data spec fit for a heading: without its options where they are long; the command at the end has them."""
    return data if len(data) <= limit else data.partition(":")[0]


def _named(rows: Sequence[Row]) -> str:
    if len(rows) == 1:
        return f"{rows[0].model} learns"
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")
    return f"{words[len(rows)] if len(rows) < len(words) else len(rows)} models learn"
