"""Attention that looks at everything alike looks at nothing: `uniform-attention`.

entropy of a query's shares against ln(number of tokens it may see): 1 in every head means that no head looks anywhere
"""

from __future__ import annotations

import math

import torch

from picolab.diagnose.laws.attention_rows import probs_of
from picolab.diagnose.laws.law import Finding, Law, Patient

UNIFORM = 0.999


class UniformAttention(Law):
    name = "uniform-attention"
    id = "behaviour"
    says = "some head of a trained model looks somewhere"
    hint = "scores scaled to nothing (divided by head_dim or by d_model), queries or keys of zeros"
    order = 62

    def check(self, patient: Patient) -> Finding:
        if not patient.trained:
            return self.skips("an untrained model looks at everything alike")
        maps = probs_of(patient, patient.tokens(1, 24))
        if not maps:
            return self.skips("the model shows no attention")
        shares = {}
        for site, probs in maps.items():
            entropy = -torch.xlogy(probs, probs).sum(-1)[0]  # heads time
            even = torch.tensor([math.log(t + 1) for t in range(entropy.shape[-1])])
            shares[site] = float((entropy[:, 2:] / even[2:]).mean(-1).min()) if entropy.shape[-1] > 2 else 0.0
        flattest = min(shares.values())
        if flattest > UNIFORM:
            return self.fails(
                f"every head of every block spreads over {flattest:.4f} of the largest entropy: none looks anywhere",
                shares=shares,
            )
        return self.passes(
            f"the sharpest head reaches {flattest:.2f} of the entropy of looking at all alike", sharpest=flattest
        )
