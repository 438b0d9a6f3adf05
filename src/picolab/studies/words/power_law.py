"""How fast does the loss fall with parameters, data and compute? In words; studies/power_law.py fits.

    tokens: validation loss falls with exponent 0.200 ± 0.050 (4 points from 1 k to 1 M, R² 0.990): ten times as much ..

    parameters    points with nearly the most tokens        compute    points that nothing cheaper beats
    tokens        points with nearly the most parameters

The three questions are those of Kaplan et al. 2020, arXiv:2001.08361: each is asked where the other two do not hold the loss up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from picolab.studies.figures import shortened
from picolab.studies.pareto import front
from picolab.studies.power_law import power_law
from picolab.studies.result import PointResult
from picolab.studies.words.numbers import Figures, Found

NEEDED = ("parameters", "tokens", "flops", "loss")
NEARLY = 0.9
"""Budgets are rounded to whole steps: nearly the most counts as the most."""


def power_laws_found(points: Sequence[PointResult], floor: float | None) -> Found:
    """The lines that can be fitted."""
    whole = [p for p in points if p.has(*NEEDED)]
    if not whole:
        return []
    means = {p.number: {name: p.figures[name].mean for name in NEEDED} for p in whole}
    most_tokens, most_parameters = (max(one[name] for one in means.values()) for name in ("tokens", "parameters"))
    kept = front({n: one["flops"] for n, one in means.items()}, {n: one["loss"] for n, one in means.items()})
    chosen = {
        "parameters": [one for one in means.values() if one["tokens"] > NEARLY * most_tokens],
        "tokens": [one for one in means.values() if one["parameters"] > NEARLY * most_parameters],
        "flops": [means[number] for number in kept],
    }
    found: Found = []
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


def say_power_law(f: Figures) -> str:
    """The exponent, over which range, and what ten times as much does."""
    x = {"parameters": "parameters", "tokens": "training tokens", "flops": "training compute"}[f["x"]]
    above = f"validation loss above the floor of {f['floor']:.3f}" if f["floor_known"] else "validation loss"
    range_ = f"{f['points']} points from {shortened(f['low'])} to {shortened(f['high'])}"
    exponent = f"exponent {f['exponent']:.3f} ± {f['margin']:.3f}"
    if not f["told_from_flat"]:
        return f"{x}: {exponent} over {range_}, not told from no change of the {above}."
    way = "falls" if f["exponent"] > 0 else "rises"
    return (
        f"{x}: {above} {way} with {exponent} ({range_}, R² {f['r_squared']:.3f}): "
        f"ten times as much multiplies it by {f['tenfold']:.2f}."
    )
