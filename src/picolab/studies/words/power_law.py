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


def fitted_points(points: Sequence[PointResult]) -> dict[str, list[PointResult]]:
    """For each of the three questions the points that answer it."""
    whole = {p.number: p for p in points if p.has(*NEEDED)}
    if not whole:
        return {}
    mean = {name: {number: p.figures[name].mean for number, p in whole.items()} for name in NEEDED}
    most = {name: NEARLY * max(mean[name].values()) for name in ("tokens", "parameters")}
    return {
        "parameters": [p for number, p in whole.items() if mean["tokens"][number] > most["tokens"]],
        "tokens": [p for number, p in whole.items() if mean["parameters"][number] > most["parameters"]],
        "flops": [whole[number] for number in front(mean["flops"], mean["loss"])],
    }


def power_laws_found(points: Sequence[PointResult], floor: float | None) -> Found:
    """The lines that can be fitted."""
    found: Found = []
    for name, chosen in fitted_points(points).items():
        fit = power_law([p.figures[name].mean for p in chosen], [p.figures["loss"].mean for p in chosen], floor=floor)
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
