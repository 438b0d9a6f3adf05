"""How is a difference written in a sentence? With its margin, in as many digits as its figure has.

mean 0.1104, margin 0.0312, a loss  -> 0.110 ± 0.031            one seed -> 0.110
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from picolab.compare.bands import Difference
from picolab.studies.figures import FIGURES

Figures = Mapping[str, Any]
"""What a sentence is made from: plain numbers and names, as study.json holds them."""
Found = list[tuple[str, Figures]]
"""Kinds of sentence, each with its figures."""


def gap_figures(gap: Difference) -> dict[str, Any]:
    """A difference as figures."""
    return {"difference": gap.mean, "margin": gap.margin, "seeds": gap.seeds, "told_apart": gap.told_apart}


def size_said(f: Figures) -> str:
    """How large the difference of some figures is, whatever its sign."""
    return plus_minus(abs(f["difference"]), f["margin"], FIGURES[f["figure"]].digits)


def plus_minus(value: float, margin: float | None, digits: int = 3) -> str:
    """A mean and its margin, where it has one."""
    return f"{value:,.{digits}f}" + ("" if margin is None else f" ± {margin:,.{digits}f}")
