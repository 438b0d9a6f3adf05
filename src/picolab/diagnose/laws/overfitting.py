"""Does it learn the rule or the text? `overfitting`: the validation loss turns upwards while the training loss goes on falling.

train  \\__            val  \\_/           the best model was in the middle
          \\___                            a gap alone, without a turn, is told and no fault
"""

from __future__ import annotations

from typing import Any

from picolab.diagnose.laws.curve import finite, last
from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.laws.loss_curve import NO_RUN

RISE, LEAST = 0.03, 0.05
"""How far the last validation loss may be above the lowest: a share of it, and nats."""

BELOW = 3.0
"""Training loss that many times below validation at the end: it knows its text by heart."""


class Overfitting(Law):
    name = "overfitting"
    id = "curves"
    says = "validation loss does not rise while training loss falls"
    hint = "stop at the best checkpoint (--patience), more text, a smaller model, more dropout or decay"
    order = 72
    needs_model = False

    def check(self, patient: Patient) -> Finding:
        if patient.history is None:
            return self.skips(NO_RUN)
        steps, values = patient.history.curve("val/loss")
        at, losses = patient.history.curve("train/loss")
        values, losses = finite(values), finite(losses)
        if len(values) < 3 or len(losses) < 10 or len(values) != len(steps) or len(losses) != len(at):
            return self.skips(f"{len(values)} evaluations are too few to tell")
        best = min(range(len(values)), key=values.__getitem__)
        rise, gap = values[-1] - values[best], values[-1] - last(losses)
        told: dict[str, Any] = {"best": values[best], "best_step": steps[best], "last": values[-1], "gap": gap}
        lowest = f"{values[best]:.3f} at step {int(steps[best])}"
        before = [loss for step, loss in zip(at, losses, strict=True) if step <= steps[best]]
        fell = not before or last(losses) < last(before)
        if rise > max(LEAST, RISE * values[best]):
            if fell:
                return self.fails(
                    f"the validation loss is {lowest} and {values[-1]:.3f} at the end, while the training loss goes on falling to "
                    f"{last(losses):.3f}", **told,
                )  # fmt: skip
            return self.fails(
                f"the validation loss is {lowest} and {values[-1]:.3f} at the end; the training loss rises too, to "
                f"{last(losses):.3f}", hint="the learning rate is too large for this stage", **told,
            )  # fmt: skip
        if last(losses) > 0 and values[-1] > BELOW * last(losses) and gap > 0.5:
            return self.fails(
                f"at the end the training loss is {last(losses):.3f} and the validation loss {values[-1]:.3f}: it knows its text "
                "by heart",
                **told,
            )
        return self.passes(
            f"the lowest validation loss is {values[best]:.3f} at step {int(steps[best])}, the last {values[-1]:.3f}; "
            f"{abs(gap):.3f} {'above' if gap >= 0 else 'below'} the training loss", **told,
        )  # fmt: skip
