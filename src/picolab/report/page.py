"""One page: what it shows, as data, and its rendering into a single HTML file that asks nobody for anything.

    Page -> Jinja2 (templates/page.html.j2 in frame.html.j2, everything escaped) + assets/*.css + assets/*.js -> one string

The page forbids itself the network: its content security policy allows no request at all, and no script but its own (by hash).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from picolab.report import figures
from picolab.report.embedded import Shown
from picolab.runs import atomic

SCRIPTS = ("theme.js", "table.js", "samples.js", "curves.js", "attention.js")
STYLES = ("base.css", "parts.css", "attention.css", "interpret.css", "sequences.css")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One figure of the page's head: what it is, its value, and in what sense."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A vertical line in the dot plot: the floor, the baseline, the uniform guess; `at` in percent of the width."""

    label: str
    value: float
    at: float
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Dots:
    """One model's line of the dot plot; places in percent of the width."""

    model: str
    colour: str
    low: float
    width: float
    mean: float
    seeds: tuple[float, ...]
    value: str
    spread: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DotPlot:
    """Final losses on one axis."""

    rows: tuple[Dots, ...]
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]
    axis: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A cell of the table: what is read, what it is sorted by (None sorts last), and a second, smaller line."""

    text: str
    key: float | str | None
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A row of the table; `colour` is its curve's, empty where it has none; `reason` says why a model has no figures."""

    colour: str
    name: str
    says: str
    baseline: bool
    cells: tuple[Cell, ...]
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Columns are (heading, unit or direction); the first column names the line. `long_names` may take several lines."""

    columns: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]
    title: str = "The figures"
    caption: str = "All losses are on the held-out split; a range is the smallest to the largest seed."
    long_names: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Composition:
    """Where a model's parameters are: (part, percent), largest first."""

    model: str
    total: str
    parts: tuple[tuple[str, float], ...]
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One text among others of the same tab."""

    title: str
    colour: str
    note: str
    prompt: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Tab:
    """Texts that belong side by side: one way of sampling, or one step of a run."""

    label: str
    says: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """The way to another page beside this one: `href` is relative, `says` what is found there."""

    label: str
    href: str
    says: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Everything a page shows. An empty part is left out of the page; `curves` and `attention` are the scripts' data."""

    kind: str
    title: str
    lead: str
    facts: tuple[Fact, ...]
    words: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    dots: DotPlot | None = None
    curves: Mapping[str, Any] | None = None
    pictures: tuple[Shown, ...] = ()
    table: Table | None = None
    compositions: tuple[Composition, ...] = ()
    samples_lead: str = ""
    tabs: tuple[Tab, ...] = ()
    attention: tuple[Mapping[str, Any], ...] = ()
    learned: tuple[Any, ...] = ()
    families: Any = None
    method: tuple[tuple[str, str], ...] = ()
    command: str = ""
    made: str = ""


class Framed(Protocol):
    """What the frame of any page shows."""

    @property
    def kind(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def lead(self) -> str: ...
    @property
    def facts(self) -> tuple[Fact, ...]: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...
    @property
    def made(self) -> str: ...


def render(
    page: Framed,
    template: str = "page.html.j2",
    *,
    scripts: Sequence[str] = SCRIPTS,
    styles: Sequence[str] = STYLES,
) -> str:
    """The page as one HTML document."""
    environment = Environment(
        loader=PackageLoader("picolab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = figures.printable
    environment.filters["named"] = _named
    environment.filters["ticked"] = _ticked
    script = "\n".join(_asset(name) for name in scripts)
    return environment.get_template(template).render(
        page=page,
        style=Markup("\n".join(_asset(name) for name in styles)),
        script=Markup(script),
        script_hash=_hash(f"\n{script}\n"),
    )


def write(page: Page, path: Path) -> Path:
    """Render into a file, whole or not at all."""
    with atomic.reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, render(page))
    return path


def _named(sentence: str, names: tuple[str, ...]) -> Markup:
    """The sentence, escaped, with the models' names set apart."""
    pieces = []
    for word in sentence.split(" "):
        bare = word.rstrip(".,;:")
        if bare in names:
            pieces.append(Markup("<b>{}</b>{}").format(bare, word[len(bare) :]))
        else:
            pieces.append(Markup("{}").format(word))
    return Markup(" ").join(pieces)


def _ticked(sentence: str) -> Markup:
    """The sentence, escaped, with what stands between backticks as code."""
    pieces = sentence.split("`")
    if len(pieces) % 2 == 0:  # one without a partner
        return Markup("{}").format(sentence)
    return Markup("").join(
        Markup("<code>{}</code>" if number % 2 else "{}").format(piece) for number, piece in enumerate(pieces)
    )


def _asset(name: str) -> str:
    return files("picolab.report").joinpath("assets", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
