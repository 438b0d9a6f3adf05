"""How is a study told in a terminal? Its points, the best first, what was found in words, and where everything lies.

wide      model  lr     loss   over seeds      seconds      only settings that vary; a status only where one is not `finished`
narrow    the same without seconds; then the settings of a point as words, which may take two lines
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, Any

from picolab.cli import console

if TYPE_CHECKING:
    from picolab.studies.result import PointResult, StudyResult
    from picolab.studies.study import Axis

MOST = 24
"""Points that are shown."""
NAME = "point"
Column = tuple[str, list[str]]


def tell(result: StudyResult, folder: Path, page: Path) -> None:
    """The points, what was found in words, where everything lies."""
    width = get_terminal_size().columns if sys.stdout.isatty() else None  # in a pipe a sentence is a line
    console.show(points_table(result, width or console.PIPE_WIDTH))
    print()
    for sentence in result.words:
        print(sentence if width is None else fill(sentence, width, subsequent_indent="  ", break_on_hyphens=False))
    print(f"\nreport  {page}\ndata    {folder / 'study.json'}  {folder / 'study.csv'}\nplots   {folder / 'plots'}")
    if result.recommendation is not None:
        chosen = [trial for trial in result.finished if trial.number == result.recommendation.number]
        here = next((trial for trial in chosen if (folder / trial.run).is_dir()), None)
        if here is not None:  # with --storage it may lie on another machine
            print(f"next    picolab generate --model {folder / here.run}")


def points_table(result: StudyResult, width: int) -> Any:
    """The best points of each condition first, a line each, in as many columns as the width holds."""
    from picolab.studies.figures import FIGURES

    points, figure = _shown(result), FIGURES[result.study.goal]
    settings, last = _settings(result, points), _figures(result, points)
    name = _name(result, points)
    for columns in (settings + last, settings + last[:-1], [name, *last], [name, *last[:-1]]):
        if sum(max(map(len, [head, *cells]), default=0) + 2 for head, cells in columns) - 2 <= width:
            break
    heads = [head for head, _ in columns]
    unit = f" in {figure.unit}" if figure.unit else ""
    title = f"{result.study.name}: {figure.says}{unit}{figure.way}"
    if len(points) < len(result.points):
        title += f" (best {len(points)} of {len(result.points)} points)"
    rows = zip(*(cells for _, cells in columns), strict=True)
    return console.table(title, heads, rows, right=[head for head in heads if head not in (NAME, "status")])


def _shown(result: StudyResult) -> list[PointResult]:
    """Best first; of another corpus or another condition apart, because no figure of it is better or worse."""
    from picolab.studies.result import best_first
    from picolab.studies.words.conditions import conditions_of

    given = conditions_of(result.study, result.points)
    groups = [[point for point in result.points if one.holds(point.point)] for one in given]
    most = max(1, MOST // max(1, len(groups)))
    return [point for group in groups for point in best_first(group, result.study.goal)[:most]]


def _varied(result: StudyResult) -> list[Axis]:
    """The axes with several values; all of them where none has."""
    axes = result.study.axes
    return [axis for axis in axes if len({point.point[axis.name] for point in result.points}) > 1] or list(axes)


def _settings(result: StudyResult, points: Sequence[PointResult]) -> list[Column]:
    from picolab.studies.points import said

    return [(axis.short, [said(point.point[axis.name]) for point in points]) for axis in _varied(result)]


def _name(result: StudyResult, points: Sequence[PointResult]) -> Column:
    from picolab.studies.points import point_said

    varied = [axis.name for axis in _varied(result)]
    return NAME, [point_said({name: point.point[name] for name in varied}) for point in points]


def _figures(result: StudyResult, points: Sequence[PointResult]) -> list[Column]:
    """The goal, its spread where there are seeds, the status where one has none; seconds last, which can be spared."""
    from picolab.studies.figures import FIGURES

    goal, figure = result.study.goal, FIGURES[result.study.goal]
    bands = [point.figures.get(goal) for point in points]
    seconds = [point.figures.get("seconds") for point in points]
    columns = [(goal, [console.number(None if band is None else band.mean, figure.digits) for band in bands])]
    if result.study.has_bands:
        spans = [
            "-" if band is None or band.seeds == 1 else f"{band.low:.{figure.digits}f} to {band.high:.{figure.digits}f}"
            for band in bands
        ]
        columns.append(("over seeds", spans))
    if any(point.status != "finished" for point in points):
        columns.append(("status", [point.status for point in points]))
    columns.append(("seconds", [console.number(None if band is None else band.mean, 1) for band in seconds]))
    return columns
