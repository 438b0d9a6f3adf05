"""What was found? Every question that the study asks, put to its trials; each answer figures first, then a sentence made from them.

    question -> figures (plain numbers and names) -> SENTENCES[kind](figures) -> Finding(kind, says, figures)

Because a sentence is a function of its figures, anybody can make it again from study.json (tests/studies do).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from picolab.studies.findings import Finding
from picolab.studies.outcome import Outcome
from picolab.studies.result import PointResult
from picolab.studies.study import Study
from picolab.studies.words.caveats import caveats_found, say_failed, say_one_seed, say_other_text, say_pruned
from picolab.studies.words.conditions import Given, conditions_of, under
from picolab.studies.words.effects import (
    effects_found,
    say_effect,
    say_not_told_apart,
    say_rival,
    say_share,
    shares_found,
)
from picolab.studies.words.front import front_found, say_front
from picolab.studies.words.numbers import Figures, Found
from picolab.studies.words.power_law import power_laws_found, say_power_law
from picolab.studies.words.turning import say_by_heart, say_turn, turns_found


def findings_of(
    study: Study, points: Sequence[PointResult], outcomes: Sequence[Outcome], *, floor: float | None
) -> tuple[Finding, ...]:
    """Everything that the study asks for and its trials can answer."""
    found = turns_found(points, outcomes) if "turning" in study.ask else []
    for given in conditions_of(study, points):
        mine = [point for point in points if given.holds(point.point)]
        theirs = [outcome for outcome in outcomes if given.holds(outcome.point)]
        answers = _answers(study, given, mine, theirs, floor)
        found += [(kind, {**figures, "given": given.says}) for kind, figures in answers]
    found += caveats_found(study, outcomes)
    return tuple(Finding(kind=kind, says=sentence(kind, figures), figures=figures) for kind, figures in found)


def _answers(
    study: Study, given: Given, points: Sequence[PointResult], outcomes: Sequence[Outcome], floor: float | None
) -> Found:
    """What the points of one condition answer."""
    found: Found = []
    axes = [axis for axis in study.axes if axis.name not in given.values]
    if "effects" in study.ask:
        grid = study.method == "grid"
        found += effects_found(study, axes, outcomes) if grid else shares_found(study, axes, points)
    if "power_law" in study.ask:
        found += power_laws_found(points, floor)
    if "pareto" in study.ask:
        found += front_found(study, points)
    return found


def sentence(kind: str, figures: Figures) -> str:
    """The sentence of a finding, made from its figures."""
    return under(str(figures.get("given", "")), SENTENCES[kind](figures))


SENTENCES: dict[str, Callable[[Figures], str]] = {
    "effect": say_effect,
    "rival": say_rival,
    "not_told_apart": say_not_told_apart,
    "share": say_share,
    "turn": say_turn,
    "by_heart": say_by_heart,
    "power_law": say_power_law,
    "front": say_front,
    "pruned": say_pruned,
    "failed": say_failed,
    "other_text": say_other_text,
    "one_seed": say_one_seed,
}
