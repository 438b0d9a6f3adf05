"""Which setting matters most, by how much, and which values cannot be told apart? In words; studies/effects.py counts.

effect          lr matters most: from 0.002 to 0.001 the validation loss rises by 0.110 ± 0.031 nats a token.
rival           Whether lr or n_layers matters more cannot be told with 3 seeds: ..
not_told_apart  Values of lr not told apart with 3 seeds: 0.002 and 0.004 (0.012 ± 0.031).
share           lr explains most: 61% of the variation of the validation loss between 20 points ..     (drawn points)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from picolab.studies.effects import Effect, effect_of, rival_of, share_of
from picolab.studies.figures import FIGURES
from picolab.studies.outcome import Outcome
from picolab.studies.points import said
from picolab.studies.result import PointResult
from picolab.studies.study import Axis, Study
from picolab.studies.words.numbers import Figures, Found, gap_figures, size_said


def effects_found(study: Study, axes: Sequence[Axis], outcomes: Sequence[Outcome]) -> Found:
    """What each axis of a grid does to the goal and to the other figures asked about."""
    found: Found = []
    for goal in (study.goal, *study.also):
        made = (effect_of(axis, outcomes, goal, lower=FIGURES[goal].wants_small) for axis in axes)
        effects = sorted((e for e in made if e is not None), key=lambda e: (not e.size.told_apart, -abs(e.size.mean)))
        most = _has_largest_first(effects)
        found += [
            ("effect", {**_effect(effect, goal), "rank": rank, "of": len(effects), "most": most and rank == 1})
            for rank, effect in enumerate(effects, 1)
        ]
        if goal == study.goal:
            found += _rivals([effect for effect in effects if effect.size.told_apart], goal)
        for effect in effects:
            # Where best and worst are not told apart, no pair between them is: the sentence above has said it.
            if effect.not_told_apart and effect.size.told_apart:
                pairs = [{"a": said(a), "b": said(b), **gap_figures(gap)} for a, b, gap in effect.not_told_apart]
                found.append(("not_told_apart", {"axis": effect.axis.short, "figure": goal, "pairs": pairs}))
    return found


def _effect(effect: Effect, figure: str) -> dict[str, Any]:
    return {
        "axis": effect.axis.short,
        "figure": figure,
        "best": said(effect.levels[0].value),
        "worst": said(effect.levels[-1].value),
        "best_mean": effect.levels[0].mean,
        "worst_mean": effect.levels[-1].mean,
        "levels": [{"value": said(level.value), "mean": level.mean} for level in effect.levels],
        "combinations": effect.contexts,
        **gap_figures(effect.size),
    }


def _has_largest_first(effects: Sequence[Effect]) -> bool:
    """Whether the first effect is larger than every other one by more than chance: only then it matters most."""
    if len(effects) < 2 or not effects[0].size.told_apart:
        return False
    runner_up = max(effects[1:], key=lambda effect: abs(effect.size.mean))
    gap = rival_of(effects[0], runner_up)
    return gap is not None and gap.told_apart and gap.mean > 0


def _rivals(sure: Sequence[Effect], figure: str) -> Found:
    """Whether the larger of the two largest effects is that by more than chance."""
    if len(sure) < 2 or (rival := rival_of(sure[0], sure[1])) is None or rival.margin is None:
        return []
    names = {"first": sure[0].axis.short, "second": sure[1].axis.short, "figure": figure}
    return [("rival", {**names, **gap_figures(rival)})]


def shares_found(study: Study, axes: Sequence[Axis], points: Sequence[PointResult]) -> Found:
    """What each axis explains of the variation between drawn points."""
    means = {p.number: p.figures[study.goal].mean for p in points if p.has(study.goal)}
    values = {p.number: p.point for p in points}
    made = (share_of(axis, means, values, seed=study.search_seed) for axis in axes)
    shares = sorted((share for share in made if share is not None), key=lambda share: -share.explained)
    return [
        (
            "share",
            {
                "axis": share.axis.short, "figure": study.goal, "explained": share.explained, "chance": share.chance,
                "points": share.points, "rank": rank, "searched": study.method == "tpe",
            },
        )
        for rank, share in enumerate(shares, 1)
    ]  # fmt: skip


def say_effect(f: Figures) -> str:
    """What a setting does, or that nobody can tell."""
    figure = FIGURES[f["figure"]]
    where = " on average over the other settings" if f["combinations"] > 1 else ""
    way = "rises" if f["difference"] >= 0 else "falls"
    what = f"from {f['best']} to {f['worst']} the {figure.says} {way} by {size_said(f)} {figure.unit}".rstrip() + where
    if f["margin"] is None:
        return f"{f['axis']}: {what}, on one seed."
    if not f["told_apart"]:
        of = "" if len(f["levels"]) == 2 else f" between any two of its {len(f['levels'])} values"
        return f"{f['axis']} makes no difference{of} that {f['seeds']} seeds can tell: {what}."
    if f["rank"] == 1:
        return f"{f['axis']} {'matters most' if f['most'] else 'matters'}: {what}."
    return f"{f['axis']} matters as well: {what}."


def say_rival(f: Figures) -> str:
    """Whether the first of two settings matters more than the second."""
    figure = FIGURES[f["figure"]]
    if f["told_apart"]:
        return f"The effect of {f['first']} is larger than that of {f['second']} by {size_said(f)} {figure.unit}."
    return (
        f"Whether {f['first']} or {f['second']} matters more cannot be told with {f['seeds']} seeds: "
        f"their effects differ by {size_said(f)} {figure.unit}."
    )


def say_not_told_apart(f: Figures) -> str:
    """Which values of a setting seeds cannot tell apart."""
    shown = [f"{pair['a']} and {pair['b']} ({size_said({**pair, 'figure': f['figure']})})" for pair in f["pairs"][:4]]
    more = len(f["pairs"]) - len(shown)
    seeds = f["pairs"][0]["seeds"]
    of = "" if f["figure"] in ("loss", "best_loss") else f" by the {FIGURES[f['figure']].says}"
    return (
        f"Values of {f['axis']} not told apart{of} with {seeds} seeds: {', '.join(shown)}"
        + (f", and {more} more pair{'s' * (more > 1)}" if more else "")
        + "."
    )


def say_share(f: Figures) -> str:
    """What a setting explains of the variation between points, and whether chance would."""
    figure = FIGURES[f["figure"]]
    searched = "; the search chose these points, which flatters what it preferred" if f["searched"] else ""
    what = f"{f['explained']:.0%} of the variation of the {figure.says} between {f['points']} points"
    if f["chance"] > 0.05:
        return f"{f['axis']} explains {what}, no more than chance would (p = {f['chance']:.3f}){searched}."
    most = "most" if f["rank"] == 1 else "as well"
    return f"{f['axis']} explains {most}: {what} (p = {f['chance']:.3f}, by permutation){searched}."
