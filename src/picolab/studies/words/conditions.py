"""Of what is a question asked once, and of what again and again? Of each value of an axis that is a condition and no choice.

    data stories      lr 0.001, lr 0.002   -> "With data stories, lr matters most: .."
    data 3seqs        lr 0.001, lr 0.002   -> "With data 3seqs, lr makes no difference .."

A condition is another corpus, or what the study's `each` names: nobody chooses between those by their loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from picolab.studies.points import point_said
from picolab.studies.result import PointResult
from picolab.studies.study import Point, Study, Value


@dataclass(frozen=True, slots=True)
class Given:
    """A value of every condition; none at all where a study has no condition."""

    values: Mapping[str, Value]

    @property
    def says(self) -> str:
        """Its values, as a sentence begins with them."""
        return point_said(self.values) if self.values else ""

    def holds(self, point: Point) -> bool:
        """Whether a point has these values."""
        return all(point[name] == value for name, value in self.values.items())


def conditions_of(study: Study, points: Sequence[PointResult]) -> list[Given]:
    """Each combination of the conditions' values that a point has, in order."""
    seen = [{name: point.point[name] for name in study.conditions} for point in points]
    return [Given(values) for place, values in enumerate(seen) if values not in seen[:place]]


def under(given: str, says: str) -> str:
    """A sentence under a condition."""
    return f"With {given}, {says[0].lower()}{says[1:]}" if given else says
