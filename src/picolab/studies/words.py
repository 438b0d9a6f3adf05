"""The findings in words: each sentence made from figures that stand beside it, and from nothing else.

analysis -> figures (plain numbers and names) -> SENTENCES[kind](figures) -> Finding(kind, says, figures)

Where an axis is a condition and no choice (another corpus, or what the study's `each` names), everything is asked of each value.

Because a sentence is a function of its figures, anybody can make it again from study.json (tests/studies do).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from picolab.compare.bands import Difference
from picolab.studies.effects import Effect, effect_of, rival_of, share_of
from picolab.studies.figures import FIGURES
from picolab.studies.findings import Finding
from picolab.studies.outcome import Outcome
from picolab.studies.pareto import front
from picolab.studies.points import point_said, said, without
from picolab.studies.power_law import power_law
from picolab.studies.result import PointResult
from picolab.studies.study import Axis, Point, Study, Value
from picolab.studies.turning import turn_of

Figures = Mapping[str, Any]
COSTS = {"flops": "training compute", "seconds": "time", "parameters": "parameters", "tokens": "training tokens"}
"""What a point is paid with, in a sentence."""
OTHER_TEXT = (
    "data.spec",
    "data.limit_examples",
    "data.validation",
    "data.seed",
    "data.tokenizer",
    "data.compact_vocab",
)
"""Settings that change what is held out, or what a token is."""


def findings_of(
    study: Study, points: Sequence[PointResult], outcomes: Sequence[Outcome], *, floor: float | None
) -> tuple[Finding, ...]:
    """Everything that the study asks for and its trials can answer."""
    found: list[tuple[str, Figures]] = []
    if "turning" in study.ask:
        found += _turns(points, outcomes)
    for given in conditions_of(study, points):
        mine = [point for point in points if given.holds(point.point)]
        theirs = [outcome for outcome in outcomes if given.holds(outcome.point)]
        for kind, figures in _asked(study, given, mine, theirs, floor):
            found.append((kind, {**figures, "given": given.says}))
    if other := [axis.short for axis in study.axes if axis.name in OTHER_TEXT]:
        found.append(("other_text", {"axes": other}))
    found += _unfinished(outcomes)
    if not study.has_bands:
        found.append(("one_seed", {"seed": study.seeds[0]}))
    return tuple(Finding(kind=kind, says=sentence(kind, figures), figures=figures) for kind, figures in found)


def sentence(kind: str, figures: Figures) -> str:
    """The sentence of a finding, made from its figures."""
    says = SENTENCES[kind](figures)
    return under(str(figures.get("given", "")), says)


def under(given: str, says: str) -> str:
    """A sentence under a condition."""
    return f"With {given}, {says[0].lower()}{says[1:]}" if given else says


@dataclass(frozen=True, slots=True)
class Given:
    """A value of every condition; none at all where a study has no condition."""

    values: Mapping[str, Value]

    @property
    def says(self) -> str:
        return point_said(self.values) if self.values else ""

    def holds(self, point: Point) -> bool:
        return all(point[name] == value for name, value in self.values.items())


def conditions_of(study: Study, points: Sequence[PointResult]) -> list[Given]:
    """Each combination of the conditions' values that a point has, in order."""
    seen = [{name: point.point[name] for name in study.conditions} for point in points]
    return [Given(values) for place, values in enumerate(seen) if values not in seen[:place]]


def _asked(
    study: Study, given: Given, points: Sequence[PointResult], outcomes: Sequence[Outcome], floor: float | None
) -> list[tuple[str, Figures]]:
    """What is asked of the points of one condition."""
    found: list[tuple[str, Figures]] = []
    axes = [axis for axis in study.axes if axis.name not in given.values]
    if "effects" in study.ask:
        found += _effects(study, axes, outcomes) if study.method == "grid" else _shares(study, axes, points)
    if "power_law" in study.ask:
        found += _power_laws(points, floor)
    if "pareto" in study.ask:
        found += _front(study, points)
    return found


# What is found, as figures.


