"""The order of words matters: `positions` (I08)."""

from __future__ import annotations

from picolab.diagnose.laws.law import Finding, Law, Patient, gap


class Positions(Law):
    name = "positions"
    id = "I08"
    says = "exchanging two earlier tokens changes what is said after them"
    hint = (
        "positions that never reach attention: a rotation that is computed and not used, an embedding that is not added"
    )
    order = 16
    compares = True

    def check(self, patient: Patient) -> Finding:
        tokens = patient.random(1, 12, salt=11)
        if tokens.shape[1] < 4:
            return self.skips("the model reads fewer than four tokens")
        tokens[0, 1], tokens[0, 2] = 1 % patient.vocab_size, 2 % patient.vocab_size
        exchanged = tokens.clone()
        exchanged[0, 1], exchanged[0, 2] = tokens[0, 2].item(), tokens[0, 1].item()
        last = gap(patient.logits(tokens)[:, -1], patient.logits(exchanged)[:, -1])
        near = gap(patient.logits(tokens)[:, 3], patient.logits(exchanged)[:, 3])
        if max(last, near) < 1e-6 and patient.trained is False and hasattr(patient.model, "estimate"):
            return self.skips("it counts, and has counted nothing yet")
        if max(last, near) < 1e-6:
            return self.fails(
                f"exchanging tokens 1 and 2 moves the logits after them by {max(last, near):.1g} of the largest: order is not seen",
                near=near, last=last,
            )  # fmt: skip
        return self.passes(
            f"exchanging tokens 1 and 2 moves the logits right after by {near:.2g}", near=near, last=last
        )
