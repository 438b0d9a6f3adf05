"""Which token does it predict? The next one: `offset-probe` (I16).

mean log p(token[t + k] given logits[t]) for k = -1, 0, 1, 2, 3          the best k must be 1
best at 0: labels were not shifted, it learned to copy          best at 2: they were shifted twice
"""

from __future__ import annotations

import torch

from picolab.diagnose.laws.law import Finding, Law, Patient

OFFSETS = (-1, 0, 1, 2, 3)


class OffsetProbe(Law):
    name = "offset-probe"
    id = "I16"
    says = "of all neighbours, the model predicts the next token best"
    hint = "labels shifted by the caller and again by the loss (best 2), or by nobody (best 0)"
    order = 41

    def check(self, patient: Patient) -> Finding:
        if patient.text is None or patient.trained is False:
            return self.skips("this needs a trained model and a text of its kind (--data or a run)")
        tokens = patient.tokens(4, 48)
        log_probs = patient.logits(tokens).log_softmax(-1)
        time = tokens.shape[1]
        if time < 8:
            return self.skips("the model reads too few tokens")
        means = {}
        for k in OFFSETS:
            at = torch.arange(max(0, -k), time - max(k, 0))
            picked = log_probs[:, at].gather(-1, tokens[:, at + k, None])
            means[k] = float(picked.mean())
        best = max(means, key=means.__getitem__)
        told = ", ".join(f"{k:+d}: {-value:.2f}" for k, value in means.items())
        if best != 1:
            return self.fails(
                f"it predicts the token {best:+d} from where it stands best (nats by offset {told})", nats=means
            )
        return self.passes(f"it predicts the next token best (nats by offset {told})", nats=means)
