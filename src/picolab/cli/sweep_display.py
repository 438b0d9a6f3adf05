"""How a study looks while it runs: a live table on a terminal, plain lines in a pipe.

7/18 trials, ETA 3 min 20 s, best loss 2.305 (lr 0.002)
worker  trial                      step     loss   ETA
0       lr 0.001, seed 1        120/400   2.41    12 s
1       lr 0.002, seed 0         40/400   3.02    40 s
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from picolab.cli.console import duration, number
from picolab.studies.study import Study

if TYPE_CHECKING:
    from picolab.studies.work import StudyEvent
    from picolab.studies.workers import WorkerFell

REFRESH = 4
"""Times a second that the table is drawn."""


def in_the_middle_cut(words: str, letters: int) -> str:
    """Words that fit: of a trial both ends tell most, its model and its seed."""
    if len(words) <= letters:
        return words
    end = max(0, letters - 1) // 2
    return words[: max(0, letters - 1) - end] + "…" + words[len(words) - end :]


@dataclass
class _Row:
    label: str = "waiting"
    step: str = ""
    loss: str = ""
    eta: str = ""
    share: float = 0.0


class SweepDisplay:
    """Shows the events of a study; `with` closes the table however it ends."""

    def __init__(self, console: Console, study: Study, folder: Path) -> None:
        self.console, self.study = console, study
        self.done = self.of = self.mine = 0
        self.best: tuple[float, str] | None = None
        self._rows: dict[int, _Row] = {}
        self._began = time.monotonic()
        self._live = (
            Live(console=console, get_renderable=self._table, refresh_per_second=REFRESH, transient=True)
            if console.is_terminal
            else None
        )
        self._folder = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, worker: int, event: StudyEvent | WorkerFell) -> None:
        from picolab.studies.work import TrialBegins, TrialEnds, Waiting
        from picolab.studies.workers import WorkerFell
        from picolab.train.events import Step

        if not self._rows:  # the first event: the study was not refused
            self.console.print(f"{self.study.name}: writing to {self._folder}", soft_wrap=True)
            if self._live is not None:
                self._live.start()
        row = self._rows.setdefault(worker, _Row())
        match event:
            case TrialBegins():
                self.done, self.of = max(self.done, event.done), event.of
                self._rows[worker] = _Row(label=event.trial.label)
            case Step():
                row.step, row.loss, row.eta = (
                    f"{event.step}/{event.steps}",
                    number(event.loss),
                    duration(event.eta_seconds),
                )
                row.share = event.step / event.steps if event.steps else 0.0
            case TrialEnds():
                self._ended(event)
                self._rows[worker] = _Row()
            case Waiting():
                row.label = f"waiting, {event.others} trial{'s are' if event.others > 1 else ' is'} with others"
                self._say(row.label)
            case WorkerFell():
                self._say(
                    f"worker {event.worker} (process {event.process}) ended with code {event.code}; another takes its place"
                )

    def _ended(self, event: object) -> None:
        from picolab.studies.figures import FIGURES
        from picolab.studies.points import point_said
        from picolab.studies.work import TrialEnds

        assert isinstance(event, TrialEnds)
        outcome = event.outcome
        self.done, self.mine = self.done + 1, self.mine + 1
        goal = outcome.figures.get(self.study.goal)
        small = FIGURES[self.study.goal].wants_small
        if goal is not None and (self.best is None or (goal < self.best[0]) == small):
            self.best = (goal, point_said(outcome.point))
        what = (
            f"{self.study.goal} {number(goal)}"
            if outcome.status == "finished"
            else f"{outcome.status}: {outcome.reason}"
        )
        self._say(f"{self.done}/{self.of}  {event.trial.label}: {what}, {duration(outcome.seconds)}")

    def _say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)

    def _table(self) -> Group:
        # The line above the table is cut, never wrapped: a height that changes makes a terminal flicker.
        head = Text(self._headline(), no_wrap=True, overflow="ellipsis")
        if not self._rows or self.done >= self.of > 0:  # nobody works
            return Group(head)
        table = Table(box=None, pad_edge=False)
        for column in ("worker", "trial", "step", "loss", "ETA"):
            table.add_column(
                column, justify="left" if column in ("worker", "trial") else "right", overflow="ellipsis", no_wrap=True
            )
        figures = [max([len(head), *map(len, cells)]) for head, cells in self._figures()]
        room = self.console.width - len("worker") - sum(figures) - 2 * (len(figures) + 1)
        for worker, row in sorted(self._rows.items()):
            table.add_row(str(worker), in_the_middle_cut(row.label, room), row.step, row.loss, row.eta)
        return Group(head, table)

    def _figures(self) -> list[tuple[str, list[str]]]:
        rows = self._rows.values()
        return [("step", [r.step for r in rows]), ("loss", [r.loss for r in rows]), ("ETA", [r.eta for r in rows])]

    def _headline(self) -> str:
        if not self.of:
            return "starting"
        best = "" if self.best is None else f", best {self.study.goal} {number(self.best[0])} ({self.best[1]})"
        if self.done >= self.of:
            return f"{self.done}/{self.of} trials, gathering{best}"
        under_way = sum(row.share for row in self._rows.values())
        left = ""
        if self.mine + under_way > 0:
            pace = (time.monotonic() - self._began) / (self.mine + under_way)
            left = f", ETA {duration(pace * max(0.0, self.of - self.done - under_way))}"
        return f"{self.done}/{self.of} trials{left}{best}"
