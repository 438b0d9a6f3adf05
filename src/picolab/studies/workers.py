"""Several trials at once: processes that each work as the only one would, and a parent that listens and replaces the fallen.

    parent --spawn--> worker 0, worker 1 ..     each: claim, run, record (work.py)
           <--pipe--  events                    a worker that was killed is replaced; its trial is taken up by whoever comes

Workers share nothing but the study's folder, so a killed one harms nobody. One whose parent has gone finishes its step, saves and
ends. Each uses its share of the processor's cores: on two cores two workers are single-threaded.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from picolab.errors import BadInput, PicolabError
from picolab.studies.points import Trial
from picolab.studies.search import search_of
from picolab.studies.shared import open_storage
from picolab.studies.study import Study
from picolab.studies.work import StudyEvent, TrialBegins, TrialEnds, work
from picolab.train.events import Step
from picolab.train.interruptions import Interruptions

FALLS = 3
"""So many processes that fell during the same trial end the study: the next one would fall as well."""
LISTEN = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerFell:
    """A worker's process ended without a word, by a kill or for want of memory; another one takes its place."""

    worker: int
    process: int
    code: int | None
    trial: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """The error that ended a worker."""

    message: str
    hint: str | None


@dataclass
class _Worker:
    number: int
    process: SpawnProcess
    events: Connection
    trial: Trial | None = None
    over: bool = False


@dataclass
class Workers:
    """The parent's side."""

    study: Study
    folder: Path
    count: int
    storage: str | None
    report: Callable[[int, StudyEvent | WorkerFell], None]
    falls: Counter[str | None] = field(default_factory=Counter)

    def whole(self) -> bool:
        """Until no trial is left; False where a signal ended it before."""
        workers = [self._start(number) for number in range(self.count)]
        with Interruptions() as interruptions:
            try:
                while any(not worker.over for worker in workers):
                    if interruptions.received is not None:
                        self._ask_to_stop(workers)
                    self._listen(workers)
            finally:
                self._ask_to_stop(workers)
                for worker in workers:
                    worker.process.join()
        return all(worker.process.exitcode == 0 for worker in workers) and interruptions.received is None

    def _start(self, number: int) -> _Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe(duplex=False)
        threads = share_of_threads(self.count)
        process = context.Process(
            target=_worker, args=(self.study, self.folder, self.storage, there, threads), daemon=False
        )
        process.start()
        there.close()  # the parent's copy: the pipe ends when the worker does
        return _Worker(number, process, here)

    def _listen(self, workers: list[_Worker]) -> None:
        alive = {worker.events: worker for worker in workers if not worker.over}
        for connection in wait(list(alive), timeout=LISTEN):
            worker = alive[connection]  # type: ignore[index]
            try:
                event = worker.events.recv()
            except (EOFError, OSError):
                self._ended(worker, workers)
                continue
            if isinstance(event, Failure):
                raise BadInput(event.message, hint=event.hint)
            if isinstance(event, TrialBegins):
                worker.trial = event.trial
            elif isinstance(event, TrialEnds):
                worker.trial = None
            self.report(worker.number, event)

    def _ended(self, worker: _Worker, workers: list[_Worker]) -> None:
        worker.process.join()
        worker.over = True
        if worker.process.exitcode in (0, _STOPPED):
            return
        name = None if worker.trial is None else worker.trial.name
        self.falls[name] += 1
        self.report(
            worker.number,
            WorkerFell(
                worker=worker.number,
                process=worker.process.pid or 0,
                code=worker.process.exitcode,
                trial=None if worker.trial is None else worker.trial.label,
            ),
        )
        if self.falls[name] >= FALLS:
            raise BadInput(
                f"{FALLS} processes ended without a word during {'the start' if name is None else f'trial `{name}`'}, "
                f"the last with code {worker.process.exitcode}",
                hint="is there memory enough? fewer --workers need less; what is finished is kept",
            )
        workers[worker.number] = self._start(worker.number)

    def _ask_to_stop(self, workers: list[_Worker]) -> None:
        """The first signal of each: the step under way is finished and saved."""
        for worker in workers:
            if not worker.over and worker.process.is_alive() and worker not in self._asked:
                self._asked.append(worker)
                worker.process.terminate()

    _asked: list[_Worker] = field(default_factory=list)


_STOPPED = 130


def share_of_threads(workers: int) -> int:
    """Threads of each of so many workers: its share of the cores."""
    return max(1, len(os.sched_getaffinity(0)) // workers) if hasattr(os, "sched_getaffinity") else 1


def _worker(study: Study, folder: Path, url: str | None, events: Connection, threads: int) -> None:
    """A worker's whole life."""
    import torch

    torch.set_num_threads(threads)
    parent = os.getppid()
    stopped = False

    def stop(number: int, frame: Any) -> None:
        nonlocal stopped
        stopped = True

    # Between runs a signal is only noted; during one the loop has its own way (train/interruptions.py).
    for number in Interruptions.SIGNALS:
        signal.signal(number, stop)

    def report(event: StudyEvent) -> None:
        if isinstance(event, Step) and os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
        with suppress(OSError):  # nobody listens any more; the step above notices why
            events.send(event)

    try:
        storage = open_storage(folder, url, study)
        done = work(
            study,
            storage,
            search_of(study, storage),
            report=report,
            goes_on=lambda: not stopped and os.getppid() == parent,
        )
    except PicolabError as error:
        events.send(Failure(message=str(error), hint=error.hint))
        done = True
    events.close()
    os._exit(0 if done else _STOPPED)  # torch's threads may take a second to say farewell
