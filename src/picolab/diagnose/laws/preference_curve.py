"""Does preference training move anything? `preference-curve`. Rafailov et al. 2023, arXiv:2305.18290; names as TRL writes them.

loss = - ln sigmoid(beta * margin)      margin 0: ln 2 = 0.693, where it begins; there for ever: chosen and rejected are alike,
                                        or the policy is its own reference
rewards/chosen falls                    both answers become less likely, the chosen one too
"""

from __future__ import annotations

import math
from typing import Any

from picolab.diagnose.laws.curve import finite, first, last, noise
from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.laws.loss_curve import NO_RUN

COLUMNS = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
NEAR = 0.005
"""Nats around ln 2."""

FEW = 10


class PreferenceCurve(Law):
    name = "preference-curve"
    id = "curves"
    says = "preference training leaves ln 2, and keeps the chosen"
    hint = "the reference is the policy itself, chosen and rejected swapped or alike, masks that leave no answer, beta"
    order = 75
    needs_model = False

    def check(self, patient: Patient) -> Finding:
        history = patient.history
        if history is None:
            return self.skips(NO_RUN)
        curves = {name: finite(history.curve(name)[1]) for name in COLUMNS}
        if not any(curves.values()):
            return self.skips("this is no preference training: its rows have no rewards")
        losses = finite(history.curve("train/loss")[1])
        margins, accuracies = curves["rewards/margins"], curves["rewards/accuracies"]
        if (
            not margins
            and curves["rewards/chosen"]
            and len(curves["rewards/chosen"]) == len(curves["rewards/rejected"])
        ):
            margins = [c - r for c, r in zip(curves["rewards/chosen"], curves["rewards/rejected"], strict=True)]
        if max(len(losses), len(margins), len(accuracies)) < FEW:
            return self.skips("there are too few rows to judge")
        told: dict[str, Any] = {name: last(values) for name, values in curves.items() if values}
        if losses:
            told["loss"] = last(losses)
        wrong = _stuck(losses, margins) or _swapped(margins, accuracies) or _guessing(accuracies)
        if wrong:
            return self.fails(wrong, **told)
        chosen = curves["rewards/chosen"]
        if len(chosen) >= FEW and last(chosen) < min(0.0, first(chosen)) - max(0.1, 3 * noise(chosen)):
            return self.fails(
                f"the reward of chosen answers falls from {first(chosen):+.3f} to {last(chosen):+.3f}: they become less likely too",
                hint="a smaller learning rate, a larger beta, a term for the chosen answer's likelihood (arXiv:2404.19733)",
                **told,
            )
        words = [f"loss {last(losses):.3f}"] if losses else []
        words += [f"margin {last(margins):+.3f}"] if margins else []
        words += [f"accuracy {last(accuracies):.2f}"] if accuracies else []
        return self.passes(f"at the end {', '.join(words)}", **told)


def _stuck(losses: list[float], margins: list[float]) -> str:
    """At ln 2 to the end."""
    if len(losses) >= FEW and all(abs(loss - math.log(2)) < NEAR for loss in losses[len(losses) // 2 :]):
        margin = f", the margin is {last(margins):+.4f}" if margins else ""
        return f"the loss stays at ln 2 ({last(losses):.4f} in the end){margin}: chosen and rejected answers are not told apart"
    if not losses and len(margins) >= FEW and all(abs(margin) < 2 * NEAR for margin in margins):
        return (
            f"the margin stays at 0 ({last(margins):+.4f} in the end): chosen and rejected answers are not told apart"
        )
    return ""


def _swapped(margins: list[float], accuracies: list[float]) -> str:
    if len(margins) >= FEW and last(margins) < -max(0.1, 3 * noise(margins)):
        return f"the margin falls to {last(margins):+.3f}: rejected answers are preferred, are the two swapped?"
    if len(accuracies) >= FEW and last(accuracies, 0.3) < 0.25:
        return f"chosen answers win in {last(accuracies, 0.3):.2f} of the pairs: are chosen and rejected swapped?"
    return ""


def _guessing(accuracies: list[float]) -> str:
    """No better at the end than a coin; equal rewards count as lost, so nothing but 0 is possible too."""
    if len(accuracies) < FEW:
        return ""
    begun, ended = first(accuracies, 0.3), last(accuracies, 0.3)
    half = accuracies[len(accuracies) // 2 :]
    mean = sum(half) / len(half)
    if mean <= 0.53 and ended <= begun + 0.05:
        return f"chosen answers win in {mean:.2f} of the pairs to the end: it does not learn to tell them apart"
    return ""
