"""A narration on a terminal of 80 columns: calm, in the reader's order, as much as was asked for.

    brief     a line a section, and what comes next           one screen
    normal    every step: what it means, formula, line, shape, statistics, a few values
    full      also axes, which values these are, the code itself, and the long tables

Only marks that disappear where there is no colour; nothing is said by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table as Grid
from rich.text import Text

from picolab.report.narration.step import LEVELS, Narration, Section, Step, Table
from picolab.report.narration.wording import figure, plural, shaped
from picolab.trace.statistics import Statistics

WIDTH = 88
"""Columns used at most: longer lines are hard to read."""

LINE = 78
"""Columns of an indented line on a terminal of 80."""

WORDS_SHOWN, VALUES_SHOWN, TOP_SHOWN = 40, 4, 5
NAME = 14
"""Columns of a section's name in brief."""


def on_terminal(narration: Narration, detail: str = "normal") -> RenderableType:
    """What to print."""
    parts = [*_heading(narration, detail)]
    if detail == "brief":
        parts.append(_brief(narration))
    else:
        first = next((section for section in narration.sections if section.kind == "block" and section.steps), None)
        for section in narration.sections:
            known = detail == "normal" and section.kind == "block" and section is not first
            parts += _section(section, detail, known=known)
    return Constrain(Group(*parts), WIDTH)


def shown(level: str, detail: str) -> bool:
    """Whether what is of a level is shown at a detail."""
    return LEVELS.index(level) <= LEVELS.index(detail)


def _heading(narration: Narration, detail: str) -> Iterator[RenderableType]:
    yield Text.assemble((narration.model, "bold"), (f"  {narration.architecture}, traced by {narration.engine}", "dim"))
    pieces = [word.piece for word in narration.words]
    if len(pieces) > WORDS_SHOWN:
        pieces = [*pieces[: WORDS_SHOWN // 2], "...", *pieces[-WORDS_SHOWN // 2 :]]
    if detail == "brief" and len(pieces) > 13:
        pieces = [*pieces[:6], "...", *pieces[-6:]]
    yield Text(" ".join(pieces))
    for note in narration.notes:
        yield Text(note, style="yellow")
    if detail != "brief":
        word = narration.words[narration.followed]
        yield Text(
            f"Values shown are those of token {word.position}, `{word.piece}`, where a head is needed of head 0.",
            style="dim",
        )
    yield Text()


def _brief(narration: Narration) -> RenderableType:
    """Each section in a line or two, blocks that are alike together, then the likeliest next tokens."""
    grid = Grid(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column(style="bold", width=NAME)
    grid.add_column(overflow="fold")
    for kind, some in groupby(narration.sections, key=lambda section: section.kind):
        sections = list(some)
        for section in sections if len(sections) <= 5 else (*sections[:2], sections[-1]):
            name = section.title if section.layer is not None else kind
            grid.add_row(Text(name), Text(_first_clause(section.says) if section.layer is not None else section.says))
    parts: list[RenderableType] = [grid]
    top = _likeliest(narration)
    if top:
        parts.append(Text.assemble(("\nnext".ljust(NAME + 3), "bold"), top))
    return Group(*parts)


def _first_clause(says: str) -> str:
    head, _, rest = says.partition("; ")
    return f"{head}." if rest else says


def _likeliest(narration: Narration) -> str:
    for section in narration.sections:
        if section.kind == "head" and section.steps and section.steps[-1].tables:
            rows = section.steps[-1].tables[0].rows[:TOP_SHOWN]
            return "  ".join(f"{row[1]} {row[2]}" for row in rows)
    return ""


def _section(section: Section, detail: str, *, known: bool) -> Iterator[RenderableType]:
    """With `known`, formulas and lines of code are left out: an earlier block has shown the same ones."""
    yield Rule(Text(section.title, style="bold"), align="left", style="dim", characters="─")
    steps = [step for step in section.steps if shown(step.level, detail)]
    if all(step.says != section.says for step in steps):
        yield Text(section.says)
    if not known or not steps:
        yield Text()
    for step in steps:
        yield from _step(step, detail, known=known)
    if known and steps:
        yield Text()


def _step(step: Step, detail: str, *, known: bool) -> Iterator[RenderableType]:
    yield _sides(
        Text.assemble((step.title, "bold"), (f"  {step.site}" if step.site else "", "dim")), Text(_shape(step), "dim")
    )
    yield Padding(Text(step.says), (0, 0, 0, 2))
    formula = Text(step.formula or "", style="cyan")
    source = Text(str(step.source) if step.source else "", style="dim")
    if (formula or source) and not known:
        yield Padding(_sides(formula, source), (0, 0, 0, 2))
    if step.statistics is not None or step.values:
        yield Padding(Text(_numbers(step, detail), style="dim"), (0, 0, 0, 2))
    if detail == "full":
        for line in _more(step):
            yield Padding(Text(line, style="dim"), (0, 0, 0, 2))
    for table in step.tables:
        if shown(table.level, detail):
            yield Padding(_table(table), (0, 0, 0, 2))
    if not known:
        yield Text()


def _sides(left: Text, right: Text) -> RenderableType:
    """Two texts at the ends of a line; under each other where they do not fit."""
    if left.cell_len + right.cell_len + 2 > LINE:
        return Group(left, right) if right and left else left or right
    grid = Grid.grid(expand=True)
    grid.add_column()
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(left, right)
    return grid


def _shape(step: Step) -> str:
    return "" if step.shape is None else f"{shaped(step.shape)} {step.dtype or ''}".rstrip()


def _numbers(step: Step, detail: str) -> str:
    parts = []
    s = step.statistics
    if s is not None:
        parts.append(
            ("visible: " if of_visible_pairs(s) else "")
            + f"mean {figure(s.mean)}  std {figure(s.std)}  min {figure(s.minimum)}  max {figure(s.maximum)}"
            + (f"  {plural(s.not_finite, 'number')} not finite" if s.not_finite else "")
        )
    if detail == "normal":
        room = LINE - sum(len(part) + 3 for part in parts)
        parts += [some for values in step.values[:1] if (some := _that_fit(values.numbers, room))]
    return "   ".join(parts)


def of_visible_pairs(statistics: Statistics) -> bool:
    """Whether these are numbers of scores or probabilities, of which hidden pairs are left out."""
    return statistics.count + statistics.not_finite < math.prod(statistics.shape)


def _that_fit(numbers: tuple[float, ...], room: int) -> str:
    """The first numbers, as many as have room on the line."""
    for count in range(min(len(numbers), VALUES_SHOWN), 0, -1):
        some = "[" + " ".join(figure(x) for x in numbers[:count]) + (" ..]" if count < len(numbers) else "]")
        if len(some) <= room:
            return some
    return ""


def _more(step: Step) -> Iterator[str]:
    if step.dims:
        yield f"axes: {step.dims}"
    for values in step.values:
        yield f"{values.where}: {' '.join(figure(x) for x in values.numbers)}"
    if step.source is not None and step.source.code:
        yield f"code: {step.source.code}"


def _table(table: Table) -> RenderableType:
    grid = Grid(box=None, pad_edge=False, show_header=any(table.columns), header_style="dim")
    for column in table.columns:
        grid.add_column(Text(column), justify="right" if column in table.right else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(cell) for cell in row))
    return Group(Text(table.title, style="dim"), grid) if table.title else grid
