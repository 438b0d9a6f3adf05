"""Did it learn? `loss-curve`, `unigram`: what the loss of a training did, and whether it beat guessing by frequency.

moved      falls at all, stays finite, does not end above where it began
unigram    - sum of p ln p over the tokens of the training text: what one knows without reading
"""

from __future__ import annotations

import math
import statistics
from typing import Any

from picolab.diagnose.laws.curve import finite, first, last, noise
from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.laws.offered import History

MOVED = 0.02
"""Of the first loss: what counts as having moved."""

FALLING = 0.01
"""Of the loss, within a fifth of the run: what counts as still falling."""

FEW = 10
"""Rows below which a curve is not judged."""

NO_RUN = "this reads a run: there are no rows of a training here"


class LossCurve(Law):
    name = "loss-curve"
    id = "curves"
    says = "the training loss is finite and falls"
    hint = (
        "no gradient reaches the parameters, the learning rate is 0 or far too large, or targets are not what follows"
    )
    order = 70
    needs_model = False

    def check(self, patient: Patient) -> Finding:
        history = patient.history
        if history is None:
            return self.skips(NO_RUN)
        steps, values = history.curve("train/loss")
        broken = next((int(step) for step, value in zip(steps, values, strict=True) if not math.isfinite(value)), None)
        if broken is not None:
            return self.fails(
                f"the training loss is not a number at step {broken}",
                hint="a lower learning rate, a longer warm-up, clipping; a row of the mask with nothing visible; log of 0",
                step=broken,
            )
        if history.status == "diverged":
            return self.fails(
                f"it diverged: {history.says}" if history.says else "it diverged",
                hint="a lower learning rate, a longer warm-up, clipping, float32",
            )
        if len(values) < FEW:
            return self.skips(f"{len(values)} rows with a training loss are too few to judge")
        begun, ended = first(values), last(values)
        evidence: dict[str, Any] = {"first": begun, "last": ended, "noise": noise(values)}
        if ended > begun * (1 + MOVED) and ended > begun + noise(values):
            return self.fails(
                f"the training loss rises from {begun:.3f} to {ended:.3f} nats",
                hint="a gradient of the wrong sign, a learning rate that is too large, targets that change meaning", **evidence,
            )  # fmt: skip
        # A model that counts, or one that goes on training, may have little left to learn; on guessing it must improve.
        guessing = None if history.vocab_size is None else math.log(history.vocab_size)
        near = guessing is not None and ended > 0.9 * guessing
        if abs(begun - ended) <= MOVED * begun and (guessing is None or near):
            return self.fails(
                f"the training loss never moved: {begun:.3f} nats at the start, {ended:.3f} at the end", **evidence
            )
        return self.passes(f"the training loss goes from {begun:.3f} to {ended:.3f} nats", **evidence)


class Unigram(Law):
    name = "unigram"
    id = "curves"
    says = "the loss ends below that of the tokens' frequencies"
    hint = "the context is not read: a mask, positions, a context length of 1; targets shifted; too few steps"
    order = 71
    needs_model = False

    def check(self, patient: Patient) -> Finding:
        history = patient.history
        if history is None:
            return self.skips(NO_RUN)
        if history.unigram is None:
            return self.skips("the training text is not at hand")
        loss = final_loss(history)
        if loss is None:
            return self.skips("there is no loss to judge")
        told: dict[str, Any] = {"loss": loss, "unigram": history.unigram}
        if loss >= history.unigram and still_falls(history):
            return self.skips(
                f"it stands at {loss:.3f} nats and is still falling; the frequencies of the tokens alone give {history.unigram:.3f}"
            )
        if loss >= history.unigram:
            return self.fails(
                f"it ends at {loss:.3f} nats, and the frequencies of the tokens alone give {history.unigram:.3f}: it has learned "
                "nothing from what it reads", **told,
            )  # fmt: skip
        return self.passes(
            f"it ends at {loss:.3f} nats, the frequencies of the tokens alone give {history.unigram:.3f}", **told
        )


def still_falls(history: History) -> bool:
    """Whether the training loss of the last fifth is clearly below that of the fifth before: then it was stopped early."""
    values = finite(history.curve("train/loss")[1])
    if len(values) < FEW:
        return False
    fifth = len(values) // 5
    before, after = statistics.mean(values[-2 * fifth : -fifth]), statistics.mean(values[-fifth:])
    return before - after > max(FALLING * before, 2 * noise(values) / fifth**0.5)


def final_loss(history: History) -> float | None:
    """The last validation loss, else the last training losses."""
    values = finite(history.curve("val/loss")[1])
    if values:
        return values[-1]
    trained = finite(history.curve("train/loss")[1])
    return last(trained) if trained else None
