"""Integer sequences on the terminal: what each model learned of every family, and what longer texts cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from picolab.cli import console

if TYPE_CHECKING:
    from picolab.compare.result import Comparison
    from picolab.compare.sequences import FamilyRow


def show_families(comparison: Comparison) -> None:
    """A line a model and family: above the floor, and determined numbers right in every part; then seconds and bytes by length."""
    from picolab.compare.sequences_words import judged_part

    judged = judged_part(comparison.families)
    parts = list(dict.fromkeys(row.part for row in comparison.families))
    found = {(row.model, row.part, row.family): row for row in comparison.families}
    rows = [
        [
            row.model,
            row.family,
            console.number(row.floor, 3),
            console.number(row.excess.mean, 3),
            *(_right(found.get((row.model, part, row.family))) for part in parts),
        ]
        for row in comparison.families
        if row.part == judged
    ]
    columns = ["model", "family", "floor", "above", *parts]
    title = f"nats a token on {judged}, and determined numbers right in %"
    console.show(console.table(title, columns, rows, right=columns[2:]))
    if comparison.lengths:
        _show_lengths(comparison)


def _show_lengths(comparison: Comparison) -> None:
    lengths = sorted({cost.length for one in comparison.lengths for cost in one.costs})
    shown = [lengths[0], lengths[-1]]
    rows = []
    for one in comparison.lengths:
        at = {cost.length: cost for cost in one.costs}
        costs = [at.get(length) for length in shown]
        rows.append(
            [
                one.model,
                *("-" if cost is None else f"{1000 * cost.seconds:.1f}" for cost in costs),
                "-" if one.time_growth is None else f"n^{one.time_growth:.2f}",
                *("-" if cost is None else console.size(cost.memory) for cost in costs),
                "-" if one.memory_growth is None else f"n^{one.memory_growth:.2f}",
            ]
        )
    columns = ["model", *(f"ms at {n}" for n in shown), "time", *(f"at {n}" for n in shown), "memory"]
    console.show(console.table("reading a text, remembering it", columns, rows, right=columns[1:]))


def _right(row: FamilyRow | None) -> str:
    return "-" if row is None or row.accuracy is None else f"{100 * row.accuracy.mean:.1f}"
