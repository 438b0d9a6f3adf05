"""How a training looks while it runs: a bar on a terminal, plain lines in a pipe.

softmax-pico: 6,861,440 parameters on cpu, float32; about 3 min 20 s and 1.1 GB, measured over 3 steps
step 120/1000  loss 4.812  3,420 tokens/s  ETA 2 min 5 s
step 200/1000  validation loss 4.655 nats a token, 1.912 bits a byte (lower is better)  *best so far
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from picolab.cli.amounts import COUNTING, READING, SECONDS_BETWEEN_LINES, AmountDisplay
from picolab.cli.console import duration, number, quoted, size
from picolab.train.events import Counting, Estimate, Evaluated, Event, Reading, Sampled, Saved, Started, Step, Stopped

NOTICE_AFTER = 3
"""Evaluations without improvement before it is said in words."""


class Display:
    """Shows the events of one training on `console`; `with` closes the bar however the training ends.

    With a `label` the training is one of many: it is named so, and says only how far it is.
    """

    def __init__(self, console: Console, *, label: str | None = None) -> None:
        self.console = console
        self.label = label
        self.stopped: Stopped | None = None
        self.started: Started | None = None
        self._reading = AmountDisplay(console, READING)
        self._counting = AmountDisplay(console, COUNTING)
        self._bar = _bar(console) if console.is_terminal else None
        self._last_line = -math.inf if label is None else 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bars away."""
        self._reading.close()
        self._counting.close()
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case Reading():
                self._reading(event.done, event.total)
            case Counting():
                self._reading.close()
                self._counting(event.done, event.total)
            case Started():
                self._reading.close()
                self._counting.close()
                self.started = event
                self._open(event)
            case Step():
                self._step(event)
            case Evaluated():
                self._say(said_of_evaluation(event, self.started))
            case Sampled():
                self._say(f"step {event.step}  sample: {quoted(event.prompt)}|{quoted(event.text)}")
            case Saved():
                pass  # the end says where everything is
            case Stopped():
                self.stopped = event

    def _open(self, event: Started) -> None:
        if self.label is None:
            for line in said_at_start(event):
                self._say(line)
        elif event.estimate is not None:
            self._say(f"{self.label}: {event.parameters:,} parameters, about {duration(event.estimate.seconds)}")
        if self._bar is not None:
            self._bar.add_task(self.label or event.preset, total=event.steps, completed=event.step, figures="")
            self._bar.start()

    def _step(self, event: Step) -> None:
        rate, eta = f"{event.tokens_per_second:,.0f} tokens/s", duration(event.eta_seconds)
        figures = f"loss {number(event.loss)}  {rate}  ETA {eta}"
        last = event.step == event.steps and self.label is None
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=event.step, figures=figures)
        elif last or event.seconds - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = event.seconds
            self._say(f"step {event.step}/{event.steps}  {figures}")

    def _say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)


def said_at_start(event: Started) -> list[str]:
    """What is about to happen, how long it takes and how much memory, before it does."""
    trainable = "" if event.trainable == event.parameters else f" ({event.trainable:,} trainable)"
    where = event.device if event.processes == 1 else f"{event.processes} processes on {event.device}"
    lines = [
        f"{event.preset}: {event.parameters:,} parameters{trainable}, vocabulary {event.vocab_size:,}; "
        f"on {where} in {event.dtype} ({event.dtype_reason})"
    ]
    if event.resumed:
        lines.append(f"going on after step {event.step} of {event.steps}")
    left = max(0, event.steps - event.step)
    plan = f"{left:,} steps, about {event.tokens_planned * left // max(event.steps, 1):,} tokens"
    lines.append(plan + (f"; {said_of(event.estimate)}" if event.estimate else ""))
    return [*lines, *event.notes, f"writing to {event.run}"]


def said_of(estimate: Estimate) -> str:
    """Time and memory of the run to come."""
    low, high = duration(estimate.seconds_low), duration(estimate.seconds_high)
    span = f"{low} to {high}" if low != high else low
    return (
        f"about {duration(estimate.seconds)} ({span}) and {size(estimate.memory_bytes)} of memory, "
        f"measured over {estimate.measured_steps} steps; {size(estimate.checkpoint_bytes)} of disk a checkpoint"
    )


def said_of_evaluation(event: Evaluated, started: Started | None) -> str:
    """The validation loss, with its unit and direction, and a word where it stopped falling."""
    steps = f"/{started.steps}" if started else ""
    bits = "" if event.bits_per_byte is None else f", {event.bits_per_byte:.3f} bits a byte"
    line = f"step {event.step}{steps}  validation loss {number(event.loss)} nats a token{bits} (lower is better)"
    if event.best:
        return line + "  best so far"
    if event.without_improvement >= NOTICE_AFTER:
        return line + f"  not improved for {event.without_improvement} evaluations"
    return line


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
        transient=True,
    )
