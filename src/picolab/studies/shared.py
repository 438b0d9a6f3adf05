"""How do machines that share no folder work on one study? Through a database, which Optuna keeps.

    --storage sqlite:///study.db            study "NAME"           an Optuna trial an outcome, added whole; the plan as an attribute
              postgresql://host/studies     study "NAME/claims"    an Optuna trial a claim, RUNNING while its holder lives
              mysql://host/studies          study "NAME/search"    what a search asked and told (tpe.py)

    claim     add a RUNNING trial, then look: of the living claims on one run the lowest number holds, the others give way
    beat      the holder counts up an attribute; a claim whose count stood still for `GRACE` seconds of the looker's clock is dead

Runs and their checkpoints stay on the machine that made them, outcomes are everywhere. No machine's clock is compared with
another's. A holder that was only asleep wakes to a claim that is no longer its own; then two runs of one trial were made with the
same seed, and the outcome added first counts.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from picolab.errors import BadCheckpoint, BadInput, MissingExtra
from picolab.runs import atomic
from picolab.studies.outcome import Outcome, typed
from picolab.studies.storage import CLAIMS, PATIENCE, SHARED, Storage, acquired, check_same, plain
from picolab.studies.study import Study

BEAT, GRACE = 5.0, 60.0
"""Seconds between two beats, and without one until a claim is dead: a machine may be busy for a while."""
LOOK = 2.0
"""Seconds between two looks at what others hold: a database is asked less often than a folder."""
MAKERS = 8
"""Machines that may begin at the same moment, each making the tables."""
TIMEOUT = 20
"""Seconds that a statement waits for a locked database."""


class SharedStorage(Storage):
    """A study in a database, with a folder on this machine for its runs."""

    wait = LOOK

    def __init__(self, folder: Path, url: str, study: Study, *, patience: float = PATIENCE) -> None:
        super().__init__(folder, patience=patience)
        self.url, self.name = url, study.name
        self.place = without_password(url)
        self.optuna = _opened(url, self.place)
        with self._said():
            self._study = self._of(study.name)
            self._claims = self._of(f"{study.name}/claims")
        self._seen: dict[int, tuple[int, float]] = {}

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
        with storage._said():
            attributes = storage.optuna.get_study_user_attrs(storage._study)
        if "plan" in attributes:
            check_same(
                attributes["plan"], study, storage.place, hint="choose another database, or another `study` name"
            )
        elif storage._trials(storage._study):
            raise BadInput(
                f"`{storage.place}` holds a study `{study.name}` of another program", hint="choose another `study` name"
            )
        with atomic.reported(folder):
            folder.mkdir(parents=True, exist_ok=True)
        atomic.write_json(note, {"storage": storage.place})
        Storage.take_up(folder, study, patience=patience)
        with storage.locked(), storage._said():
            if "plan" not in storage.optuna.get_study_user_attrs(storage._study):
                storage.optuna.set_study_user_attr(storage._study, "plan", plain(study))
        return storage

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the study on all machines for a moment."""
        until = time.monotonic() + max(self.patience, GRACE + 2 * BEAT)
        with super().locked():
            while (claim := self._claim_there("the study itself")) is None:
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
        there = self._claim_there(run)
        if there is None:
            here.release()
            return None
        there.here = here
        return there

    def outcome(self, name: str) -> Outcome | None:
        """The outcome of a trial, wherever it was made; a copy is kept on this machine."""
        if (found := super().outcome(name)) is not None:
            return found
        for one in self._trials(self._study):
            if (text := one.user_attrs.get("outcome")) is not None and one.user_attrs["trial"] not in self._known:
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
        from optuna.trial import TrialState, create_trial

        text = json.dumps(typed().dump_python(outcome, mode="json"))
        loss = outcome.figures.get("loss")
        state = TrialState.COMPLETE if loss is not None else TrialState.FAIL
        with self._said():
            trial = create_trial(state=state, value=loss, user_attrs={"trial": outcome.name, "outcome": text})
            self.optuna.create_new_trial(self._study, template_trial=trial)
        super().keep(outcome)

    def _claim_there(self, name: str) -> Claim | None:
        """A claim in the database; None where a living process has it."""
        from optuna.trial import TrialState, create_trial

        with self._said():
            if self._holder(name) is not None:
                return None
            mine = self.optuna.create_new_trial(
                self._claims,
                template_trial=create_trial(state=TrialState.RUNNING, user_attrs={"claim": name, "beat": 0}),
            )
            claim = Claim(storage=self.optuna, trial=mine)
            if self._holder(name) != mine:
                claim.release()
                return None
        claim.begin()
        return claim

    def _holder(self, name: str) -> int | None:
        """The living claim with the lowest number; claims found dead are ended."""
        from optuna.trial import TrialState

        now = time.monotonic()
        for one in self._trials(self._claims):
            if one.state != TrialState.RUNNING or one.user_attrs.get("claim") != name:
                continue
            beat = int(one.user_attrs.get("beat", 0))
            if self._seen.get(one._trial_id, (-1, now))[0] != beat:
                self._seen[one._trial_id] = (beat, now)
            if now - self._seen[one._trial_id][1] < GRACE:
                return int(one._trial_id)
            Claim(storage=self.optuna, trial=one._trial_id).release()
        return None

    def _trials(self, study: int) -> list[Any]:
        with self._said():
            return sorted(self.optuna.get_all_trials(study, deepcopy=False), key=lambda trial: trial.number)

    def _of(self, name: str) -> int:
        import optuna

        return int(
            optuna.create_study(
                study_name=name, storage=self.optuna, load_if_exists=True, direction="minimize"
            )._study_id
        )

    @contextmanager
    def _said(self) -> Iterator[None]:
        """What a database refuses, in one sentence."""
        with _said(self.place):
            yield


