"""Where else do a run's numbers go, beside metrics.jsonl? On request into event files that TensorBoard shows.

    row of metrics.jsonl -> one scalar a number, under the same name -> <run>/tensorboard/events.out.tfevents..

Every row is on disk before the next step, so a run that is killed has in its events what metrics.jsonl has. One that goes on tells
the reader to forget what came after its checkpoint. Only the first process writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from picolab.errors import MissingExtra

FOLDER = "tensorboard"
NO_SCALARS = ("step",)
"""The axis, not a figure."""


class Tracker(Protocol):
    """Whoever hears every row of a run."""

    def row(self, row: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class Nobody:
    """No one is told."""

    def row(self, row: Mapping[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


class TensorBoard:
    """Event files in a run's folder; steps after `step` of earlier sessions are forgotten."""

    def __init__(self, run: Path, *, step: int) -> None:
        self._writer = _writer_class()(str(run / FOLDER), purge_step=step + 1)

    def row(self, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            if name not in NO_SCALARS:
                self._writer.add_scalar(name, value, int(row["step"]))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def check_tracking(track: str) -> None:
    """Refuse before anything is done if the package is not there."""
    if track == "tensorboard":
        _writer_class()


def tracker_of(track: str, run: Path, *, step: int) -> Tracker:
    """The tracker of a setting; `step` is the last one that counts, -1 before the first row."""
    return TensorBoard(run, step=step) if track == "tensorboard" else Nobody()


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("`--track tensorboard`", "track") from error
    return SummaryWriter
