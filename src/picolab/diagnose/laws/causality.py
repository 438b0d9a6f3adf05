"""A token must not move what was said before it: `causality` (I04).

    tokens  a b c d e          change d          logits at a b c: the same bits          at d e: free to move

Checked on the weights as they are: a mask of -10,000 holds at the start and leaks once training has found out.
"""

from __future__ import annotations

import torch

from picolab.diagnose.laws.law import Finding, Law, Patient

ROUNDING = 2e-6
"""What another order of summation may move: kernels sum over other lengths when later tokens differ by nothing but value."""


class Causality(Law):
    name = "causality"
    id = "I04"
    says = "changing a token leaves every logit before it as it was"
    hint = "the mask: is it there, the right way round, -inf and not a large number, and used by the kernel that really runs?"
    order = 10
    compares = True

    def check(self, patient: Patient) -> Finding:
        tokens = patient.tokens(1, 24)
        before = patient.logits(tokens)
        time = tokens.shape[1]
        if time < 2:
            return self.skips("the model reads one token only")
        worst, where, moved = 0.0, (0, 0), 0
        positions = [p for p in {1, 2, time // 3, time // 2, time - 2, time - 1} if 0 < p < time]
        for position in sorted(positions):
            changed = tokens.clone()
            changed[:, position] = (changed[:, position] + 1 + position) % patient.vocab_size
            after = patient.logits(changed)
            moved += int(not torch.equal(after[:, position:], before[:, position:]))
            size = before.abs().max()
            leaks = (after - before).abs()[0, :position].amax(-1) / size
            if float(leaks.max()) > worst:
                worst, where = float(leaks.max()), (position, int(leaks.argmax()))
        if moved == 0 and patient.trained is False and hasattr(patient.model, "estimate"):
            return self.skips("it counts, and has counted nothing yet")
        if moved == 0:
            return self.fails(
                "no logit moves whatever token is changed: the model does not read its input",
                hint="are the tokens used at all? a constant, a detached copy, a cached answer",
            )
        if worst > ROUNDING:
            return self.fails(
                f"changing token {where[0]} moves the logits at position {where[1]}, which comes before it, by {worst:.2g} "
                "of the largest",
                worst=worst, changed=where[0], seen_at=where[1],
            )  # fmt: skip
        return self.passes(
            f"{len(positions)} tokens were changed; no earlier logit moved by more than {worst:.1g}", worst=worst
        )
