"""Direct preference optimisation: make the better response more likely against a frozen reference, and the worse one less.
Rafailov et al. 2023, arXiv:2305.18290.

    r(y) = beta * (ln p(y | prompt) - ln p_reference(y | prompt))                    the reward that a policy implies
    dpo  = -ln sigmoid(r(chosen) - r(rejected))                                      ln 2 while the policy is the reference
    ipo  = ((r(chosen) - r(rejected)) / beta - 1 / (2 beta))^2                       Azar et al. 2023, arXiv:2310.12036

`label_smoothing` e is the share of pairs whose order is taken to be wrong (Mitchell 2023, "cDPO"): (1 - e) dpo(d) + e dpo(-d).
`per_token` divides the log ratio of each response by its length before they are compared, so that length is no reward. `imitation`
adds that many times the mean -ln p of the chosen tokens (RPO, Pang et al. 2024, arXiv:2404.19733): the loss alone may make both
responses less likely, as long as the worse one falls faster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from picolab.data.batch import IGNORE
from picolab.data.pairs import PairBatch, pack
from picolab.errors import BadSetting
from picolab.models.contract import LanguageModel
from picolab.objectives.next_token import Loss
from picolab.parts.cross_entropy import CHUNK_ELEMENTS

Pairs = Float[Tensor, "pairs 2"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dpo:
    """What is made small. The call is the objective: a model and a batch of pairs to a loss."""

    beta: float = 0.1
    variant: Literal["dpo", "ipo"] = "dpo"
    label_smoothing: float = 0.0
    per_token: bool = False
    imitation: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.beta < math.inf:
            raise BadSetting(
                f"`beta` is {self.beta:g}, and nothing would hold the model to its reference",
                hint="beta is above 0: 0.1 is usual, more keeps the model closer",
            )
        if not 0 <= self.label_smoothing < 0.5:
            raise BadSetting(
                f"`label_smoothing` is {self.label_smoothing:g}, and from 0.5 on the pairs would say nothing",
                hint="it is the share of pairs taken to be in the wrong order: 0 to 0.5",
            )
        if self.variant == "ipo" and self.label_smoothing:
            raise BadSetting(
                f"`label_smoothing` {self.label_smoothing:g} has no meaning with `ipo`",
                hint="ipo aims at a margin instead of certainty: leave label_smoothing out",
            )
        if not 0 <= self.imitation < math.inf:
            raise BadSetting(f"`imitation` is {self.imitation:g}", hint="it is a weight: 0 leaves the term out")

    @property
    def at_start(self) -> float:
        """The preference loss where the policy is the reference, whatever the pairs."""
        return math.log(2) if self.variant == "dpo" else 1 / (2 * self.beta) ** 2

    def __call__(self, model: LanguageModel, batch: PairBatch) -> Loss:
        """The mean over pairs, and TRL's figures as sums over pairs."""
        logps = response_logps(model, batch)
        judged = self.judge(logps, batch.reference, batch.response.to(logps.device))
        losses = judged.losses
        if self.imitation:
            losses = losses - self.imitation * logps[:, 0] / batch.typical
        total = losses.sum()
        return Loss(total / batch.height, total.detach(), batch.height, self._figures(judged, logps))

    def judge(self, logps: Pairs, reference: Pairs, lengths: Tensor) -> Judged:
        """Loss of every pair, chosen first, and the rewards of both sides."""
        ratios = logps - reference
        compared = ratios / lengths if self.per_token else ratios
        margin = compared[:, 0] - compared[:, 1]
        if self.variant == "ipo":
            losses = (margin - 1 / (2 * self.beta)).square()
        else:
            e = self.label_smoothing
            losses = -(1 - e) * F.logsigmoid(self.beta * margin)
            if e:
                losses = losses - e * F.logsigmoid(-self.beta * margin)
        return Judged(losses, self.beta * ratios)

    def _figures(self, judged: Judged, logps: Pairs) -> Mapping[str, Tensor]:
        """TRL's names; the loss of the preference alone where something was added to it."""
        rewards, seen = judged.rewards.detach(), logps.detach()
        margins = rewards[:, 0] - rewards[:, 1]
        figures = {
            "rewards/chosen": rewards[:, 0].sum(),
            "rewards/rejected": rewards[:, 1].sum(),
            "rewards/margins": margins.sum(),
            "rewards/accuracies": (margins > 0).sum().to(rewards.dtype),
            "logps/chosen": seen[:, 0].sum(),
            "logps/rejected": seen[:, 1].sum(),
        }
        if self.imitation:
            figures["train/preference_loss"] = judged.losses.detach().sum()
        return figures


class Judged(NamedTuple):
    """The preference loss of every pair and the implied rewards `(pairs, 2)`, chosen first."""

    losses: Float[Tensor, " pairs"]
    rewards: Pairs


def response_logps(model: LanguageModel, batch: PairBatch) -> Pairs:
    """ln p(response | prompt) of both sides of every pair, differentiable.

    Both sides go through the model in one pass, and only positions that predict a response token go through the head. Their
    losses get unequal weights, so the gradient cannot be made on the way down as `Head.losses` does: the logits are kept while
    they fit, and made again where not.
    """
    packed = pack(batch)
    features = model.features(packed.tokens, documents=packed.documents)
    scored = packed.targets != IGNORE
    rows, targets = features[scored][None], packed.targets[scored][None]
    if targets.numel() * model.config.vocab_size <= CHUNK_ELEMENTS:
        logits = model.head(rows)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        losses = F.cross_entropy(logits[0], targets[0], reduction="none")
    else:
        losses = model.head.losses(rows, targets)[0]
    logps = torch.zeros(2 * batch.height, dtype=losses.dtype, device=losses.device)
    return logps.index_add(0, packed.owner, -losses).view(-1, 2)
