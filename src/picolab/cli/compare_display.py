"""How a comparison looks while it runs: one line a run, and the running one's bar below.

1/8  ngram, seed 0: loss 3.412 nats a token, 1.2 s
2/8  lstm, seed 0  ━━━━━━━╸━━━━  step 120/400  loss 4.81  3,420 tokens/s  ETA 40 s
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console

from picolab.cli.console import duration, number
from picolab.cli.progress import Display
from picolab.compare.compare import RunBegins, RunEnds
from picolab.train.events import Counting, Event, Reading, Started, Step


class CompareDisplay:
    """Shows the events of a comparison; `with` closes whatever bar is open."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._running: Display | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, event: RunBegins | RunEnds | Event) -> None:
        match event:
            case RunBegins():
                self._close()
                self._running = Display(
                    self.console, label=f"{event.number}/{event.of}  {event.model}, seed {event.seed}"
                )
            case RunEnds():
                self._close()
                self.console.print(_said(event), soft_wrap=True)
            case Reading() if self._running is None:
                self._running = Display(self.console)
                self._running(event)
            case Reading() | Counting() | Started() | Step() if self._running is not None:
                self._running(event)

    def _close(self) -> None:
        if self._running is not None:
            self._running.close()
            self._running = None


def _said(event: RunEnds) -> str:
    run = event.run
    start = f"{event.number}/{event.of}  {event.model}, seed {run.seed}: "
    if run.status == "failed":
        return start + f"failed: {run.reason}"
    took = "on disk already" if event.kept else "" if run.seconds is None else duration(run.seconds)
    return start + f"loss {number(run.loss)} nats a token, {took}"
