"""When is a run not worth finishing? When its best loss so far is worse than what half of the earlier ones had at that step.

    losses of finished trials up to step s -> the best of each -> median        mine above it -> pruned

The median rule of Golovin et al. 2017 (Vizier). The first `EARLIEST` evaluations and the first `ENOUGH` trials are never pruned: a
median of two says nothing. Seeds are compared with the same seed where that is possible.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from picolab.studies.outcome import Outcome

ENOUGH = 4
EARLIEST = 2


def median_says_stop(
    step: int, losses: Sequence[float], earlier: Sequence[Outcome], *, seed: int
) -> tuple[float, float] | None:
    """The best loss so far and the median it is worse than; None where the run goes on.

    `losses` are those of the run's evaluations until `step`.
    """
    if len(losses) < EARLIEST:
        return None
    finished = [outcome for outcome in earlier if outcome.status == "finished"]
    same = [outcome for outcome in finished if outcome.seed == seed]
    bests = [
        best
        for outcome in (same if len(same) >= ENOUGH else finished)
        if (best := best_until(step, outcome)) is not None
    ]
    if len(bests) < ENOUGH:
        return None
    mine, median = min(losses), statistics.median(bests)
    return (mine, median) if mine > median else None


def best_until(step: int, outcome: Outcome) -> float | None:
    """The lowest loss that a trial had at a step or before it; None where it measured none."""
    pairs = zip(outcome.course.get("step", ()), outcome.course.get("loss", ()), strict=True)
    known = [loss for at, loss in pairs if at is not None and loss is not None and 0 < at <= step]
    return min(known) if known else None
