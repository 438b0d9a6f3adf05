"""Was the learning rate the one that was asked for? `learning-rate` (I27): every row of the run against the schedule's formula."""

from __future__ import annotations

import math
from collections.abc import Callable

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.laws.loss_curve import NO_RUN


class LearningRate(Law):
    name = "learning-rate"
    id = "I27"
    says = "the learning rate of every step is that of the schedule"
    hint = "a schedule that steps once a piece, that is restarted, that counts epochs, or that is set after the step"
    order = 74
    needs_model = False

    def check(self, patient: Patient) -> Finding:
        history = patient.history
        if history is None:
            return self.skips(NO_RUN)
        steps, rates = history.curve("lr")
        if not rates:
            return self.skips("the rows hold no learning rate")
        if all(rate == 0 for rate in rates):
            return self.fails("the learning rate is 0 at every step: nothing is learned")
        if history.learning_rate is None:
            return self.skips("the settings of the schedule are not at hand")
        formula = history.learning_rate
        judged = [(step, rate) for step, rate in zip(steps, rates, strict=True) if step > history.since]
        for step, rate in judged:
            meant = formula(int(step))
            if not math.isclose(rate, meant, rel_tol=1e-4, abs_tol=1e-12):
                return self.fails(
                    f"at step {int(step)} the learning rate is {rate:.4g}, and the schedule says {meant:.4g}"
                    f"{_named(history.steps, judged, formula)}",
                    step=int(step), rate=rate, meant=meant,
                )  # fmt: skip
        return self.passes(f"{len(judged)} steps from {rates[0]:.3g} to {rates[-1]:.3g}, as the schedule says")


def _named(total: int | None, pairs: list[tuple[float, float]], formula: Callable[[int], float]) -> str:
    """Whether it is the schedule of another step."""
    ways: dict[str, Callable[[int], int]] = {
        "one step late": lambda step: step - 1,
        "one step early": lambda step: step + 1,
        "twice as fast": lambda step: 2 * step,
        "half as fast": lambda step: (step + 1) // 2,
    }
    for words, moved in ways.items():
        inside = [(moved(int(step)), rate) for step, rate in pairs if 1 <= moved(int(step)) <= (total or math.inf)]
        if len(inside) > 2 and all(math.isclose(rate, formula(s), rel_tol=1e-3, abs_tol=1e-12) for s, rate in inside):
            return f": it runs {words}"
    return "; it never changes" if len({rate for _, rate in pairs}) == 1 and len(pairs) > 2 else ""
