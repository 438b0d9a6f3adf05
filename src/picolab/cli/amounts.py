"""How reading and counting a corpus look while they run: a bar on a terminal, a line every few seconds in a pipe.

counting  ━━━━━━━╸━━━━  52 %  1.9 M tokens/s  ETA 12 s
counting   52 %  41,943,040 of 80,530,636 tokens, every table's together  1.90 M tokens/s  ETA 12 s
reading    31 %  6,492,160 of 20,942,800 bytes  1.40 MB/s  ETA 10 s
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from picolab.cli.console import duration

SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True, slots=True)
class Work:
    """What is being done, to how much of what, in which unit of a million a second; done sooner than `worth_a_line` seconds, a pipe
    hears nothing of it."""

    doing: str
    amount: str
    per_second: str
    worth_a_line: float


COUNTING = Work("counting", "tokens, every table's together", "M tokens/s", worth_a_line=0.0)
READING = Work("reading", "bytes", "MB/s", worth_a_line=1.0)


class AmountDisplay:
    """Told how much is done; the first time how much was done in an earlier run."""

    def __init__(self, console: Console, work: Work) -> None:
        self.console, self.work = console, work
        self.done = self.total = self.before = 0
        self._began = self._last_line = time.monotonic()
        self._bar = _bar(console) if console.is_terminal else None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self.total:
            self._begin(done, total, now)
        self.done = done
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, figures=self._figures(now))
        elif self.done > self.before and now - self._last_line >= (
            self.work.worth_a_line if done == total else SECONDS_BETWEEN_LINES
        ):
            self._last_line = now
            share = f"{self.work.doing:8}  {done / total:4.0%}  {done:,} of {total:,} {self.work.amount}  "
            self.console.print(share + self._figures(now), soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def _begin(self, done: int, total: int, now: float) -> None:
        self.before, self.total, self._began = done, total, now
        if 0 < done < total:
            self.console.print(f"going on where it was: {done / total:.0%} is done already", soft_wrap=True)
        if self._bar is not None:
            self._bar.add_task(self.work.doing, total=max(total, 1), completed=done, figures="")
            self._bar.start()

    def _figures(self, now: float) -> str:
        new, seconds = self.done - self.before, now - self._began
        if not new or seconds <= 0:
            return "ETA unknown"
        return f"{new / seconds / 1e6:.2f} {self.work.per_second}  ETA {duration((self.total - self.done) * seconds / new)}"


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[figures]}"),
        console=console,
        transient=True,
    )
