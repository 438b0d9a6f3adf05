"""How long will it take, and how much memory? Take a few steps that change nothing, and count up.

forward + backward, twice or more, timed -> x steps + evaluations -> seconds;   peak of memory + optimizer -> bytes
"""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import nn

from picolab.data.batch import Rows
from picolab.measure.memory import PeakMemory
from picolab.train.events import Estimate
from picolab.train.step import Stepper

ENOUGH_SECONDS = 1.0
"""Longer than this is not spent on steps that are thrown away, beyond the two that are needed."""


def estimate(
    stepper: Stepper, batch: Callable[[int], Rows], *, first: int, steps: int, evaluation_seconds: float
) -> Estimate:
    """Measure steps on the run's own next batches, without the optimizer; parameters stay as they are."""
    seconds: list[float] = []
    with PeakMemory() as memory:
        # The first one pays for things that happen once: it is measured only if there is no other.
        # Several processes must take equally many, and their clocks differ.
        most = 4 if stepper.world.size == 1 else 2
        while len(seconds) < 2 or (len(seconds) < most and sum(seconds) < ENOUGH_SECONDS):
            start = time.perf_counter()
            summed = stepper.gradients(first + len(seconds), batch(first + len(seconds)))
            summed.total.item()  # waits for the device
            stepper.optimizer.zero_grad(set_to_none=True)
            seconds.append(time.perf_counter() - start)
    steady = sorted(seconds[1:])
    step_seconds = steady[len(steady) // 2]
    parameters = trainable_bytes(stepper.model)
    # AdamW keeps two averages; after a resume they are in the measured peak already.
    optimizer = 0 if stepper.optimizer.state else 2 * parameters
    peak = memory.peak_bytes if memory.device_peak_bytes is None else memory.device_peak_bytes
    return Estimate(
        measured_steps=len(seconds),
        step_seconds=step_seconds,
        seconds=steps * step_seconds + evaluation_seconds,
        seconds_low=steps * steady[0] * 0.9 + evaluation_seconds,
        seconds_high=steps * max(seconds[-1], steady[-1]) * 1.3 + evaluation_seconds,
        memory_bytes=peak + optimizer,
        checkpoint_bytes=3 * parameters,
    )


def trainable_bytes(model: nn.Module) -> int:
    """Bytes of the parameters that training changes."""
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
