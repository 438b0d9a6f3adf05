"""Where do a study's points come from? A grid and random draws know them all; a search that learns adds one when it is asked.

Search.points() -> the points there are, in order        Search.grow() -> whether one was added
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from picolab.errors import BadSetting
from picolab.runs import names
from picolab.studies.points import drawn, grid, point_said
from picolab.studies.storage import Storage
from picolab.studies.study import PRESET, Axis, Point, Study
from picolab.zoo import ARCHITECTURES, PRESETS, check_settings


class Search(Protocol):
    """A source of points; any process may ask, at any time."""

    def points(self) -> Sequence[Point]: ...

    def grow(self) -> bool: ...


class Listed:
    """All points of a grid, or all that were drawn."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = points

    def points(self) -> Sequence[Point]:
        return self._points

    def grow(self) -> bool:
        return False


def search_of(study: Study, storage: Storage) -> Search:
    """The search that a study asks for."""
    if study.method == "tpe":
        from picolab.studies.tpe import Tpe

        return Tpe(study, storage)
    return Listed(listed(study))


def listed(study: Study) -> list[Point]:
    """The points of a grid or of random draws, each refused here if its model cannot be built."""
    points = grid(study) if study.method == "grid" else drawn(study)
    for point in points:
        check_buildable(study, point)
    return points


def check_buildable(study: Study, point: Point) -> None:
    """Refuse a point whose sizes do not go together, before anything is trained."""
    given = {**study.settings, **{name: value for name, value in point.items() if value is not None}}
    preset = PRESETS[str(given.get(PRESET, study.presets[0]))]
    fields = {
        name[6:]: names.scalar(value)
        for name, value in given.items()
        if name.startswith("model.")
        and name != PRESET
        and Axis(name=name, values=(value,)).concerns(str(given.get(PRESET, study.presets[0])))
    }
    try:
        ARCHITECTURES[preset.architecture].config(**check_settings(preset.architecture, {**preset.settings, **fields}))
    except BadSetting as error:
        raise BadSetting(f"point {point_said(point)}: {error}", hint=error.hint) from error
