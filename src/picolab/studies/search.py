"""Where do a study's points come from? A grid and random draws know them all; a search that learns adds one when it is asked.

Search.points() -> the points there are, in order        Search.grow() -> whether one was added
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from picolab.data.corpus import open_corpus
from picolab.errors import BadSetting
from picolab.runs import names
from picolab.studies.points import narrowed, point_said, points_of, sampler_of, settings_of
from picolab.studies.storage import Storage
from picolab.studies.study import DATA, PRESET, Axis, Point, Study, Value
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
    return Listed(points_of(study))


def check_points(study: Study) -> None:
    """Refuse a study with a point that cannot be run, or with data that is not there, before anything is written."""
    points = points_of(study) if study.method != "tpe" else _along_axes(study)
    for point in points:
        check_point(study, point)
    for point in {point.get(DATA): point for point in points}.values():
        data = settings_of(study, point, study.seeds[0], Path(), "tried").data
        open_corpus(data.spec, input_dir=data.input_dir, limit_examples=data.limit_examples)


def _along_axes(study: Study) -> list[Point]:
    """Of a search that learns nobody knows the points: each axis is tried along its values, or at places of its range."""
    places = {axis.name: _places(axis) for axis in study.axes}
    first = {name: values[0] for name, values in places.items()}
    return [narrowed(study, {**first, name: value}) for name, values in places.items() for value in values]


def _places(axis: Axis) -> list[Value]:
    """The values of an axis, or both ends of a range and a place between them."""
    if axis.low is None or axis.high is None:
        return list(axis.values)
    places = [axis.low, axis.high, axis.low + (axis.high - axis.low) / 3]
    return [round(value) if axis.integer else value for value in places]


def check_point(study: Study, point: Point) -> None:
    """Refuse a point whose values are none of their settings, or whose sizes do not go together."""
    try:
        _try(study, point)
    except BadSetting as error:
        hint = error.hint
        for axis in study.axes:
            value = point[axis.name]
            if axis.is_range and isinstance(value, float) and _is_runnable(study, {**point, axis.name: round(value)}):
                hint = f"it takes whole numbers: `{axis.short}: {{low: .., high: .., integer: true}}`"
        raise BadSetting(f"point {point_said(point)}: {error}", hint=hint) from error


def _is_runnable(study: Study, point: Point) -> bool:
    try:
        _try(study, point)
    except BadSetting:
        return False
    return True


def _try(study: Study, point: Point) -> None:
    """Make of a point all that can be made of it without data: its settings, its model's, its sampler."""
    given = {**study.settings, **{name: value for name, value in point.items() if value is not None}}
    preset = PRESETS[str(given.get(PRESET, study.presets[0]))]
    fields = {
        name[6:]: names.scalar(value)
        for name, value in given.items()
        if name.startswith("model.")
        and name != PRESET
        and Axis(name=name, values=(value,)).concerns(str(given.get(PRESET, study.presets[0])))
    }
    ARCHITECTURES[preset.architecture].config(**check_settings(preset.architecture, {**preset.settings, **fields}))
    settings_of(study, point, study.seeds[0], Path(), "tried")
    sampler_of(study, point)
