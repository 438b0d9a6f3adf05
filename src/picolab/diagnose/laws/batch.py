"""A row does not know its neighbours: `batch` (I07).

logits([a; b; c])[i]  =  logits([row i])           also beside itself, and in another order
"""

from __future__ import annotations

import torch

from picolab.diagnose.laws.law import Finding, Law, Patient, gap

ALLOWED = 2e-4


class Batch(Law):
    name = "batch"
    id = "I07"
    says = "a row alone gives what it gives beside others"
    hint = "a `view` that mixes batch and time, a mask shared by all rows, positions of the longest row, a norm over the batch"
    order = 14
    compares = True

    def check(self, patient: Patient) -> Finding:
        tokens = torch.cat((patient.tokens(1, 13), patient.random(2, 13, salt=7)))
        together = patient.logits(tokens)
        alone = torch.cat([patient.logits(row[None]) for row in tokens])
        turned = patient.logits(tokens.flip(0)).flip(0)
        twice = patient.logits(tokens[:1].expand(3, -1).contiguous())
        gaps = {
            "alone": gap(alone, together),
            "in another order": gap(together, turned),
            "beside itself": gap(alone[:1].expand_as(twice), twice),
        }
        name, worst = max(gaps.items(), key=lambda item: item[1])
        if not worst <= ALLOWED:
            row = int((alone - together).abs().flatten(1).amax(1).nan_to_num(float("inf")).argmax())
            return self.fails(
                f"row {row} of 3 gives other logits {name} than in the batch: {worst:.2g} of the largest", gaps=gaps
            )
        return self.passes(f"three rows agree alone, turned round and doubled to {worst:.1g}", worst=worst)
