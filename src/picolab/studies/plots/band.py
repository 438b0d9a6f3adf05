"""How are several seeds drawn? As the line of their means, in a band from the smallest to the largest.

seed 0   .  .           ____
seed 1    .   .   ->   /_--_\\__      one seed is its own mean, and has no band
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from picolab.studies.outcome import Outcome


def draw_band(
    plot: Axes, xs: Sequence[float], over: Sequence[Sequence[float]], *, spread: bool, color: str, **look: Any
) -> None:
    """The means over seeds at each x, and where `spread` their span."""
    plot.plot(xs, [statistics.fmean(values) for values in over], color=color, **look)
    if spread:
        low, high = [min(values) for values in over], [max(values) for values in over]
        plot.fill_between(xs, low, high, color=color, alpha=0.18, linewidth=0)


def along_steps(outcomes: Sequence[Outcome], column: str) -> tuple[list[float], list[list[float]]]:
    """The steps of the evaluations that measured something, and what each seed had there."""
    xs, over = [], []
    for place, step in enumerate(outcomes[0].course["step"]):
        known = [o.course[column][place] for o in outcomes if place < len(o.course[column])]
        values = [value for value in known if value is not None]
        if step is not None and values:
            xs.append(step)
            over.append(values)
    return xs, over
