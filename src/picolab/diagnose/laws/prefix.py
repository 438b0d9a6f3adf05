"""A text's beginning is read the same whatever follows: `prefix` (I05).

logits(a b c d e)[:3]  =  logits(a b c)
"""

from __future__ import annotations

from picolab.diagnose.laws.law import Finding, Law, Patient, gap

ALLOWED = 2e-4
"""Kernels for other lengths sum in another order; what is wrong differs in the first digits."""


class Prefix(Law):
    name = "prefix"
    id = "I05"
    says = "the logits of a prefix are those of the whole text, cut"
    hint = "what depends on the length: a mask built for one length, positions counted from the end, a norm over time"
    order = 12
    compares = True

    def check(self, patient: Patient) -> Finding:
        tokens = patient.tokens(1, 24)
        whole = patient.logits(tokens)
        lengths = sorted({n for n in (1, 2, 5, 11, 17, tokens.shape[1] - 1) if 0 < n < tokens.shape[1]})
        gaps = {n: gap(whole[:, :n], patient.logits(tokens[:, :n])) for n in lengths}
        if not gaps:
            return self.skips("the model reads one token only")
        length, worst = max(gaps.items(), key=lambda item: item[1])
        if not worst <= ALLOWED:
            return self.fails(
                f"the first {length} tokens alone give other logits than as the beginning of {tokens.shape[1]}: {worst:.2g} of the "
                "largest", gaps=gaps,
            )  # fmt: skip
        return self.passes(f"prefixes of {', '.join(map(str, lengths))} tokens agree to {worst:.1g}", worst=worst)
