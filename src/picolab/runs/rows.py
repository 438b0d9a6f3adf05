"""Rows that only ever grow: `metrics.jsonl` and `samples.jsonl`, one JSON object a line.

append      one row, one write: after a kill at most the last line is torn
read        a torn last line is passed over, a bad line in the middle is an error
cut         back to the step of a checkpoint, so that a resumed run has no row twice and none missing
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from picolab.errors import BadCheckpoint
from picolab.runs.atomic import reported, write_text


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add one row. Numbers that are not finite have no JSON: they are written as null."""
    with reported(path), path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(_line(row))


def read(path: Path) -> list[dict[str, Any]]:
    """All whole rows, oldest first; none where there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line) if line else None
        except json.JSONDecodeError as error:
            if number == len(lines):  # no newline behind it: the writer was killed inside this row
                break
            raise BadCheckpoint(
                f"line {number} of `{path}` is not JSON", hint="was the file edited by hand?"
            ) from error
        if row is not None:
            rows.append(row)
    return rows


def cut(path: Path, step: int) -> None:
    """Keep the rows up to and including a step."""
    if path.exists():
        write_text(path, "".join(_line(row) for row in read(path) if row["step"] <= step))


def _line(row: Mapping[str, Any]) -> str:
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
    return json.dumps(finite, ensure_ascii=False) + "\n"
