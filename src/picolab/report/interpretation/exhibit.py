"""What one analysis hands on, whoever shows it: sentences, tables, pictures, and all its numbers.

Exhibit -> terminal: sentences and tables
        -> a folder: NAME.png NAME.svg of every picture, WHAT.json
        -> a page: all of it (page.py)
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from picolab.compare.plots import STYLE
from picolab.runs import atomic

PICTURE: Any = STYLE | {"font.family": ["DejaVu Sans"], "text.parse_math": False, "figure.constrained_layout.use": True}


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """A table of words and figures; columns in `right` hold numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A figure for papers; `name` is its file's, `says` what is seen on it."""

    name: str
    title: str
    says: str
    figure: Figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Exhibit:
    """All that one analysis shows of a model. `attention` is for the page's explorer."""

    what: str
    title: str
    model: str
    source: str
    says: tuple[str, ...]
    listings: tuple[Listing, ...] = ()
    pictures: tuple[Picture, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
    attention: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """What is told in JSON."""
        return {
            "what": self.what,
            "title": self.title,
            "model": self.model,
            "source": self.source,
            "findings": list(self.says),
            "notes": list(self.notes),
            "pictures": [{"name": one.name, "title": one.title, "says": one.says} for one in self.pictures],
            **self.numbers,
        }


def save_pictures(exhibit: Exhibit, folder: Path) -> list[Path]:
    """Write every picture as PNG and SVG into a folder, made if need be. Returns the files."""
    written = []
    with atomic.reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for picture in exhibit.pictures:
            for suffix, options in ((".png", {"dpi": 150}), (".svg", {"metadata": {"Date": None}})):
                path = folder / f"{picture.name}{suffix}"
                with rc_context(PICTURE):
                    picture.figure.savefig(path, **options)
                written.append(path)
    return written


def as_svg(figure: Figure) -> str:
    """A figure as the text of an SVG file, its letters drawn, so that it looks alike everywhere."""
    with rc_context(PICTURE | {"svg.fonttype": "path"}), io.StringIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
        return file.getvalue()


def legible(text: str, most: int = 14) -> str:
    """A token as a picture can hold it: letters that the font has, no more of them than fit."""
    known = _letters()
    shown = "".join(letter if ord(letter) in known and letter.isprintable() else "\N{WHITE SQUARE}" for letter in text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def percent(share: float) -> str:
    """A share as it stands in a table."""
    return f"{100 * share:.1f} %"


def cells(rows: Sequence[Sequence[object]]) -> tuple[tuple[str, ...], ...]:
    """Rows of a listing from anything that has a text."""
    return tuple(tuple(str(cell) for cell in row) for row in rows)


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    return frozenset(FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap())
