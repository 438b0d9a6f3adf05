"""The same numbers, laid out otherwise in memory, are the same numbers: `strides` (I23).

    tokens   expanded (one row, seen as three)    transposed    every second of a wider array
    weights  each matrix stored column by column, seen row by row

Code that walks over memory by itself, or takes an address and forgets the strides, reads something else.
"""

from __future__ import annotations

import torch
from torch import Tensor

from picolab.diagnose.laws.law import Finding, Law, Patient, gap
from picolab.diagnose.modules import copy_of, logits_of, no_copy

ALLOWED = 2e-4


class Strides(Law):
    name = "strides"
    id = "I23"
    says = "tokens and weights of another memory layout give the same logits"
    hint = "a `data_ptr`, a `view` or an `as_strided` where the tensor may not be contiguous; a kernel that ignores strides"
    order = 17
    compares = True

    def check(self, patient: Patient) -> Finding:
        tokens = patient.random(3, 11, salt=61)
        wanted = patient.logits(tokens)
        gaps: dict[str, float] = {}
        refused: list[str] = []
        for name, laid in _layouts(tokens).items():
            try:
                found = patient.logits(laid)
            except (RuntimeError, ValueError, TypeError, AssertionError):
                refused.append(name)  # said aloud, which is not a wrong answer
                continue
            gaps[f"{name} tokens"] = gap(patient.logits(tokens[:1].expand(3, -1).contiguous()) if name == "expanded"
                                         else wanted, found)  # fmt: skip
        if no_copy(patient) is None:
            module = copy_of(patient)
            for parameter in module.parameters():
                if parameter.ndim == 2:
                    parameter.data = parameter.data.t().contiguous().t()
            gaps["transposed weights"] = gap(wanted, logits_of(patient, module, tokens))
        if not gaps:
            return self.skips(f"it refuses {' and '.join(refused)} tokens aloud")
        name, worst = max(gaps.items(), key=lambda item: item[1])
        if not worst <= ALLOWED:
            return self.fails(
                f"{name} give other logits than the same numbers in order: {worst:.2g} of the largest", gaps=gaps
            )
        aloud = f"; {' and '.join(refused)} tokens are refused aloud" if refused else ""
        return self.passes(f"{', '.join(gaps)}: the same to {worst:.1g}{aloud}", worst=worst)


def _layouts(tokens: Tensor) -> dict[str, Tensor]:
    wide = torch.zeros(tokens.shape[0], 2 * tokens.shape[1], dtype=tokens.dtype)
    wide[:, ::2], wide[:, 1::2] = tokens, (tokens + 1) % (int(tokens.max()) + 1)
    return {
        "expanded": tokens[:1].expand(3, -1),
        "transposed": tokens.t().contiguous().t(),
        "sliced": wide[:, ::2],
    }
