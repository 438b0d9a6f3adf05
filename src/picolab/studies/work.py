"""What does a process do for a study? It takes a trial that nobody works on, finishes it, and looks again.

points -> trials without outcome -> claim one -> run -> outcome -> ..
       -> all claimed by others: let the search grow, or wait for what they finish or drop
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from picolab.studies.outcome import Outcome
from picolab.studies.points import Trial, trials_of
from picolab.studies.search import Search
from picolab.studies.storage import Claimed, Storage
from picolab.studies.study import Study
from picolab.studies.trial import run_trial
from picolab.train.events import Event


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialBegins:
    """A process has taken a trial; `done` of `of` were over at that moment."""

    trial: Trial
    done: int
    of: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialEnds:
    """A trial has its outcome."""

    trial: Trial
    outcome: Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """Nothing is left to take; `others` trials are in the hands of other processes."""

    others: int


StudyEvent = TrialBegins | TrialEnds | Waiting | Event
Listener = Callable[[StudyEvent], None]


def work(
    study: Study, storage: Storage, search: Search, *, report: Listener, goes_on: Callable[[], bool] = lambda: True
) -> bool:
    """Work until every trial has an outcome; False where a signal ended it before."""
    waiting = False
    while goes_on():
        trials, pending = _left(study, storage, search)
        taken = _take(storage, pending)
        if taken is not None:
            trial, claim = taken
            waiting = False
            try:
                done = len(trials) - len(pending)
                report(
                    TrialBegins(trial=trial, done=done, of=max(len(trials), (study.n_points or 0) * len(study.seeds)))
                )
                outcome = run_trial(study, storage, trial, report=report)
            finally:
                claim.release()
            if outcome is None:
                return False
            report(TrialEnds(trial=trial, outcome=outcome))
        elif not search.grow():
            trials, pending = _left(study, storage, search)  # another may have asked for a point since we looked
            if not pending:
                return True
            if not waiting:
                report(Waiting(others=len(pending)))
            waiting = True
            time.sleep(storage.wait)
    return False


def _left(study: Study, storage: Storage, search: Search) -> tuple[list[Trial], list[Trial]]:
    """All trials asked for so far, and those of them without an outcome."""
    trials = trials_of(study, search.points())
    return trials, [trial for trial in trials if trial.point and storage.outcome(trial.name) is None]


def _take(storage: Storage, pending: list[Trial]) -> tuple[Trial, Claimed] | None:
    """The first trial that is nobody's, and the claim on its run."""
    for trial in pending:
        claim = storage.claim(trial.run)
        if claim is None:
            continue
        if storage.outcome(trial.name) is None:
            return trial, claim
        claim.release()  # its holder finished between our two looks
    return None
