"""Does the gradient keep its size? `gradient-norm`.

explodes   ends many times larger than it was, or one step of thousands          vanishes   ends at nothing while the loss is high
"""

from __future__ import annotations

import math
import statistics
from typing import Any

from picolab.diagnose.laws.curve import first, last
from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.laws.loss_curve import FEW, NO_RUN

GROWN, NOTHING, SPIKE = 30.0, 1e-6, 1e3
"""Times its size after the start; a norm that moves nothing; one step against the median."""


class GradientNorm(Law):
    name = "gradient-norm"
    id = "curves"
    says = "the gradient norm neither explodes nor vanishes"
    hint = "a learning rate that is too large; no clipping; a path without a residual; saturated softmax; frozen parameters"
    order = 73
    needs_model = False

    def check(self, patient: Patient) -> Finding:
        if patient.history is None:
            return self.skips(NO_RUN)
        steps, norms = patient.history.curve("grad_norm")
        broken = next((int(step) for step, norm in zip(steps, norms, strict=True) if not math.isfinite(norm)), None)
        if broken is not None:
            return self.fails(f"the gradient norm is not a number at step {broken}", step=broken)
        if len(norms) < FEW:
            return self.skips(f"{len(norms)} rows with a gradient norm are too few to judge")
        usual = statistics.median(norms)
        begun, ended, largest = first(norms), last(norms), max(norms)
        told: dict[str, Any] = {"first": begun, "last": ended, "largest": largest, "median": usual}
        if usual < NOTHING or ended < NOTHING:
            return self.fails(
                f"the gradient vanishes: its norm is {begun:.2g} at the start and {ended:.2g} at the end", **told
            )
        if ended > GROWN * max(begun, statistics.median(norms[: len(norms) // 2])):
            return self.fails(
                f"the gradient explodes: its norm is {begun:.3g} at the start and {ended:.3g} at the end", **told
            )
        if largest > SPIKE * usual:
            step = int(steps[norms.index(largest)])
            return self.fails(
                f"the gradient norm jumps to {largest:.3g} at step {step}; half of the steps are below {usual:.3g}",
                **told,
            )
        return self.passes(
            f"the gradient norm is {begun:.3g} at the start, {ended:.3g} at the end, {largest:.3g} at most", **told
        )
