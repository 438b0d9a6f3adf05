"""How do machines that share no folder work on one study? Through a database, which Optuna keeps.

    --storage sqlite:///study.db            study "NAME"           an Optuna trial an outcome, added whole; the plan as an attribute
              postgresql://host/studies     study "NAME/claims"    an Optuna trial a claim, RUNNING while its holder lives
              mysql://host/studies          study "NAME/search"    what a search asked and told (tpe.py)

Runs and their checkpoints stay on the machine that made them, outcomes are everywhere.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from picolab.errors import BadCheckpoint, BadInput
from picolab.runs import atomic
from picolab.runs.machine import without_password
from picolab.studies import shared_claims
from picolab.studies.database import Database, in_parts, whole
from picolab.studies.outcome import Outcome, typed
from picolab.studies.storage import CLAIMS, PATIENCE, SHARED, Storage, acquired, check_same, plain
from picolab.studies.study import Study

LOOK = 2.0
"""Seconds between two looks at what others hold: a database is asked less often than a folder."""


class SharedStorage(Storage):
    """A study in a database, with a folder on this machine for its runs."""

    wait = LOOK

    def __init__(self, folder: Path, url: str, study: Study, *, patience: float = PATIENCE) -> None:
        super().__init__(folder, patience=patience)
        self.name = study.name
        self.database = Database(url)
        self.place, self.optuna = self.database.place, self.database.optuna
        self._study = self.database.study(study.name)

    @cached_property
    def claims(self) -> shared_claims.Claims:
        """Who works on what; made once it is known that the database is ours."""
        return shared_claims.Claims(self.database, self.name)

    @classmethod
    def join(cls, folder: Path, url: str, study: Study, *, patience: float = PATIENCE) -> SharedStorage:
        """Begin the study in a database, or join it there if it is the same; the folder must be this machine's for this study."""
        note = folder / SHARED
        if note.exists():
            check_place(folder, url)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BadInput(
                f"`{folder}` exists and holds no part of a study in a database",
                hint="choose a new or empty folder with --out",
            )
        storage = cls(folder, url, study, patience=patience)
        plan = storage._plan()
        if plan is not None:
            check_same(plan, study, storage.place, hint="choose another database, or another `study` name")
        elif storage.database.trials(storage._study):
            raise BadInput(
                f"`{storage.place}` holds a study `{study.name}` of another program", hint="choose another `study` name"
            )
        with atomic.reported(folder):
            folder.mkdir(parents=True, exist_ok=True)
        atomic.write_json(note, {"storage": storage.place})
        Storage.take_up(folder, study, patience=patience)
        with storage.locked(), storage.database.said():
            if storage._plan() is None:
                storage.optuna.set_study_user_attr(storage._study, "plan", plain(study))
        return storage

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the study on all machines for a moment."""
        until = time.monotonic() + max(self.patience, shared_claims.GRACE + 2 * shared_claims.BEAT)
        with super().locked():
            while (claim := self.claims.take("the study itself")) is None:
                if time.monotonic() > until:
                    raise BadInput(
                        f"`{self.place}` has been locked by another process for {self.patience:g} s",
                        hint="a process that was stopped (Ctrl-Z) keeps its lock: let it go on or end it; nothing is lost",
                    )
                time.sleep(0.1)
            try:
                yield
            finally:
                claim.release()

    def claim(self, run: str) -> Any:
        """The right to work on a run: among the processes of this machine first, then among machines."""
        here = FileLock(self.folder / CLAIMS / f"{run}.lock")
        if not acquired(here, 0):
            return None
        there = self.claims.take(run)
        if there is None:
            here.release()
            return None
        there.here = here
        return there

    def outcome(self, name: str) -> Outcome | None:
        """The outcome of a trial, wherever it was made; a copy is kept on this machine."""
        if (found := super().outcome(name)) is not None:
            return found
        for one in self.database.trials(self._study):
            if (text := whole("outcome", one.user_attrs)) is not None and one.user_attrs["trial"] not in self._known:
                try:
                    made: Outcome = typed().validate_python(json.loads(text))
                except ValueError as error:
                    raise BadCheckpoint(
                        f"outcome `{one.user_attrs['trial']}` in `{self.place}` cannot be read",
                        hint="it was damaged after it was written, or is of another version of picolab",
                    ) from error
                super().keep(made)
                self._known[made.name] = made
        return self._known.get(name)

    def keep(self, outcome: Outcome) -> None:
        """Record an outcome in the database, whole or not at all, then here."""
        from optuna.trial import TrialState

        text = json.dumps(typed().dump_python(outcome, mode="json"))
        loss = outcome.figures.get("loss")
        state = TrialState.COMPLETE if loss is not None else TrialState.FAIL
        self.database.add(self._study, state, value=loss, trial=outcome.name, **in_parts("outcome", text))
        super().keep(outcome)

    def _plan(self) -> Any:
        """The study as the database has it; None before it was begun there."""
        with self.database.said():
            return self.optuna.get_study_user_attrs(self._study).get("plan")


def check_place(folder: Path, url: str | None) -> None:
    """Refuse to go on with a folder whose study lives in another database than the one named."""
    try:
        before = json.loads((folder / SHARED).read_text(encoding="utf-8"))["storage"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadCheckpoint(
            f"`{folder / SHARED}` does not say where the study lives",
            hint="remove it and name the database with --storage",
        ) from error
    if url is None or without_password(url) != before:
        raise BadInput(
            f"the study in `{folder}` lives in `{before}`"
            + ("" if url is None else f", not in `{without_password(url)}`"),
            hint=f"--storage {before}" + ("" if "@" not in before else ", with the password"),
        )


def open_storage(folder: Path, url: str | None, study: Study) -> Storage:
    """The storage of a study that was taken up before, by this process or by one that started it."""
    return Storage(folder) if url is None else SharedStorage(folder, url, study)
