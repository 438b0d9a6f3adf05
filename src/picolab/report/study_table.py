"""How did every point do? A line a point, the best first, with the figures asked about and those that explain them.

point              loss            parameters
lr 0.002           2.305           68.2 k
                   2.301 to 2.309
"""

from __future__ import annotations

from picolab.report import figures
from picolab.report.page import Cell, Line, Table
from picolab.studies.figures import FIGURES
from picolab.studies.points import point_said, without
from picolab.studies.result import PointResult, StudyResult, best_first

COLUMNS = (
    "loss", "best_loss", "train_loss", "gap", "bits_per_byte", "memorised", "distinct", "repetition", "sample_gap", "parameters",
    "tokens", "tokens_per_second", "seconds",
)  # fmt: skip
MOST_COLUMNS, FEWER, LONG = 6, 5, 30
"""Columns that have room beside the points' names, and beside names of more letters than `LONG`."""
HEADINGS = {"tokens_per_second": "speed"}


def table_of(result: StudyResult) -> Table:
    """The table of all points."""
    constant = [axis.name for axis in result.study.axes if len(axis.values) == 1]
    named = {point.number: point_said(without(point.point, constant)) for point in result.points}
    names = _columns(result)[: MOST_COLUMNS if max(map(len, named.values()), default=0) <= LONG else FEWER]
    reasons = {t.number: t.reason or "" for t in result.trials if t.status != "finished"}
    return Table(
        columns=(("Point", ""), *(_heading(name) for name in names)),
        lines=tuple(
            Line(
                colour="",
                name=_unbroken(named[point.number]),
                says="" if point.status == "finished" else point.status,
                baseline=False,
                cells=tuple(_cell(point, name) for name in names) if result.study.goal in point.figures else (),
                reason=reasons.get(point.number, ""),
            )
            for point in best_first(result.points, result.study.goal)
        ),
        title="Every point",
        caption="Means over seeds; a range is the smallest to the largest seed."
        if result.study.has_bands
        else "One seed a point.",
        long_names=True,
    )


def _unbroken(name: str) -> str:
    """A name that may be cut between two settings, never between a setting and its value."""
    return ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in name.split(", "))


def _columns(result: StudyResult) -> list[str]:
    """What was asked first; a figure that is the same for every point, or says what another has said already, is left out."""
    known = {name for point in result.points for name in point.figures}
    asked = [name for name in (result.study.goal, *result.study.also) if name in known]
    names: list[str] = []
    for name in (*asked, *(name for name in COLUMNS if name in known and name not in asked)):
        said = [point.figures.get(name) for point in result.points]
        again = any(said == [point.figures.get(other) for point in result.points] for other in names)
        alike = len(said) > 1 and all(one == said[0] for one in said)
        if name in asked or not (again or alike):
            names.append(name)
    return names


def _heading(name: str) -> tuple[str, str]:
    unit = FIGURES[name].unit
    return HEADINGS.get(name, name.replace("_", " ")), "" if unit == name else unit


def _cell(point: PointResult, name: str) -> Cell:
    band = point.figures.get(name)
    if band is None:
        return Cell(text=figures.NOTHING, key=None)
    digits = FIGURES[name].digits
    text = figures.short(band.mean) if digits == 0 else f"{band.mean:.{digits}f}"
    spread = (
        f"{band.low:.{digits}f} to {band.high:.{digits}f}"
        if band.seeds > 1 and digits and band.low != band.high
        else ""
    )
    return Cell(text=text, key=band.mean, note=spread)
