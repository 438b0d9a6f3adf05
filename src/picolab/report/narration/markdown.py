"""The same narration as Markdown: for a notebook, a pull request, a page."""

from __future__ import annotations

from collections.abc import Iterator

from picolab.report.narration.step import Narration, Section, Step, Table
from picolab.report.narration.terminal import of_visible_pairs, shown
from picolab.report.narration.wording import figure, shaped

FENCE = "`"


def as_markdown(narration: Narration, detail: str = "normal") -> str:
    """One document; tables and headings of the common dialect."""
    lines = [f"# {_plain(narration.model)}, traced", "", f"{narration.architecture}, by {narration.engine}.", ""]
    lines += [" ".join(code(word.piece) for word in narration.words), ""]
    lines += [f"> {note}\n" for note in narration.notes]
    for section in narration.sections:
        lines += _section(section, detail)
    return "\n".join(lines).rstrip() + "\n"


def code(text: str) -> str:
    """Letters as they are, however many backticks are among them."""
    longest = max((len(run) for run in _runs(text)), default=0)
    fence = FENCE * (longest + 1)
    room = " " if text.startswith(FENCE) or text.endswith(FENCE) else ""
    return f"{fence}{room}{text}{room}{fence}"


def _runs(text: str) -> list[str]:
    return [run for run in "".join(c if c == FENCE else " " for c in text).split() if run]


def _section(section: Section, detail: str) -> Iterator[str]:
    yield f"## {section.title}"
    yield ""
    yield _plain(section.says)
    yield ""
    if detail == "brief":
        return
    for step in section.steps:
        if shown(step.level, detail):
            yield from _step(step, detail)


def _step(step: Step, detail: str) -> Iterator[str]:
    yield f"### {step.title}" + (f" ({code(step.site)})" if step.site else "")
    yield ""
    yield _plain(step.says)
    yield ""
    facts = []
    if step.formula:
        facts.append(code(step.formula))
    if step.shape is not None:
        facts.append(f"{shaped(step.shape)} {step.dtype or ''}".strip() + (f" ({step.dims})" if step.dims else ""))
    if step.statistics is not None:
        s = step.statistics
        numbers = f"mean {figure(s.mean)}, std {figure(s.std)}, min {figure(s.minimum)}, max {figure(s.maximum)}"
        facts.append(numbers + (" (visible pairs)" if of_visible_pairs(s) else ""))
    facts += [f"{_plain(v.where)}: {', '.join(figure(x) for x in v.numbers)}" for v in step.values]
    if step.source is not None:
        facts.append(f"computed at {code(str(step.source))}")
    yield from (f"* {fact}" for fact in facts)
    if facts:
        yield ""
    for table in step.tables:
        if shown(table.level, detail):
            yield from _table(table)


def _table(table: Table) -> Iterator[str]:
    if table.title:
        yield _plain(table.title)
        yield ""
    yield "| " + " | ".join(_cell(column) for column in table.columns) + " |"
    yield "|" + "|".join("--:" if column in table.right else "---" for column in table.columns) + "|"
    for row in table.rows:
        yield "| " + " | ".join(_cell(cell) for cell in row) + " |"
    yield ""


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """What a token spells must not become markup: outside backticks, signs that mean something are escaped."""
    parts = text.split(FENCE)
    if len(parts) % 2 == 0:  # a token that is itself a backtick
        return "".join(f"\\{c}" if c in "`*_<>#[]" else c for c in text)
    return FENCE.join(
        part if i % 2 else "".join(f"\\{c}" if c in "*_<>#[]" else c for c in part) for i, part in enumerate(parts)
    )
