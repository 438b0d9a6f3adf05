"""Every number is a number: `finite` (I21).

An argmax over nothing but NaN is 0, so a model full of NaN writes token 0 for ever ("!" in GPT-2's vocabulary).
"""

from __future__ import annotations

import torch
from torch import Tensor

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.trace.record import record
from picolab.trace.sites import sites_of


class Finite(Law):
    name = "finite"
    id = "I21"
    says = "logits are finite at every length"
    hint = "a row of the mask with nothing visible, 0/0 in a norm without eps, a type whose largest number is exceeded"
    order = 5

    def check(self, patient: Patient) -> Finding:
        limit = patient.context_length or 64
        lengths = sorted({n for n in (1, 2, 3, 7, 8, 16, 17, 31, 32, 33, 64) if n <= limit})
        for length in lengths:
            tokens = patient.random(1, length, salt=length)
            logits = patient.logits(tokens)
            bad = ~logits.isfinite()
            if bad.any():
                position = int(bad[0].any(-1).nonzero()[0])
                first = _first_place(patient, tokens)
                return self.fails(
                    f"with {length} tokens, {int(bad.sum())} logits are not finite, from position {position} on"
                    + (f"; the first place is `{first}`" if first else ""),
                    length=length, position=position, first=first,
                )  # fmt: skip
        largest = float(patient.logits(patient.tokens(1, min(32, limit))).abs().max())
        return self.passes(
            f"{len(lengths)} lengths up to {lengths[-1]}: all finite, the largest logit {largest:.3g}", largest=largest
        )


@torch.no_grad()
def _first_place(patient: Patient, tokens: Tensor) -> str | None:
    """Where the first number that is none comes up, in a model whose places have names."""
    if patient.model is None or not sites_of(patient.model):
        return None
    with record(patient.model) as recording:
        patient.forward(tokens)
    return next((e.site for e in recording.entries if not bool(e.value.isfinite().all())), None)
