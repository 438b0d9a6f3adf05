"""What was learned of integer sequences, for the page of a comparison: pictures and two tables.

Comparison -> Families: a line a model and family, a line a model and length, pictures as data addresses; None for other data
"""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib import rc_context

from picolab.compare.plots import STYLE
from picolab.compare.result import Comparison
from picolab.compare.sequences import FamilyRow
from picolab.compare.sequences_plots import families_figure, lengths_figure, rules_figure
from picolab.compare.sequences_words import CLOSE, RIGHT, fails, judged_part
from picolab.measure.sequences import CERTAIN
from picolab.report import figures
from picolab.report.embedded import Shown, address_of
from picolab.report.interpretation.exhibit import as_svg

METHOD = (
    "For every beginning of a text the exact distribution of what may follow is known (Bayes over all rules). Excess is the mean "
    f"of the model's divergence from it, over all positions. A number is determined where, if one follows, it has at least "
    f"{CERTAIN:.0%} of that distribution and no two rules without chance that fit disagree; there the model's favourite counts. "
    f"A family is failed below {RIGHT:.0%} right, or from {CLOSE} nats a token above the floor. The floor knows every rule, also "
    "those kept back: to a model that learned exactly "
    "what it was shown, a rule kept back is a surprise until its third number."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyLine:
    """One model and family; `right` has a cell for every part."""

    colour: str
    model: str
    family: str
    floor: str
    excess: str
    ending: str
    right: tuple[str, ...]
    failed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class LengthLine:
    """One model: seconds and memory at every length, and how they grow."""

    colour: str
    model: str
    costs: tuple[tuple[str, str], ...]
    growth: tuple[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Families:
    """The section of the page."""

    judged: str
    parts: tuple[str, ...]
    lines: tuple[FamilyLine, ...]
    lengths: tuple[int, ...]
    costs: tuple[LengthLine, ...]
    pictures: tuple[Shown, ...]
    method: str = METHOD


def families_of(comparison: Comparison, colours: dict[str, str]) -> Families | None:
    """The section of a comparison on integer sequences."""
    if not comparison.families:
        return None
    judged = judged_part(comparison.families)
    parts = tuple(dict.fromkeys(row.part for row in comparison.families))
    found = {(row.model, row.part, row.family): row for row in comparison.families}
    with rc_context({**STYLE, "font.family": ["DejaVu Sans"]}):
        drawn = [
            ("Loss at every position of a text, and the floor that no model can be below on average.", families_figure),
            (
                "How many of the determined numbers are right: on rules it trained on, on others, in longer texts.",
                rules_figure,
            ),
            *([("What a longer text costs.", lengths_figure)] if comparison.lengths else []),
        ]
        pictures = tuple(Shown(says=says, address=address_of(as_svg(draw(comparison)))) for says, draw in drawn)
    return Families(
        judged=judged,
        parts=parts,
        lines=tuple(
            _line(row, [found.get((row.model, part, row.family)) for part in parts], colours[row.model])
            for row in comparison.families
            if row.part == judged
        ),
        lengths=tuple(sorted({cost.length for one in comparison.lengths for cost in one.costs})),
        costs=_costs(comparison, colours),
        pictures=pictures,
    )


def _line(row: FamilyRow, parts: list[FamilyRow | None], colour: str) -> FamilyLine:
    return FamilyLine(
        colour=colour,
        model=row.model,
        family=row.family,
        floor=figures.loss(row.floor),
        excess=figures.loss(row.excess.mean),
        ending=figures.loss(row.ending),
        right=tuple(
            figures.NOTHING if part is None or part.accuracy is None else f"{100 * part.accuracy.mean:.1f} %"
            for part in parts
        ),
        failed=fails(row),
    )


def _costs(comparison: Comparison, colours: dict[str, str]) -> tuple[LengthLine, ...]:
    lengths = sorted({cost.length for one in comparison.lengths for cost in one.costs})
    lines = []
    for one in comparison.lengths:
        at = {cost.length: cost for cost in one.costs}
        powers = [figures.NOTHING if p is None else f"n^{p:.2f}" for p in (one.time_growth, one.memory_growth)]
        lines.append(
            LengthLine(
                colour=colours[one.model],
                model=one.model,
                costs=tuple(
                    (f"{1000 * at[n].seconds:.1f} ms", figures.memory(at[n].memory))
                    if n in at
                    else (figures.NOTHING, figures.NOTHING)
                    for n in lengths
                ),
                growth=(powers[0], powers[1]),
            )
        )
    return tuple(lines)
