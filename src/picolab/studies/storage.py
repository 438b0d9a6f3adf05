"""Where does a study live, so that any number of processes can work on it and any of them may be killed at any moment?

    OUT/study.plan.json     the study: who comes later must mean the same one
        claims/RUN.lock     held by the process that works on a run; the system lets go of it when the process ends, however it ends
        trials/TRIAL.json   the outcome, renamed into place whole; a trial that has one is never run again
        runs/RUN/           an ordinary run, which goes on from its checkpoint if it was not finished

No process leads. A trial without outcome and without holder is anybody's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from picolab.errors import BadCheckpoint, BadInput
from picolab.runs import atomic
from picolab.studies.outcome import Outcome, typed
from picolab.studies.study import Study

PLAN, CLAIMS, TRIALS, LOCK = "study.plan.json", "claims", "trials", "study.lock"
SHARED = "study.storage.json"
"""Says in which database the study lives, where it lives in one (studies/shared.py)."""
FORMAT = "picolab-study-plan/1"
TORN = "it is torn or was edited by hand; the runs beside it are whole, the study itself must be asked again with another --out"
PATIENCE = 30.0
"""Seconds that a process waits for the study's own lock, which nobody needs for longer than it takes to write a file."""


class Claimed(Protocol):
    """The right to work on a run, held until it is released."""

    def release(self) -> None: ...


class Storage:
    """The folder of a study."""

    optuna: Any = None
    """A database of Optuna's, where the study lives in one (studies/shared.py)."""
    wait = 0.2
    """Seconds between two looks where all that is left is in other hands."""

    def __init__(self, folder: Path, *, patience: float = PATIENCE) -> None:
        self.folder = folder
        self.patience = patience
        self._known: dict[str, Outcome] = {}

    @classmethod
    def take_up(cls, folder: Path, study: Study, *, patience: float = PATIENCE) -> Storage:
        """Begin the study in a new folder, or join the one that lies there if it is the same."""
        storage = cls(folder, patience=patience)
        if not (folder / PLAN).exists() and folder.exists() and (not folder.is_dir() or _has_strange(folder)):
            raise BadInput(f"`{folder}` exists and holds no study", hint="choose a new or empty folder with --out")
        with atomic.reported(folder):
            for name in (CLAIMS, TRIALS):
                (folder / name).mkdir(parents=True, exist_ok=True)
        with storage.locked():
            if (folder / PLAN).exists():
                storage._check_same(study)
            else:
                atomic.write_json(folder / PLAN, {"format": FORMAT, "study": plain(study)})
        return storage

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the study for a moment: to write its plan, to add a point, to gather."""
        lock = FileLock(self.folder / LOCK)
        if not acquired(lock, self.patience):
            raise BadInput(
                f"`{self.folder}` has been locked by another process for {self.patience:g} s",
                hint="a process that was stopped (Ctrl-Z) keeps its lock: let it go on or end it; nothing is lost",
            )
        try:
            yield
        finally:
            lock.release()

    def claim(self, run: str) -> Claimed | None:
        """The right to work on a run, to be released; None where a living process has it."""
        lock = FileLock(self.folder / CLAIMS / f"{run}.lock")
        return lock if acquired(lock, 0) else None

    def outcome(self, name: str) -> Outcome | None:
        """The outcome of a trial; None where it is still to be done."""
        if name in self._known:
            return self._known[name]
        path = self.folder / TRIALS / f"{name}.json"
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            found: Outcome = typed().validate_python(json.loads(text))
        except (ValueError, ValidationError) as error:
            raise BadCheckpoint(
                f"`{path}` is no outcome of a trial",
                hint="it was damaged after it was written; remove it: the trial is judged again",
            ) from error
        self._known[name] = found
        return found

    def outcomes(self) -> list[Outcome]:
        """All outcomes there are, in order of their points."""
        names = sorted(path.stem for path in (self.folder / TRIALS).glob("p*.json"))
        return [found for name in names if (found := self.outcome(name)) is not None]

    def keep(self, outcome: Outcome) -> None:
        """Record an outcome, whole or not at all."""
        atomic.write_json(self.folder / TRIALS / f"{outcome.name}.json", typed().dump_python(outcome, mode="json"))

    def _check_same(self, study: Study) -> None:
        path = self.folder / PLAN
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            before = content["study"]
            if content["format"] != FORMAT:
                raise BadCheckpoint(
                    f"`{path}` has format `{content['format']}`, not `{FORMAT}`", hint="choose another --out"
                )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadCheckpoint(f"`{path}` is no plan of a study", hint=TORN) from error
        check_same(before, study, self.folder, hint="choose another --out")


def check_same(before: Mapping[str, Any], study: Study, place: object, *, hint: str) -> None:
    """Refuse a study that differs from the one that was begun at a place."""
    if not isinstance(before, Mapping):
        raise BadCheckpoint(f"`{place}` holds no plan of a study", hint=hint)
    usual = plain(Study(name="", question="", settings={}, axes=(), seeds=()))
    for part, value in plain(study).items():
        was = before.get(part, usual[part])  # a part that is newer than the study had its usual value
        if was != value:
            raise BadInput(
                f"`{place}` holds the study `{before.get('name')}` with other {part.replace('_', ' ')}: "
                f"{_short(was)}, not {_short(value)}",
                hint=f"repeat that study to go on with it, or {hint}",
            )


def is_study(folder: Path) -> bool:
    """Whether a folder holds a study, finished or not."""
    return (folder / PLAN).exists()


def load_study(folder: Path) -> Study:
    """The study that lies in a folder."""
    path = folder / PLAN
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found: Study = TypeAdapter(Study).validate_python(content["study"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise BadCheckpoint(f"`{path}` is no plan of a study", hint=TORN) from error
    return found


def acquired(lock: FileLock, patience: float) -> bool:
    """Whether the lock is ours now; False where somebody else kept it. A folder that cannot be written is refused."""
    with atomic.reported(Path(lock.lock_file).parent):
        try:
            lock.acquire(timeout=patience, poll_interval=0.02)
        except Timeout:  # an OSError to Python, and no refusal
            return False
    return True


def _has_strange(folder: Path) -> bool:
    """Whether somebody else's files lie there; a kill before the plan was written leaves only our own."""
    return any(
        path.name not in (CLAIMS, TRIALS, LOCK, SHARED) and not path.name.startswith(atomic.TEMPORARY)
        for path in folder.iterdir()
    )


def plain(study: Study) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(study)))
    return plain


def _short(value: Any, limit: int = 60) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else text[:limit] + ".."
