"""Documents in one row do not see each other: `document-isolation` (I18).

row        A A A A | B B B | C          change every token of A: no logit of B or C may move
alone      B B B                        and B's logits are those it has alone: its positions begin anew
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.laws.law import Finding, Law, Patient, gap

ALLOWED = 2e-4
LAYOUTS = ((7, 9), (9, 7), (5, 1, 6, 4), (1, 15), (4, 4, 4, 4))
"""Lengths of the documents in a row of 16."""


class DocumentIsolation(Law):
    name = "document-isolation"
    id = "I18"
    says = "documents packed in a row give the logits they give alone"
    hint = "the mask of documents: positions that begin anew are not enough; or it is dropped on one path"
    order = 18

    def check(self, patient: Patient) -> Finding:
        if patient.packed is None:
            return self.skips("the model offers no `packed(tokens, documents)`: it reads one text a row")
        time = sum(LAYOUTS[0])
        if (patient.context_length or time) < time:
            return self.skips(f"the model reads {patient.context_length} tokens, and {time} are asked")
        worst: dict[str, Any] = {}
        for layout in LAYOUTS:
            wrong = _look(patient, layout, worst)
            if wrong:
                return self.fails(wrong, layout=list(layout), **worst)
        return self.passes(
            f"{len(LAYOUTS)} layouts of documents in a row: nothing moves across ({worst['moved']:.1g}), and each is as alone "
            f"({worst['alone']:.1g})", **worst,
        )  # fmt: skip


@torch.no_grad()
def _look(patient: Patient, layout: tuple[int, ...], worst: dict[str, Any]) -> str:
    lengths = torch.tensor(layout)
    # Two rows cut differently: a mask made for the first row alone shows.
    documents = torch.stack([_numbers(lengths), _numbers(lengths.flip(0))])
    tokens = patient.random(2, int(lengths.sum()), salt=41)
    before = _read(patient, tokens, documents)
    for row in range(2):
        for document in range(len(layout)):
            here = documents[row] == document
            changed = tokens.clone()
            changed[row, here] = (tokens[row, here] + 1) % patient.vocab_size
            others = ~here
            after = _read(patient, changed, documents)
            moved = gap(before[row, others], after[row, others])
            worst["moved"] = max(moved, worst.get("moved", 0.0))
            if not moved <= ALLOWED:
                place = (before[row] - after[row]).abs().amax(-1).masked_fill(here, 0).nan_to_num(float("inf"))
                seen = int(documents[row, int(place.argmax())])
                return (
                    f"changing document {document} of {len(layout)} in a row moves the logits of document {seen} by {moved:.2g} "
                    "of the largest"
                )
            alone = patient.logits(tokens[row, here][None])[0]
            apart = gap(alone, before[row, here])
            worst["alone"] = max(apart, worst.get("alone", 0.0))
            if not apart <= ALLOWED:
                return (
                    f"document {document} of {len(layout)} in a row has other logits than alone: {apart:.2g} of the largest, "
                    "though no other document moves it: do its positions begin anew?"
                )
    return ""


def _numbers(lengths: Tensor) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(lengths)), lengths)


def _read(patient: Patient, tokens: Tensor, documents: Tensor) -> Tensor:
    assert patient.packed is not None
    return patient.packed(tokens, documents).detach().float().cpu()
