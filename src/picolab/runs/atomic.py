"""How is a file written so that a crash, a kill or a full disk never leaves half of it?

    content -> .tmp-<name>-<process> -> fsync -> rename onto <name> -> fsync of the folder

A rename inside one file system happens whole or not at all. Whatever still bears a temporary name was never finished: it is
removed at once where an error is seen, and by `sweep` where the process died.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from picolab.errors import BadInput

TEMPORARY = ".tmp-"


def write_text(path: Path, text: str) -> None:
    """Replace a file's content, whole or not at all."""
    temporary = _temporary(path)
    with reported(path):
        try:
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell; a leftover is swept later
                temporary.unlink(missing_ok=True)
            raise


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file's content, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; it becomes `path` when the block ends well and vanishes when it does not."""
    temporary = _temporary(path)
    with reported(path):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            for folder, _, files in os.walk(temporary):
                for name in files:
                    _sync_file(Path(folder) / name)
                _sync_folder(Path(folder))
            if path.exists():
                remove_folder(path)
            os.replace(temporary, path)
            _sync_folder(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def remove_folder(path: Path) -> None:
    """Delete a folder so that no moment shows half of it under its name."""
    doomed = _temporary(path).with_name(_temporary(path).name + "-old")
    os.replace(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what processes that died left unfinished in a folder; call it only while nobody else writes there."""
    for leftover in folder.glob(TEMPORARY + "*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Tell what the system refused in one sentence: a full disk, a read-only folder, a name too long."""
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"`{path}` cannot be written: {(error.strerror or str(error)).lower()}",
            hint="make room, or choose another folder with --out; what was saved before is intact, and can be gone on from",
        ) from error


def _temporary(path: Path) -> Path:
    return path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its rename is journalled by the file system
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
