"""Does it say one thing for ever, whatever it is asked? `repetition`, `prompt-insensitivity`.

greedy, 48 tokens, from several prompts: how many different tokens, how long a loop, how alike the answers
"""

from __future__ import annotations

import torch
from torch import Tensor

from picolab.diagnose.laws.law import Finding, Law, Patient

STEPS = 48


@torch.no_grad()
def greedy(patient: Patient, prompt: Tensor, steps: int = STEPS) -> list[int]:
    """The most likely continuation of `(1, time)` tokens, each pass over the whole text: no cache can be to blame."""
    tokens, limit = prompt, patient.context_length or prompt.shape[1] + steps
    while tokens.shape[1] < min(prompt.shape[1] + steps, limit):
        following = patient.logits(tokens)[:, -1].argmax(-1)
        tokens = torch.cat((tokens, following[:, None]), dim=1)
    return [int(token) for token in tokens[0, prompt.shape[1] :]]


def prompts(patient: Patient) -> list[Tensor]:
    """Three beginnings: of the model's own text where there is one, else random."""
    if patient.text is not None and patient.text.numel() >= 90:
        return [patient.text[start : start + 10][None] for start in (0, 40, 80)]
    return [patient.random(1, 10, salt=salt) for salt in (21, 22, 23)]


class Repetition(Law):
    name = "repetition"
    id = "behaviour"
    says = "what it writes is not one or two tokens for ever"
    hint = "rope pairing, a wrong tokenizer, weights not loaded: run `picolab diff` against an engine that works"
    order = 60

    def check(self, patient: Patient) -> Finding:
        if not patient.trained:
            return self.skips("an untrained model repeats itself: that says nothing")
        texts = [greedy(patient, prompt) for prompt in prompts(patient)]
        texts = [text for text in texts if len(text) >= 12]
        if not texts:
            return self.skips("the model's context is too short to write in")
        different = [len(set(text)) for text in texts]
        if max(different) <= 2:
            tokens = sorted({token for text in texts for token in text})
            return self.fails(
                f"from {len(texts)} prompts it writes only tokens {', '.join(map(str, tokens[:6]))}, {len(texts[0])} long",
                different=different, tokens=tokens[:20],
            )  # fmt: skip
        return self.passes(
            f"greedy texts of {len(texts[0])} tokens use {', '.join(map(str, different))} different ones",
            different=different,
        )


class PromptInsensitivity(Law):
    name = "prompt-insensitivity"
    id = "behaviour"
    says = "other prompts lead to other answers"
    hint = "attention that is uniform or masked away; a constant in place of the input; norms that wash it out"
    order = 61

    def check(self, patient: Patient) -> Finding:
        if not patient.trained:
            return self.skips("an untrained model hardly looks at its prompt: that says nothing")
        asked = prompts(patient)
        ends = torch.cat([patient.logits(prompt)[:, -1] for prompt in asked]).softmax(-1)
        # Total variation between the answers to different prompts, of at most 1.
        apart = [float((ends[i] - ends[j]).abs().sum() / 2) for i in range(len(ends)) for j in range(i)]
        if max(apart) < 1e-3:
            return self.fails(
                f"{len(asked)} prompts give next-token probabilities at most {max(apart):.1g} apart", apart=apart
            )
        return self.passes(
            f"the next-token probabilities of {len(asked)} prompts are up to {max(apart):.2f} apart", apart=apart
        )
