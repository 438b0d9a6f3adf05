"""The page of an analysis: its sentences, pictures, the attention explorer and its tables in one file.

Exhibit .. -> Section .. -> interpret.html.j2 in the frame of every page
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from picolab.report.embedded import Shown, address_of
from picolab.report.interpretation.exhibit import Exhibit, as_svg
from picolab.report.page import STYLES, Fact, render
from picolab.runs import atomic

SCRIPTS = ("theme.js", "attention.js")


@dataclass(frozen=True, kw_only=True, slots=True)
class InterpretPage:
    """What the page shows."""

    kind: str
    title: str
    lead: str
    facts: tuple[Fact, ...]
    exhibit: Exhibit
    pictures: tuple[Shown, ...]
    warnings: tuple[str, ...]
    command: str
    made: str
    names: tuple[str, ...] = ()

    @property
    def attention(self) -> object:
        """The explorer's data, under the name its template reads."""
        return self.exhibit.attention


def write_interpret_page(
    exhibit: Exhibit, path: Path, *, facts: Sequence[Fact] = (), command: str = "", made: str = ""
) -> Path:
    """Write the page of one analysis."""
    page = InterpretPage(
        kind="interpretation",
        title=exhibit.title,
        lead=exhibit.says[0],
        facts=(Fact(label="Read", value=exhibit.source), *facts),
        exhibit=exhibit,
        pictures=tuple(shown(exhibit)),
        warnings=exhibit.notes,
        command=command,
        made=made,
        names=(exhibit.model,),
    )
    with atomic.reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    styles = (*STYLES, "trace.css")
    atomic.write_text(path, render(page, "interpret.html.j2", scripts=SCRIPTS, styles=styles))
    return path


def shown(exhibit: Exhibit) -> list[Shown]:
    """The pictures of an exhibit as images that need no file."""
    return [
        Shown(
            title=picture.title,
            says=picture.says,
            address=address_of(as_svg(picture.figure)),
        )
        for picture in exhibit.pictures
    ]
