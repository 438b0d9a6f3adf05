"""What was found out about a run and kept in its folder: `picolab interpret .. --out RUN/interpret`, for the run's own page.

RUN/interpret/heads.json heads.svg ..  -> Kept: title, sentences, pictures
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from picolab.errors import BadData
from picolab.report.embedded import Shown, address_of

FOLDER = "interpret"
ANALYSES = ("embeddings", "attention", "neurons", "heads", "lens")


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """One analysis of a run."""

    title: str
    says: tuple[str, ...]
    pictures: tuple[Shown, ...]


def kept_of(run: Path) -> tuple[Kept, ...]:
    """Every analysis in a run's folder `interpret`, in their usual order."""
    files = [run / FOLDER / f"{what}.json" for what in ANALYSES]
    return tuple(_read(file) for file in files if file.exists())


def _read(file: Path) -> Kept:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Kept(
            title=str(content["title"]),
            says=tuple(str(sentence) for sentence in content["findings"]),
            pictures=tuple(
                Shown(
                    title=str(one["title"]),
                    says=str(one["says"]),
                    address=address_of(file.with_name(f"{one['name']}.svg").read_bytes()),
                )
                for one in content["pictures"]
            ),
        )
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise BadData(
            f"`{file}` is no whole analysis", hint=f"make it again: picolab interpret {file.stem} --out {file.parent}"
        ) from error
