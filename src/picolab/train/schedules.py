"""How large is a step? Small at first, while AdamW's averages fill; then a slow fall. Loshchilov and Hutter 2016, arXiv:1608.03983.

lr      /''--.                  step s of S, warm-up W, counted from 0
       /      '-.               s < W       lr * (s + 1) / W
      /          '-.__ min_lr   otherwise   min_lr + (lr - min_lr) * (1 + cos(pi * (s - W) / (S - 1 - W))) / 2
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from picolab.errors import BadSetting


@dataclass(frozen=True, kw_only=True, slots=True)
class Cosine:
    """Linear warm-up to `lr`, then half a cosine down to `min_lr`, reached in the last step."""

    lr: float
    min_lr: float
    warmup: int
    steps: int

    def __post_init__(self) -> None:
        if self.warmup > self.steps:
            raise BadSetting(
                f"`optimizer.warmup` {self.warmup} is longer than the run of {self.steps} steps",
                hint="a tenth of the run is usual; leave it out to get that",
            )

    def at(self, step: int) -> float:
        """The learning rate of a step, counted from 0; `min_lr` for every step after the last."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.steps - 1 - self.warmup))
        return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * done)) / 2
