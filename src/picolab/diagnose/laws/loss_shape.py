"""The more it has read, the better it guesses: `loss-by-position` (I28).

Teacher-forced loss must not rise along a text. It does where rotations, positions or the cache are wrong in a way no other law
sees.
"""

from __future__ import annotations

import torch

from picolab.diagnose.laws.law import Finding, Law, Patient

RISE = 0.35
"""Nats by which the last third may be worse than the first: texts differ."""


class LossByPosition(Law):
    name = "loss-by-position"
    id = "I28"
    says = "the loss does not rise along a text"
    hint = "rope: theta, scaling, pairing; positions past the trained length; a window that is too short"
    order = 42

    def check(self, patient: Patient) -> Finding:
        if patient.text is None or patient.trained is False:
            return self.skips("this needs a trained model and a text of its kind (--data or a run)")
        length = min(patient.context_length or 128, 128)
        rows = min(8, patient.text.numel() // max(length, 1))
        if rows < 2 or length < 12:
            return self.skips("the text or the context is too short to tell")
        tokens = patient.tokens(rows, length)
        logits = patient.logits(tokens[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").mean(0)
        third = max(len(loss) // 3, 1)
        first, last = float(loss[1 : third + 1].mean()), float(loss[-third:].mean())
        if last > first + RISE:
            return self.fails(
                f"its loss rises from {first:.2f} nats in the first third to {last:.2f} in the last",
                first=first,
                last=last,
            )
        return self.passes(
            f"its loss goes from {first:.2f} nats in the first third to {last:.2f} in the last", first=first, last=last
        )