def _effects(study: Study, axes: Sequence[Axis], outcomes: Sequence[Outcome]) -> list[tuple[str, Figures]]:
    found: list[tuple[str, Figures]] = []
    for goal in (study.goal, *study.also):
        lower = FIGURES[goal].lower is not False
        made = (effect_of(axis, outcomes, goal, lower=lower) for axis in axes)
        effects = sorted((e for e in made if e is not None), key=lambda e: (not e.size.told_apart, -abs(e.size.mean)))
        found += [
            ("effect", {**_effect(effect, goal), "rank": rank, "of": len(effects)})
            for rank, effect in enumerate(effects, 1)
        ]
        sure = [effect for effect in effects if effect.size.told_apart]
        if (
            goal == study.goal
            and len(sure) > 1
            and (rival := rival_of(sure[0], sure[1])) is not None
            and rival.margin is not None
        ):
            names = {"first": sure[0].axis.short, "second": sure[1].axis.short, "figure": goal}
            found.append(("rival", {**names, **_gap(rival)}))
        for effect in effects:
            # Where best and worst are not told apart, no pair between them is: the sentence above has said it.
            if effect.not_told_apart and effect.size.told_apart:
                pairs = [{"a": said(a), "b": said(b), **_gap(gap)} for a, b, gap in effect.not_told_apart]
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
        **_gap(effect.size),
    }


def _gap(gap: Difference) -> dict[str, Any]:
    return {"difference": gap.mean, "margin": gap.margin, "seeds": gap.seeds, "told_apart": gap.told_apart}


def _shares(study: Study, axes: Sequence[Axis], points: Sequence[PointResult]) -> list[tuple[str, Figures]]:
    means = {p.number: p.figures[study.goal].mean for p in points if p.status == "finished" and study.goal in p.figures}
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


def _turns(points: Sequence[PointResult], outcomes: Sequence[Outcome]) -> list[tuple[str, Figures]]:
    found: list[tuple[str, Figures]] = []
    for point in points:
        turn = turn_of(point.number, outcomes)
        if turn is None:
            continue
        figures = {
            "point": point_said(point.point), "step": turn.step.mean, "step_low": turn.step.low, "step_high": turn.step.high,
            "last_step": turn.last_step, "seeds": turn.step.seeds, "rise": turn.rise.mean, "rise_margin": turn.rise.margin,
            "fall": turn.fall.mean, "fall_margin": turn.fall.margin, "claimed": turn.claimed,
        }  # fmt: skip
        found.append(("turn", figures))
        if turn.memorised is not None and turn.distinct is not None:
            parts = {"memorised": turn.memorised, "distinct": turn.distinct}
            found.append(
                (
                    "by_heart",
                    {"point": point_said(point.point)}
                    | {
                        f"{name}_{moment}": one.mean
                        for name, three in parts.items()
                        for moment, one in zip(("first", "turn", "last"), three, strict=True)
                    },
                )
            )
    return found


def _power_laws(points: Sequence[PointResult], floor: float | None) -> list[tuple[str, Figures]]:
    whole = [
        p for p in points if p.status == "finished" and {"parameters", "tokens", "flops", "loss"} <= set(p.figures)
    ]
    if not whole:
        return []
    means = {
        p.number: {name: p.figures[name].mean for name in ("parameters", "tokens", "flops", "loss")} for p in whole
    }
    most_tokens, most_parameters = (max(one[name] for one in means.values()) for name in ("tokens", "parameters"))
    kept = front({n: one["flops"] for n, one in means.items()}, {n: one["loss"] for n, one in means.items()})
    chosen = {
        # Budgets are rounded to whole steps: nearly the most counts as the most.
        "parameters": [one for one in means.values() if one["tokens"] > 0.9 * most_tokens],
        "tokens": [one for one in means.values() if one["parameters"] > 0.9 * most_parameters],
        "flops": [means[number] for number in kept],
    }
    found: list[tuple[str, Figures]] = []
    for name, rows in chosen.items():
        fit = power_law([row[name] for row in rows], [row["loss"] for row in rows], floor=floor)
        if fit is not None:
            figures = {
                **asdict(fit),
                "x": name,
                "told_from_flat": fit.told_from_flat,
                "tenfold": fit.tenfold,
                "floor_known": floor is not None,
            }
            found.append(("power_law", figures))
    return found


