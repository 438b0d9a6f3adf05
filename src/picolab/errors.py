"""Everything that can go wrong, as one tree: what happened, with the values, then a hint.

PicolabError ── BadInput (exit 2) ── UnknownName, BadSetting, BadData, BadCheckpoint, MissingExtra
             ├─ Diverged (exit 1)    the numbers of a run went bad
             └─ Lost (exit 1)        another process of a run is gone
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PicolabError(Exception):
    """An error a person can act on.

    `str(error)` is one sentence without a full stop, names in backticks; `error.hint` says what to do.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(PicolabError):
    """The request cannot be carried out as it stands."""


class UnknownName(BadInput):
    """A name that is in no table; the nearest known one is in the hint."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"no {kind} is called `{name}`", hint=nearest(name, known))
        self.name = name


class BadSetting(BadInput):
    """A setting with a value that makes no sense, alone or beside another."""


class BadData(BadInput):
    """A corpus, tokenizer or batch that cannot be used."""


class BadCheckpoint(BadInput):
    """A checkpoint or run folder that is torn, foreign or of another model."""


class MissingExtra(BadInput):
    """A feature whose optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs a package that is not installed", hint=f"pip install 'picolab[{extra}]'")


class Diverged(PicolabError):
    """A number of the run is no longer finite; what was good is kept on disk."""

    exit_code = 1


class Lost(PicolabError):
    """Another process of the run is gone; what was saved is kept on disk."""

    exit_code = 1


def was_interrupted(error: BaseException) -> bool:
    """Whether somebody's Ctrl-C is behind an error that nobody foresaw: what is interrupted inside a library may be told as its own
    failure, such as an import that did not work. An error of ours or of the disk is told as it is: something may be lost."""
    if isinstance(error, PicolabError | OSError):
        return False
    behind = error.__cause__ or error.__context__
    return isinstance(behind, KeyboardInterrupt) or (behind is not None and was_interrupted(behind))


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint that follows an unknown name: the closest known one, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean `{close[0]}`?"
    return "known: " + ", ".join(f"`{k}`" for k in known)
