"""The same question twice gives the same answer: `repeatable` (I22).

What another call left behind, memory that was freed, a dropout that is on: all of them show as a second answer.
"""

from __future__ import annotations

import torch

from picolab.diagnose.laws.law import Finding, Law, Patient, gap


class Repeatable(Law):
    name = "repeatable"
    id = "I22"
    says = "a second call gives the same bits, whatever was asked between"
    hint = "dropout left on, state kept between calls, a buffer that is reused before it is read, uninitialised memory"
    order = 6

    def check(self, patient: Patient) -> Finding:
        tokens = patient.tokens(1, 15)
        first = patient.logits(tokens)
        at_once = patient.logits(tokens)
        patient.logits(patient.random(2, 9, salt=5))
        poison = [torch.full_like(first, float("nan")) for _ in range(4)]
        del poison  # what was freed here is what careless memory finds
        later = patient.logits(tokens)
        worst = max(gap(first, at_once), gap(first, later))
        if worst > 1e-6:
            when = "at once" if gap(first, at_once) > 1e-6 else "after another text"
            return self.fails(
                f"the same tokens asked again {when} give other logits: {worst:.2g} of the largest",
                worst=worst, unsteady=when == "at once",
            )  # fmt: skip
        return self.passes("asked three times, with another text between: the same", worst=worst)
