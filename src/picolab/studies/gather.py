"""What do the trials say together? Points over seeds, findings, a recommendation.

outcomes -> PointResult (bands over seeds) -> findings, each of an analysis that the study asks for -> recommendation
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from picolab import __version__
from picolab.compare.bands import Band, band
from picolab.runs import machine
from picolab.studies.findings import Finding
from picolab.studies.outcome import Outcome
from picolab.studies.points import trials_of
from picolab.studies.recommend import recommend
from picolab.studies.result import PointResult, StudyResult
from picolab.studies.search import Search
from picolab.studies.storage import Storage
from picolab.studies.study import Point, Study
from picolab.studies.words.found import findings_of


def gather(study: Study, storage: Storage, search: Search, *, complete: bool) -> StudyResult:
    """The result of the outcomes there are."""
    planned = [trial for trial in trials_of(study, search.points()) if trial.point]
    found = [outcome for trial in planned if (outcome := storage.outcome(trial.name)) is not None]
    points = tuple(
        _point(number, point, study, [outcome for outcome in found if outcome.number == number])
        for number, point in {trial.number: trial.point for trial in planned}.items()
    )
    facts = _facts(found)
    place = machine.place()
    findings: tuple[Finding, ...] = findings_of(study, points, found, floor=facts[1])
    return StudyResult(
        complete=complete and len(found) == len(planned),
        study=study,
        points=points,
        trials=tuple(found),
        findings=findings,
        recommendation=recommend(study, points, found),
        vocab_size=facts[0],
        uniform=None if facts[0] is None else math.log(facts[0]),
        floor=facts[1],
        held_out=facts[2],
        machine=f"{place['processor']}, {place['cpus']} cores",
        created=f"{datetime.now(UTC):%Y-%m-%d}",
        picolab=__version__,
    )


def _point(number: int, point: Point, study: Study, outcomes: Sequence[Outcome]) -> PointResult:
    finished = [outcome for outcome in outcomes if outcome.status == "finished"]
    names = sorted({name for outcome in finished for name in outcome.figures})
    bad = next((outcome.status for outcome in outcomes if outcome.status != "finished"), None)
    status = bad if bad is not None else "finished" if len(outcomes) == len(study.seeds) else "missing"
    return PointResult(
        number=number,
        point=point,
        status=status,
        seeds=tuple(outcome.seed for outcome in finished),
        figures={name: _band([o.figures[name] for o in finished if name in o.figures]) for name in names},
    )


def _band(values: Sequence[float]) -> Band:
    return band(values)


def _facts(outcomes: Sequence[Outcome]) -> tuple[int | None, float | None, bool]:
    """Vocabulary, floor, and whether anything was held out; None where the trials differ in it."""
    seen = [outcome.data for outcome in outcomes if outcome.status == "finished" and outcome.data]
    sizes, floors = {one["vocab_size"] for one in seen}, {one["floor"] for one in seen}
    size = sizes.pop() if len(sizes) == 1 else None
    return (
        None if size is None else int(size),
        floors.pop() if len(floors) == 1 else None,
        all(one["held_out"] for one in seen),
    )