@dataclass
class Claim:
    """A claim in the database, beating in a thread of its own until it is released."""

    storage: Any
    trial: int
    here: FileLock | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> None:
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


def without_password(url: str) -> str:
    """The address of a database that may be shown and kept."""
    scheme, mark, rest = url.partition("://")
    login, at, host = rest.rpartition("@")
    return f"{scheme}{mark}{login.partition(':')[0]}{at}{host}"


def _opened(url: str, place: str) -> Any:
    try:
        import optuna
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
    except ImportError as error:
        raise MissingExtra("`--storage`", "sweep") from error
    optuna.logging.set_verbosity(logging.ERROR)
    wait = {"connect_args": {"timeout": TIMEOUT}} if url.startswith("sqlite") else {}
    with _said(place), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for _ in range(MAKERS):
                try:
                    return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=wait))
                except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
                    # Two machines found no tables and both made them: the other one did, so look again.
                    if not any(
                        word in str(error).lower() for word in ("already exists", "unique constraint", "duplicate")
                    ):
                        raise
                    time.sleep(random.uniform(0.2, 0.8))
            return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=wait))
        except (ArgumentError, NoSuchModuleError, ValueError) as error:
            raise BadInput(
                f"`{place}` is no address of a database",
                hint="for example sqlite:///study.db or postgresql://host/studies",
            ) from error
        except ImportError as error:
            raise BadInput(
                f"`{place}` needs a driver that is not installed: {_first(error)}",
                hint="install it with pip, beside picolab",
            ) from error


@contextmanager
def _said(place: str) -> Iterator[None]:
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OptunaError, SQLAlchemyError) as error:
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        says = _first(root)
        raise BadInput(
            f"the database `{place}` refused: {says}",
            hint="is it there, whole, and free? outcomes that were added are kept, and the same command goes on",
        ) from error
    except RuntimeError as error:
        if "version" not in str(error):
            raise
        raise BadInput(
            f"the database `{place}` was made by another version of Optuna",
            hint="`optuna storage upgrade`, or another database",
        ) from error


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def open_storage(folder: Path, url: str | None, study: Study) -> Storage:
    """The storage of a study that was taken up before, by this process or by one that started it."""
    return Storage(folder) if url is None else SharedStorage(folder, url, study)
