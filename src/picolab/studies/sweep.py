"""The whole: a study put to as many processes as asked, and what it found, on disk.

Study -> Storage (new, or taken up) -> work, alone or by workers -> gather -> study.json, CSV, plots
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from picolab.errors import BadInput
from picolab.studies.gather import gather
from picolab.studies.plots.pictures import draw_plots
from picolab.studies.points import check_size
from picolab.studies.result import StudyResult
from picolab.studies.search import check_points, search_of
from picolab.studies.storage import SHARED, Storage
from picolab.studies.study import Study
from picolab.studies.work import StudyEvent, work
from picolab.studies.workers import WorkerFell, Workers

PLOTS = "plots"
Report = Callable[[int, StudyEvent | WorkerFell], None]


def sweep(
    study: Study,
    *,
    out: Path,
    workers: int = 1,
    storage: str | None = None,
    meant: bool = False,
    report: Report | None = None,
) -> StudyResult:
    """Run every trial of a study that has no outcome yet, in the folder `out`, and gather what all of them say.

    Several calls may work on one folder at the same time, here or on machines that share it. `storage` is the address of a database
    (sqlite:///study.db, postgresql://host/studies) for machines that share none: each has a folder of its own then. Interrupted,
    the result has `complete` False, and the same call goes on. `meant` confirms a study of more than 10,000 runs. `report` hears
    events, each with the number of the worker it comes from.
    """
    if workers < 1:
        raise BadInput(f"{workers} workers do nothing", hint="1, or as many as there are cores")
    check_size(study, meant=meant)
    check_points(study)
    place = _taken_up(study, out, storage)
    search = search_of(study, place)
    tell = report or _ignore
    try:
        if workers == 1:
            complete = work(study, place, search, report=lambda event: tell(0, event))
        else:
            complete = Workers(study, out, workers, storage, tell).whole()
    except KeyboardInterrupt:
        complete = False
    with place.locked():
        result = gather(study, place, search, complete=complete)
        result.save(out)
        draw_plots(result, out / PLOTS)
    return result


def _taken_up(study: Study, out: Path, url: str | None) -> Storage:
    if url is None and not (out / SHARED).exists():
        return Storage.take_up(out, study)
    from picolab.studies.shared import SharedStorage, check_place  # Optuna, only where it is asked for

    if url is None:
        check_place(out, None)
    assert url is not None
    return SharedStorage.join(out, url, study)


def _ignore(worker: int, event: StudyEvent | WorkerFell) -> None:
    """Nobody listens."""