def _front(study: Study, points: Sequence[PointResult]) -> list[tuple[str, Figures]]:
    whole = [p for p in points if p.status == "finished" and {study.cost, study.goal} <= set(p.figures)]
    if len(whole) < 2:
        return []
    cost = {p.number: p.figures[study.cost].mean for p in whole}
    goal = {p.number: p.figures[study.goal].mean for p in whole}
    names = {p.number: point_said(without(p.point, study.conditions)) for p in whole}
    kept = front(cost, goal, lower=FIGURES[study.goal].lower is not False)
    on = [{"point": names[n], "number": n, "cost": cost[n], "goal": goal[n]} for n in kept]
    return [("front", {"figure": study.goal, "cost": study.cost, "points": on, "of": len(whole)})]


def _unfinished(outcomes: Sequence[Outcome]) -> list[tuple[str, Figures]]:
    found: list[tuple[str, Figures]] = []
    pruned = [o for o in outcomes if o.status == "pruned"]
    if pruned:
        found.append(("pruned", {"count": len(pruned), "of": len(outcomes)}))
    found += [
        ("failed", {"point": point_said(o.point), "seed": o.seed, "reason": o.reason or "no reason was recorded"})
        for o in outcomes
        if o.status == "failed"
    ]
    return found


# Figures, as sentences.


def _say_effect(f: Figures) -> str:
    figure = FIGURES[f["figure"]]
    where = " on average over the other settings" if f["combinations"] > 1 else ""
    way = "rises" if f["difference"] >= 0 else "falls"
    what = f"from {f['best']} to {f['worst']} the {figure.says} {way} by {_size(f)} {figure.unit}".rstrip() + where
    only = f["of"] == 1
    if f["margin"] is None:
        return f"{f['axis']}: {what}, on one seed."
    if not f["told_apart"]:
        of = "" if len(f["levels"]) == 2 else f" between any two of its {len(f['levels'])} values"
        return f"{f['axis']} makes no difference{of} that {f['seeds']} seeds can tell: {what}."
    if f["rank"] == 1:
        return f"{f['axis']} {'matters' if only else 'matters most'}: {what}."
    return f"{f['axis']} matters as well: {what}."


def _say_rival(f: Figures) -> str:
    figure = FIGURES[f["figure"]]
    if f["told_apart"]:
        return f"The effect of {f['first']} is larger than that of {f['second']} by {_size(f)} {figure.unit}."
    return (
        f"Whether {f['first']} or {f['second']} matters more cannot be told with {f['seeds']} seeds: "
        f"their effects differ by {_size(f)} {figure.unit}."
    )


def _say_not_told_apart(f: Figures) -> str:
    shown = [f"{pair['a']} and {pair['b']} ({_size({**pair, 'figure': f['figure']})})" for pair in f["pairs"][:4]]
    more = len(f["pairs"]) - len(shown)
    seeds = f["pairs"][0]["seeds"]
    of = "" if f["figure"] in ("loss", "best_loss") else f" by the {FIGURES[f['figure']].says}"
    return (
        f"Values of {f['axis']} not told apart{of} with {seeds} seeds: {', '.join(shown)}"
        + (f", and {more} more pair{'s' * (more > 1)}" if more else "")
        + "."
    )


def _say_share(f: Figures) -> str:
    figure = FIGURES[f["figure"]]
    searched = "; the search chose these points, which flatters what it preferred" if f["searched"] else ""
    what = f"{f['explained']:.0%} of the variation of the {figure.says} between {f['points']} points"
    if f["chance"] > 0.05:
        return f"{f['axis']} explains {what}, no more than chance would (p = {f['chance']:.3f}){searched}."
    most = "most" if f["rank"] == 1 else "as well"
    return f"{f['axis']} explains {most}: {what} (p = {f['chance']:.3f}, by permutation){searched}."


