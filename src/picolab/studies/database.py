"""How is a database opened that many machines share, and what does it say when it refuses? One sentence, without its password.

sqlite:///study.db  postgresql://me:secret@host/studies  ->  Optuna's storage  ->  studies, each with trials and attributes
                    shown as postgresql://me@host/studies
"""

from __future__ import annotations

import logging
import random
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from picolab.errors import BadInput, MissingExtra
from picolab.runs.machine import without_password

MAKERS = 8
"""Machines that may begin at the same moment, each making the tables."""
TIMEOUT = 20
"""Seconds that a statement waits for a locked database."""
PART = 30_000
"""Characters of a text kept together: MySQL's TEXT holds 65,535 bytes, and Optuna's JSON writes a quote as two."""
OURS = {"studies": "study_name", "trials": "trial_id"}
"""Tables of Optuna's, and a column that each has."""


class Database:
    """An open database: `optuna` is its storage, `place` its address as it may be shown."""

    def __init__(self, url: str) -> None:
        self.place = without_password(url)
        self.optuna = _opened(url, self.place)

    def study(self, name: str) -> int:
        """The number of a study, made where there is none of this name."""
        import optuna

        with self.said():
            made = optuna.create_study(study_name=name, storage=self.optuna, load_if_exists=True, direction="minimize")
        return int(made._study_id)

    def trials(self, study: int) -> list[Any]:
        """The trials of a study, in order of their numbers."""
        with self.said():
            return sorted(self.optuna.get_all_trials(study, deepcopy=False), key=lambda trial: trial.number)

    def add(self, study: int, state: Any, *, value: float | None = None, **attributes: Any) -> int:
        """Add a trial, whole or not at all; returns its number."""
        from optuna.trial import create_trial

        with self.said():
            trial = create_trial(state=state, value=value, user_attrs=attributes)
            return int(self.optuna.create_new_trial(study, template_trial=trial))

    @contextmanager
    def said(self) -> Iterator[None]:
        """What a database refuses, in one sentence."""
        with _said(self.place):
            yield


def in_parts(name: str, text: str) -> dict[str, str]:
    """A text of ASCII as attributes that any database takes."""
    return {f"{name}/{at // PART}": text[at : at + PART] for at in range(0, len(text), PART)}


def whole(name: str, attributes: Mapping[str, Any]) -> str | None:
    """The text that was kept in parts; None where there is none."""
    parts = [attributes[key] for number in range(len(attributes)) if (key := f"{name}/{number}") in attributes]
    return "".join(parts) or None


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
            _check_free(url, place, wait)
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


def _check_free(url: str, place: str, wait: Any) -> None:
    """Refuse a database where another program has a table of Optuna's name, before a table is added to it."""
    from sqlalchemy import create_engine, inspect

    engine = create_engine(url, **wait)
    try:
        found = inspect(engine)
        for table, column in OURS.items():
            if found.has_table(table) and column not in {one["name"] for one in found.get_columns(table)}:
                raise BadInput(
                    f"`{place}` holds a table `{table}` of another program",
                    hint="a database of its own, for example sqlite:///study.db",
                )
    finally:
        engine.dispose()


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
