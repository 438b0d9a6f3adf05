"""The whole: a study put to as many processes as asked, and what it found, on disk.

Study -> Storage (new, or taken up) -> work, alone or by workers -> gather -> study.json, CSV, plots
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from picolab.errors import BadInput
from picolab.studies.gather import gather
from picolab.studies.plots import draw_plots
from picolab.studies.points import check_size
from picolab.studies.result import StudyResult
from picolab.studies.search import search_of
from picolab.studies.storage import Storage
from picolab.studies.study import Study
from picolab.studies.work import StudyEvent, work
from picolab.studies.workers import WorkerFell, Workers

PLOTS = "plots"
Report = Callable[[int, StudyEvent | WorkerFell], None]


def sweep(
    study: Study, *, out: Path, workers: int = 1, meant: bool = False, report: Report | None = None
) -> StudyResult:
    """Run every trial of a study that has no outcome yet, in the folder `out`, and gather what all of them say.

    Several calls may work on one folder at the same time, here or on machines that share it. Interrupted, the result has `complete`
    False, and the same call goes on. `meant` confirms a study of more than 10,000 runs. `report` hears events, each with the number
    of the worker it comes from.
    """
    if workers < 1:
        raise BadInput(f"{workers} workers do nothing", hint="1, or as many as there are cores")
    check_size(study, meant=meant)
    storage = Storage.take_up(out, study)
    search = search_of(study, storage)
    tell = report or _ignore
    try:
        if workers == 1:
            complete = work(study, storage, search, report=lambda event: tell(0, event))
        else:
            complete = Workers(study, out, workers, tell).whole()
    except KeyboardInterrupt:
        complete = False
    with storage.locked():
        result = gather(study, storage, search, complete=complete)
        result.save(out)
        draw_plots(result, out / PLOTS)
    return result


def _ignore(worker: int, event: StudyEvent | WorkerFell) -> None:
    """Nobody listens."""
