"""Every query shares out one whole, among tokens it may see: `attention-rows` (I09), `token-zero` (I10).

each row of probs sums to 1 (less what a sink took)      nothing on keys after the query       the first token can only see itself
"""

from __future__ import annotations

import torch
from torch import Tensor

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.trace.record import record
from picolab.trace.recording import Recording

SUMS = 1e-4
"""How far a row may be from 1: bfloat16 rounds each of its terms."""


def probs_of(patient: Patient, tokens: Tensor) -> dict[str, Tensor]:
    """The attention of every block, `(batch, heads, time, past)`; empty where the model has none that can be seen."""
    recording = _recorded(patient, tokens)
    if recording is None:
        return {}
    return {site: recording[site].float() for site in recording.sites if site.endswith("attention.probs")}


@torch.no_grad()
def _recorded(patient: Patient, tokens: Tensor) -> Recording | None:
    if patient.model is None or hasattr(patient.model, "estimate"):
        return None
    with record(patient.model) as recording:
        patient.forward(tokens)
    return recording


def sinks_of(patient: Patient, site: str) -> bool:
    """Whether the heads of this block may leave some attention with a sink."""
    assert patient.model is not None
    return getattr(patient.model.get_submodule(site.removesuffix(".probs")), "sinks", None) is not None


class AttentionRows(Law):
    name = "attention-rows"
    id = "I09"
    says = "each query's shares sum to 1 and none falls on a later token"
    hint = "the axis of the softmax; a mask added after it; a finite number in place of -inf"
    order = 30

    def check(self, patient: Patient) -> Finding:
        maps = probs_of(patient, patient.tokens(1, 20))
        if not maps:
            return self.skips("the model shows no attention")
        for site, probs in maps.items():
            time = probs.shape[2]
            later = torch.ones(time, time, dtype=torch.bool).triu(1)
            leaked = float(probs[..., later].abs().max()) if time > 1 else 0.0
            if leaked > 0:
                return self.fails(
                    f"`{site}` gives {leaked:.2g} of a query's attention to a later token", leaked=leaked, site=site
                )
            sums = probs.sum(-1)
            off = float((sums - 1).abs().max()) if not sinks_of(patient, site) else float((sums - 1).clamp(min=0).max())
            if off > SUMS:
                head = int((sums - 1).abs().amax(dim=(0, 2)).argmax())
                return self.fails(
                    f"a row of `{site}`, head {head}, sums to {float(sums.flatten()[(sums - 1).abs().argmax()]):.4g}",
                    off=off,
                )
        return self.passes(f"{len(maps)} blocks: every row sums to 1, nothing on later tokens")


class TokenZero(Law):
    name = "token-zero"
    id = "I10"
    says = "the first token gathers exactly its own value"
    hint = "heads merged in another order than they were split; a value read from another slot; a mask off by one"
    order = 31

    def check(self, patient: Patient) -> Finding:
        recording = _recorded(patient, patient.tokens(1, 9))
        if recording is None or not any(site.endswith("attention.mixed") for site in recording.sites):
            return self.skips("the model shows no attention")
        worst, where = 0.0, ""
        for site in (s for s in recording.sites if s.endswith("attention.mixed")):
            if sinks_of(patient, site.replace("mixed", "probs")):
                return self.skips("the heads have sinks, which take a share of the first token's attention too")
            mixed, v = recording[site][:, 0].float(), recording[site.replace("mixed", "v")][:, 0].float()
            heads = mixed.shape[-1] // v.shape[-1]
            own = v.repeat_interleave(heads // v.shape[1], dim=1).flatten(1)
            off = float((mixed - own).abs().max() / own.abs().max().clamp(min=1e-12))
            if off > worst:
                worst, where = off, site
        if worst > 1e-2:
            return self.fails(
                f"at `{where}` the first token does not get its own value: {worst:.2g} off", worst=worst, site=where
            )
        return self.passes(f"in every block the first token gets its own value, to {worst:.1g}", worst=worst)
