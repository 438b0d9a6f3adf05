"""What is a narration made of? Sections in the reader's order, each a few steps; a step is one place with its numbers and one
sentence about them.

    Narration  the model, the text, what must be known first
      Section    "card" "tokens" "embedding" "positions" "block" .. "head" "loss" "backward" "clipping" "optimizer"
        Step       title, site, formula, shape, statistics, a few values, what they mean here, the line that computed them, tables

Data only: the terminal, Markdown, JSON and the page are drawn from the same steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from picolab.trace.statistics import Statistics


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The line that computed a value: `file` as an import names it (`picolab/parts/rope.py`), `line` from 1."""

    file: str
    line: int
    code: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Values:
    """A few numbers of a tensor, and which ones: `token 3 " cat", head 0, lanes 0 to 5`."""

    where: str
    numbers: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows of text under names of columns; those in `right` hold numbers. `level` is the detail from which it is shown."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    right: tuple[str, ...] = ()
    level: str = "normal"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One place of the pass. What a step is not about is None: a card has no site, a loss no lanes.

    `says` is made from the numbers. `level` is the detail from which the step is shown: brief, normal, full.
    """

    title: str
    says: str
    site: str | None = None
    formula: str | None = None
    shape: tuple[int, ...] | None = None
    dims: str | None = None
    dtype: str | None = None
    statistics: Statistics | None = None
    values: tuple[Values, ...] = ()
    source: Source | None = None
    tables: tuple[Table, ...] = ()
    level: str = "normal"


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Steps that belong together. `kind` is one of `KINDS`; `layer` the block it is about; `says` the whole of it in a line."""

    kind: str
    title: str
    says: str
    steps: tuple[Step, ...] = ()
    layer: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A token of the text: its position, id, and how it is shown (quoted, spaces visible)."""

    position: int
    id: int
    piece: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Narration:
    """One pass, told. `notes` come first: an untrained model, projections of zeros, where a text was taken from.

    `followed` is the position whose values are shown where one has to be chosen.
    """

    model: str
    architecture: str
    engine: str
    words: tuple[Word, ...]
    followed: int
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()

    def section(self, kind: str, layer: int | None = None) -> Section:
        """The first section of a kind (and layer)."""
        return next(s for s in self.sections if s.kind == kind and layer in (None, s.layer))


LEVELS = ("brief", "normal", "full")
"""How much is told."""

KINDS = (
    "card", "tokens", "embedding", "positions", "block", "recurrence", "hidden", "head", "loss", "backward", "clipping",
    "optimizer",
)  # fmt: skip
"""Kinds of sections, in the reader's order."""
