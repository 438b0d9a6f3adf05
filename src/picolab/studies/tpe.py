"""Where is the loss low? Points drawn where earlier ones were good, by Optuna.

    OUT/search.journal       Optuna's own record: asked, with which values, told; with --storage it is in that database
        a point asked and not told is anybody's to finish; it is told once all its seeds have outcomes

The tree-structured Parzen estimator of Bergstra et al. 2011; what it makes small is the mean of the goal over seeds. A line that a
kill left unfinished is cut off before others write.
"""

from __future__ import annotations

import logging
import os
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from picolab.errors import BadCheckpoint, MissingExtra
from picolab.runs import atomic
from picolab.studies.figures import FIGURES
from picolab.studies.points import Trial, narrowed
from picolab.studies.storage import Storage
from picolab.studies.study import Point, Study

if TYPE_CHECKING:
    from optuna.samplers import TPESampler
    from optuna.storages.journal._file import BaseJournalFileLock
    from optuna.study import Study as OptunaStudy

JOURNAL = "search.journal"
UNREADABLE = (ValueError, KeyError, TypeError, AssertionError)
"""What Optuna raises over a file that is no journal of its own."""
STARTUP = 8
"""Points drawn at random before the estimator says anything, at most half of all."""


class Tpe:
    """A search whose memory is a file that several processes share."""

    def __init__(self, study: Study, storage: Storage) -> None:
        try:
            import optuna
        except ImportError as error:
            raise MissingExtra("`method: tpe`", "sweep") from error
        optuna.logging.set_verbosity(logging.WARNING)
        self.study, self.storage = study, storage
        self.path = storage.folder / JOURNAL
        self.distributions = {axis.name: _distribution(axis) for axis in study.axes}
        if storage.optuna is None:
            with storage.locked():
                mend(self.path)
        self._optuna = self._open()

    def points(self) -> Sequence[Point]:
        """Every point asked for so far. One that a kill left without all its values counts, and is told as failed."""
        return [narrowed(self.study, trial.params) if self._whole(trial) else {} for trial in self._trials()]

    def grow(self) -> bool:
        """Tell what has finished; then ask for another point if the study may have one."""
        from optuna.trial import TrialState

        if self._nothing_to_do():
            return False
        with self.storage.locked():
            if self.storage.optuna is None:
                mend(self.path)
            trials = self._trials()
            for trial in trials:
                if trial.state == TrialState.RUNNING:
                    self._tell(trial)
            if sum(self._whole(trial) for trial in trials) >= (self.study.n_points or 0):
                return False
            # Every process draws with dice of its own: those of the point's number, or two would draw the same point.
            self._optuna.sampler = self._sampler(len(trials))
            self._optuna.ask(self.distributions)
            return True

    def _nothing_to_do(self) -> bool:
        """Whether all points were asked for and none can be told: nobody need be locked out to see that."""
        trials = self._trials()
        if sum(self._whole(trial) for trial in trials) < (self.study.n_points or 0):
            return False
        return not any(
            all(self.storage.outcome(one.name) is not None for one in self._trials_of(trial))
            for trial in trials
            if not trial.state.is_finished()
        )

    def _trials_of(self, trial: Any) -> list[Trial]:
        if not self._whole(trial):
            return []
        point = narrowed(self.study, trial.params)
        return [Trial(number=trial.number, point=point, seed=s, run_number=trial.number) for s in self.study.seeds]

    def _tell(self, trial: Any) -> None:
        from optuna.trial import TrialState

        if not self._whole(trial):
            self._optuna.tell(trial.number, state=TrialState.FAIL)
            return
        outcomes = [self.storage.outcome(one.name) for one in self._trials_of(trial)]
        if any(outcome is None for outcome in outcomes):
            return
        done = [outcome for outcome in outcomes if outcome is not None]
        if all(outcome.status == "finished" for outcome in done):
            goal = statistics.fmean(outcome.figures[self.study.goal] for outcome in done)
            self._optuna.tell(trial.number, goal)
        else:
            pruned = any(outcome.status == "pruned" for outcome in done)
            self._optuna.tell(trial.number, state=TrialState.PRUNED if pruned else TrialState.FAIL)

    def _trials(self) -> list[Any]:
        try:
            return list(self._optuna.get_trials(deepcopy=False))
        except UNREADABLE as error:
            raise self._corrupt() from error

    def _whole(self, trial: Any) -> bool:
        return set(trial.params) == set(self.distributions)

    def _open(self) -> OptunaStudy:
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalStorage

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            try:
                return optuna.create_study(
                    storage=self.storage.optuna
                    or JournalStorage(JournalFileBackend(str(self.path), lock_obj=_lock(self.path))),
                    study_name=self.study.name if self.storage.optuna is None else f"{self.study.name}/search",
                    load_if_exists=True,
                    direction="minimize" if FIGURES[self.study.goal].wants_small else "maximize",
                    sampler=self._sampler(0),
                )
            except UNREADABLE as error:
                raise self._corrupt() from error

    def _sampler(self, number: int) -> TPESampler:
        from optuna.samplers import TPESampler

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant_liar is called experimental; it keeps parallel points apart
            return TPESampler(
                seed=int(np.random.SeedSequence([self.study.search_seed, number]).generate_state(1)[0]),
                n_startup_trials=max(1, min(STARTUP, (self.study.n_points or 0) // 2)),
                constant_liar=True,
            )

    def _corrupt(self) -> BadCheckpoint:
        return BadCheckpoint(
            f"`{self.path}` is no journal of a search",
            hint="it was damaged after it was written; remove it and the folder `trials` to search again, the runs are whole",
        )


def _lock(path: Path) -> BaseJournalFileLock:
    """Optuna's lock as one that the system lets go of when its holder is killed; Optuna's own would stand for half a minute."""
    from optuna.storages.journal._file import BaseJournalFileLock

    class Lock(BaseJournalFileLock):
        def __init__(self) -> None:
            self._lock = FileLock(f"{path}.lock")

        def acquire(self) -> bool:
            self._lock.acquire()
            return True

        def release(self) -> None:
            self._lock.release()

    return Lock()


def mend(path: Path) -> None:
    """Cut off the line that a killed process did not finish; whole lines stay."""
    with atomic.reported(path), path.open("ab+") as file, FileLock(f"{path}.lock"):
        size = file.seek(0, os.SEEK_END)
        tail = min(size, 2**20)
        file.seek(size - tail)
        end = file.read(tail).rfind(b"\n")
        if size and end != tail - 1:
            file.truncate(size - tail + end + 1)


def _distribution(axis: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not axis.is_range:
        return CategoricalDistribution(axis.values)
    if axis.integer:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)
