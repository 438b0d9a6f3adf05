"""Who works on which run, where machines share a database and no folder? Whoever has the living claim with the lowest number.

    claim     add a RUNNING trial, then look: of the living claims on one run the lowest number holds, the others give way
    beat      the holder counts up an attribute; a claim whose count stood still for `GRACE` seconds of the looker's clock is dead

No machine's clock is compared with another's. A holder that was only asleep wakes to a claim that is no longer its own; then two
runs of one trial were made with the same seed, and the outcome added first counts.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from filelock import FileLock

from picolab.studies.database import Database

BEAT, GRACE = 5.0, 60.0
"""Seconds between two beats, and without one until a claim is dead: a machine may be busy for a while."""


@dataclass
class Claim:
    """A claim in the database, beating in a thread of its own until it is released."""

    storage: Any
    trial: int
    here: FileLock | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> None:
        """Let it beat."""
        threading.Thread(target=self._beat, daemon=True).start()

    def release(self) -> None:
        """Give it up, so that others need not wait for its death."""
        from optuna.exceptions import OptunaError
        from optuna.trial import TrialState

        self._over.set()
        try:
            self.storage.set_trial_state_values(self.trial, TrialState.FAIL)
        except (RuntimeError, OptunaError):
            return  # ended by somebody who took it for dead, or the database is gone: then silence ends it
        finally:
            if self.here is not None:
                self.here.release()

    def _beat(self) -> None:
        from optuna.exceptions import OptunaError

        count = 0
        while not self._over.wait(BEAT):
            count += 1
            try:
                self.storage.set_trial_user_attr(self.trial, "beat", count)
            except RuntimeError:
                return  # somebody took it for dead; what this process makes is the same, and comes second
            except OptunaError:
                continue  # locked for a moment: the next beat may pass


class Claims:
    """The claims of a study, and when this process saw each of them beat."""

    def __init__(self, database: Database, study: str) -> None:
        self.database = database
        self._study = database.study(f"{study}/claims")
        self._seen: dict[int, tuple[int, float]] = {}

    def take(self, name: str) -> Claim | None:
        """A claim; None where a living process has it."""
        from optuna.trial import TrialState

        with self.database.said():
            if self._holder(name) is not None:
                return None
            mine = self.database.add(self._study, TrialState.RUNNING, claim=name, beat=0)
            claim = Claim(storage=self.database.optuna, trial=mine)
            if self._holder(name) != mine:
                claim.release()
                return None
        claim.begin()
        return claim

    def _holder(self, name: str) -> int | None:
        """The living claim with the lowest number; claims found dead are ended."""
        from optuna.trial import TrialState

        now = time.monotonic()
        for one in self.database.trials(self._study):
            if one.state != TrialState.RUNNING or one.user_attrs.get("claim") != name:
                continue
            beat = int(one.user_attrs.get("beat", 0))
            if self._seen.get(one._trial_id, (-1, now))[0] != beat:
                self._seen[one._trial_id] = (beat, now)
            if now - self._seen[one._trial_id][1] < GRACE:
                return int(one._trial_id)
            Claim(storage=self.database.optuna, trial=one._trial_id).release()
        return None
