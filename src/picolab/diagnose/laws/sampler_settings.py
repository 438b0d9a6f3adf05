"""Another p, another text: `sampler-settings`.

one row, 40 seeds, top_p 0.05 .. 1       the same tokens for all: p is never read
the model's own rows                     one token has everything, everywhere: no p, k or temperature can make a difference
"""

from __future__ import annotations

import torch

from picolab.diagnose.laws.collapse import prompts
from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.laws.sampler import HEADS, MOST, logits_of
from picolab.diagnose.laws.sampling import Refused, Sampling

VALUES = {"top_p": (0.05, 0.6, 1.0), "temperature": (0.1, 1.0, 3.0), "top_k": (1, 3, 6)}
SEEDS = 40
ALL = 1 - 1e-7
"""Of the probability: beyond it float32 knows no difference to 1."""


class SamplerSettings(Law):
    name = "sampler-settings"
    id = "behaviour"
    says = "another top_p, top_k or temperature leads to another text"
    hint = "a setting that is not handed on to the sampler; or logits so large that one token has all: a scale, a temperature"
    order = 63

    def check(self, patient: Patient) -> Finding:
        sampling = patient.sampling
        if sampling is None:
            return self.skips("no sampler is offered (`sample(logits, temperature=, top_p=)`)")
        if patient.vocab_size <= len(HEADS):
            return self.skips(f"a vocabulary of {patient.vocab_size} is too small to tell")
        told = {name: _texts(patient, sampling, name) for name in VALUES if name in sampling.takes}
        told = {name: texts for name, texts in told.items() if texts}
        if not told:
            return self.skips("the sampler takes no setting, or refuses those that were tried")
        same = [name for name, texts in told.items() if texts == 1]
        if same:
            return self.fails(
                f"{len(VALUES[same[0]])} values of {' and of '.join(same)} draw the same tokens from one row, at {SEEDS} seeds: "
                "it is never read", texts=told,
            )  # fmt: skip
        if patient.trained and not patient.missing:
            least = _sharpest(patient)
            if least > ALL:
                return self.fails(
                    f"the model gives one token at least {least:.9f} of the probability at every place: no setting of a "
                    "sampler can make a difference",
                    hint="logits that are far too large: a scale, a temperature below 1 that is inside the model", least=least,
                )  # fmt: skip
        return self.passes(f"other tokens at the same seeds by {', '.join(told)}", texts=told)


def _texts(patient: Patient, sampling: Sampling, name: str) -> int:
    """How many different rows of tokens some values of a setting draw; 0 where all are refused."""
    row = logits_of(min(patient.vocab_size, MOST))
    drawn = set()
    for value in VALUES[name]:
        try:
            drawn.add(tuple(sampling.draw(row, seed, **{name: value}) for seed in range(SEEDS)))
        except Refused:
            continue
    return len(drawn)


@torch.no_grad()
def _sharpest(patient: Patient) -> float:
    """The least that the most likely token has, over all places of some texts."""
    rows = [patient.logits(prompt)[0, 1:].double().softmax(-1).amax(-1) for prompt in prompts(patient)]
    return float(torch.cat(rows).min())
