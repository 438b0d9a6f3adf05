"""Where do the seconds of a step go? Each stage says when it ends, and what has passed since the last one is its own.

    start | data | forward | loss | backward | optimizer          nothing lies between two stages, so they add up to the step

A GPU works behind the program's back: the watch waits for it at every lap, and a step is a little slower than unwatched.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from picolab.parts.head import Head
from picolab.shapes import Stream, TokenLosses, Tokens


class Stopwatch:
    """Seconds by stage since `start`; a stage that comes several times gathers its seconds."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stages: dict[str, float] = {}
        self._last = 0.0

    def start(self) -> None:
        """Begin anew, with no stage seen."""
        self.stages = {}
        settle(self.device)
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a stage."""
        settle(self.device)
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._last
        self._last = now


def watch_head(head: Head, lap: Callable[[str], None]) -> None:
    """Where the head is asked for losses the model's forward pass has ended: from now on `lap` hears of it."""
    losses = head.losses

    @torch.compiler.disable
    def watched(features: Stream, targets: Tokens) -> TokenLosses:
        lap("forward")
        return losses(features, targets)

    head.losses = watched  # type: ignore[method-assign]


def settle(device: torch.device) -> None:
    """Wait until a device has done all it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