def _say_turn(f: Figures) -> str:
    span = (
        f" ({f['step_low']:.0f} to {f['step_high']:.0f} over {f['seeds']} seeds)" if f["seeds"] > 1 else " (one seed)"
    )
    if not f["claimed"]:
        return (
            f"{f['point']}: no turn can be claimed by step {f['last_step']}: the validation loss is lowest at step "
            f"{f['step']:.0f}{span} and ends {_pm(f['rise'], f['rise_margin'])} nats a token above that."
        )
    return (
        f"{f['point']}: overfitting begins at step {f['step']:.0f}{span}. From there to step {f['last_step']} the validation loss "
        f"rises by {_pm(f['rise'], f['rise_margin'])} while the training loss falls by "
        f"{_pm(f['fall'], f['fall_margin'])} nats a token."
    )


def _say_by_heart(f: Figures) -> str:
    return (
        f"{f['point']}: of the 4-grams in samples, {f['memorised_first']:.0%} stand in the training text at first, "
        f"{f['memorised_turn']:.0%} at the lowest validation loss and {f['memorised_last']:.0%} at the end; "
        f"different ones among them "
        f"are {f['distinct_first']:.0%}, {f['distinct_turn']:.0%} and {f['distinct_last']:.0%}."
    )


def _say_power_law(f: Figures) -> str:
    x = {"parameters": "parameters", "tokens": "training tokens", "flops": "training compute"}[f["x"]]
    above = f"validation loss above the floor of {f['floor']:.3f}" if f["floor_known"] else "validation loss"
    range_ = f"{f['points']} points from {_short(f['low'])} to {_short(f['high'])}"
    exponent = f"exponent {f['exponent']:.3f} ± {f['margin']:.3f}"
    if not f["told_from_flat"]:
        return f"{x}: {exponent} over {range_}, not told from no change of the {above}."
    way = "falls" if f["exponent"] > 0 else "rises"
    return (
        f"{x}: {above} {way} with {exponent} ({range_}, R² {f['r_squared']:.3f}): "
        f"ten times as much multiplies it by {f['tenfold']:.2f}."
    )


def _say_front(f: Figures) -> str:
    cost = FIGURES[f["cost"]]
    names = [f"{one['point']} ({one['goal']:.3f} for {_short(one['cost'])}{cost.unit})" for one in f["points"][:5]]
    more = len(f["points"]) - len(names)
    return (
        f"{len(f['points'])} of {f['of']} points {'is' if len(f['points']) == 1 else 'are'} worth the {COSTS[f['cost']]}, "
        f"nothing that takes less is better: {'; '.join(names)}" + (f"; and {more} more" if more else "") + "."
    )


def _say_pruned(f: Figures) -> str:
    return f"{f['count']} of {f['of']} trials were ended early, worse than the median of earlier ones; they have no last loss."


def _say_failed(f: Figures) -> str:
    return f"{f['point']}, seed {f['seed']} did not finish: {f['reason']}."


def _say_other_text(f: Figures) -> str:
    return (
        f"Points that differ in {' or '.join(f['axes'])} are scored on different text, so a difference between them is one of "
        "text as well."
    )


def _say_one_seed(f: Figures) -> str:
    return "One seed gives no band, so chance cannot be told from a real difference: ask for 3 seeds or more."


def _size(f: Figures) -> str:
    return _pm(abs(f["difference"]), f["margin"], FIGURES[f["figure"]].digits)


def _pm(value: float, margin: float | None, digits: int = 3) -> str:
    return f"{value:,.{digits}f}" + ("" if margin is None else f" ± {margin:,.{digits}f}")


def _short(value: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} "


SENTENCES: dict[str, Callable[[Figures], str]] = {
    "effect": _say_effect,
    "rival": _say_rival,
    "not_told_apart": _say_not_told_apart,
    "share": _say_share,
    "turn": _say_turn,
    "by_heart": _say_by_heart,
    "power_law": _say_power_law,
    "front": _say_front,
    "pruned": _say_pruned,
    "failed": _say_failed,
    "other_text": _say_other_text,
    "one_seed": _say_one_seed,
}
