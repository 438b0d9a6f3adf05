"""Printing: where words go, how numbers read, how JSON leaves.

    as_json   stdout   the one JSON document          otherwise   stdout   results
              stderr   everything else                            stderr   progress

Colour and movement switch themselves off in a pipe and where NO_COLOR is set.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 160
"""Columns of a table that no terminal limits."""


def results(as_json: bool) -> Console:
    """Where results are told: stdout, unless JSON needs it."""
    return _console(sys.stderr if as_json else sys.stdout)


def progress() -> Console:
    """Where it is told how things go."""
    return _console(sys.stderr)


def emit(document: Any) -> None:
    """Write the one JSON document; dataclasses are objects, paths are strings, a number that is not finite is null."""
    sys.stdout.write(_json(document))


def save_json(path: Path, document: Any) -> None:
    """Write a JSON document into a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(_json(document), encoding="utf-8")
    temporary.replace(path)


def _json(document: Any) -> str:
    return json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """A value as what JSON knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def table(
    title: str | None, columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()
) -> RenderableType:
    """A table of plain text under its title; the columns named in `right` hold numbers."""
    made = Table(box=None, pad_edge=False)
    for column in columns:
        made.add_column(Text(column), justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made if title is None else Group(Text(title, style="bold", no_wrap=True, overflow="ignore"), made)


def show(what: RenderableType, *, as_json: bool = False) -> None:
    """Print a table or text as a result; lines end where their words do."""
    console = results(as_json)
    with console.capture() as captured:
        console.print(what)
    for line in captured.get().splitlines():
        print(line.rstrip(), file=console.file)


def quoted(text: str) -> Text:
    """Text that a model or a corpus wrote: shown as it is, but what would steer the terminal shown as a sign for it."""
    return Text("".join(letter if letter.isprintable() or letter == "\n" else _visible(letter) for letter in text))


def duration(seconds: float) -> str:
    """Seconds as people say them: 0.4 s, 45 s, 3 min 20 s, 2 h 5 min."""
    if not math.isfinite(seconds):
        return "unknown"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 2 * 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(n_bytes: float) -> str:
    """Bytes as people say them: 512 B, 1.5 kB, 340 MB, 1.1 GB (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5 or unit == "GB":
            return f"{n_bytes:.0f} {unit}" if unit == "B" or n_bytes >= 99.95 else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    raise AssertionError


def number(value: float | None, digits: int = 3) -> str:
    """A figure for a table; a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def _console(file: Any) -> Console:
    width = None if file.isatty() else PIPE_WIDTH
    return Console(
        file=file,
        width=width,
        highlight=False,
        soft_wrap=False,
        markup=False,
        emoji=False,
        force_jupyter=False,  # a command run inside a notebook writes to its file, as everywhere
    )


def _visible(letter: str) -> str:
    """A control character as its picture: Escape as \\N{SYMBOL FOR ESCAPE}."""
    code = ord(letter)
    return chr(0x2400 + code) if code < 32 else "\N{SYMBOL FOR DELETE}" if code == 127 else "\N{REPLACEMENT CHARACTER}"
