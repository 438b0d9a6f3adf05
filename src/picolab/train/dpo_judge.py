"""Has the model learned the preference, and what did it cost? Figures of held-out pairs and of what the model writes itself.

    val/rewards/accuracies            share of pairs whose better side has the higher reward; equal rewards count half
    val/rewards/accuracies/<kind>     the same, by how the worse side was made
    val/logps/accuracies[/<kind>]     share whose better side is the more likely one, whatever the reference says
    val/rewards/chosen .. rejected .. margins
    val/kl                            KL(policy || reference), nats a token, where the policy writes

The divergence is taken on the policy's own text, where it counts: a policy that has moved is asked what it does, not what it was
taught. At every position it is exact, a sum over the vocabulary; only the texts are drawn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from picolab.data.pairs import TokenPair
from picolab.models.contract import LanguageModel
from picolab.objectives.dpo import Dpo
from picolab.sample.generate import generate
from picolab.train.dpo_reference import logps_of

WRITTEN, WRITTEN_TOKENS = 16, 32
"""Texts the divergence is measured on, and how long they are at most."""

NEARLY = 1e-4
"""Rewards closer than this, in nats of log ratio, are equal: float32 gives no more for a sum over a response."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Measures a policy on held-out pairs. `logps` are the reference's; `fill` stands in padding."""

    objective: Dpo
    pairs: Sequence[TokenPair]
    logps: Float[Tensor, "pairs 2"]
    reference: LanguageModel
    fill: int
    readable: int
    seed: int

    def __call__(self, policy: LanguageModel) -> dict[str, float]:
        seen = logps_of(policy, self.pairs, fill=self.fill)
        ratios = seen - self.logps
        rewards = self.objective.beta * ratios
        found = {
            "val/rewards/chosen": float(rewards[:, 0].mean()),
            "val/rewards/rejected": float(rewards[:, 1].mean()),
            "val/rewards/margins": float((rewards[:, 0] - rewards[:, 1]).mean()),
        }
        found |= self._accuracies("val/rewards/accuracies", ratios)
        found |= self._accuracies("val/logps/accuracies", seen)
        found["val/kl"] = self.divergence(policy)
        return found

    def _accuracies(self, name: str, values: Float[Tensor, "pairs 2"]) -> Mapping[str, float]:
        margin = values[:, 0] - values[:, 1]
        right = torch.where(margin.abs() < NEARLY, 0.5, (margin > 0).double()).tolist()
        by_kind: dict[str, list[float]] = defaultdict(list)
        for pair, one in zip(self.pairs, right, strict=True):
            by_kind[pair.kind].append(one)
        found = {name: sum(right) / len(right)}
        if len(by_kind) > 1:
            found |= {f"{name}/{kind}": sum(rights) / len(rights) for kind, rights in sorted(by_kind.items())}
        return found

    def divergence(self, policy: LanguageModel) -> float:
        """Mean KL(policy || reference) over the positions of texts that the policy writes after held-out prompts."""
        prompts = list(dict.fromkeys(pair.prompt for pair in self.pairs))[:WRITTEN]
        room = policy.config.context_length
        prompts = [prompt for prompt in prompts if len(prompt) < room]
        texts = generate(policy, None, prompts, max_new_tokens=WRITTEN_TOKENS, seed=self.seed)
        was_training = policy.training
        policy.train(False)
        self.reference.to(policy.device)
        total, count = 0.0, 0
        try:
            with torch.no_grad():
                for prompt, text in zip(prompts, texts, strict=True):
                    whole = torch.tensor([[*prompt, *text.ids]], device=policy.device)[:, :room]
                    p, q = (m(whole)[0, len(prompt) - 1 :, : self.readable].double().log_softmax(-1)
                            for m in (policy, self.reference))  # fmt: skip
                    each = (p.exp() * (p - q)).sum(-1)
                    total, count = total + float(each.sum()), count + len(each)
        finally:
            policy.train(was_training)
        return total / max(count, 1)
