"""What should somebody who watches preference training be told? Three things that a number shows and a beginner does not see.

    the loss stays at ln 2            the model is still its reference: nothing moves it
    accuracy stays near one half      it moves, and does not learn which side is better
    the chosen reward falls           both sides become less likely; only the worse one faster

Each is said once, when it has gone on for a while, with the numbers and what may help.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

STILL_STEPS = 20
"""Steps in which a loss that has not moved is no accident."""

STILL = 1e-3
"""How far a loss may be from where it started, relatively, and count as not moved."""

STUCK_EVALUATIONS = 3
STUCK = 0.55
"""Held-out accuracy up to which nothing has been learned: half is what chance gives."""

FALLING = -0.5
"""Mean chosen reward over `STILL_STEPS` steps below which it is said; with beta 0.1 that is 5 nats a response."""


@dataclass
class Remarks:
    """Hears the figures of steps and evaluations; answers with sentences. `at_start` is the loss of an unmoved model."""

    at_start: float
    imitation: float
    said: set[str] = field(default_factory=set)
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=STILL_STEPS))
    chosen: deque[float] = field(default_factory=lambda: deque(maxlen=STILL_STEPS))
    accuracies: list[float] = field(default_factory=list)

    def after_step(self, step: int, loss: float, figures: Mapping[str, float]) -> list[str]:
        """What a step gives reason to say."""
        self.losses.append(figures.get("train/preference_loss", loss))
        self.chosen.append(figures["rewards/chosen"])
        if len(self.losses) < STILL_STEPS:
            return []
        found = []
        if all(abs(one - self.at_start) <= STILL * self.at_start for one in self.losses):
            found += self._once(
                "still",
                f"the loss has been {self.at_start:.4f} for {STILL_STEPS} steps: that is what a model scores that is still its "
                "reference, so nothing has moved; raise --lr",
            )
        mean = sum(self.chosen) / len(self.chosen)
        if mean < FALLING:
            rejected = mean - figures["rewards/margins"]
            advice = "; more --imitation holds them" if self.imitation else "; --imitation 1 holds them"
            found += self._once(
                "falling",
                f"the chosen responses are becoming less likely too: their reward is {mean:.2f} on average over {STILL_STEPS} "
                f"steps (rejected about {rejected:.2f}). That is usual: the loss asks for a margin only{advice}",
            )
        return found

    def after_evaluation(self, step: int, accuracy: float) -> list[str]:
        """What held-out pairs give reason to say; the one before the first step measures nothing yet."""
        if step == 0:
            return []
        self.accuracies.append(accuracy)
        recent = self.accuracies[-STUCK_EVALUATIONS:]
        if len(recent) < STUCK_EVALUATIONS or max(recent) > STUCK:
            return []
        return self._once(
            "stuck",
            f"held-out accuracy has stayed at {max(recent):.0%} or below for {STUCK_EVALUATIONS} evaluations, and half is chance: "
            "the pairs may be noise to this model; look at them, raise --lr, or train a better base",
        )

    def _once(self, name: str, sentence: str) -> list[str]:
        if name in self.said:
            return []
        self.said.add(name)
        return [sentence]
