"""Where is prepared data kept? In a folder named after everything that decides its content, complete or not there at all.

    $PICOLAB_HOME or ~/.cache/picolab
        data/<key>/                     contents.json  and the files whose sizes it lists
        data/.building-<key>-<random>   somebody is at work; renamed to <key> when done, removed after a day when left behind

Two processes that build the same data do not see each other: the first to finish wins, the other uses the winner's.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from picolab.errors import BadData

CONTENTS = "contents.json"
LEFT_BEHIND = 24 * 3600
Build = Callable[[Path], Mapping[str, Any]]
_FULL = (errno.ENOSPC, errno.EDQUOT)


def home(cache_dir: str | Path | None = None) -> Path:
    """The folder of everything that can be made again."""
    return Path(cache_dir or os.environ.get("PICOLAB_HOME") or Path.home() / ".cache" / "picolab").expanduser()


def key_of(parts: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def cached(folder: Path, build: Build, *, name: str, needs: Callable[[], float]) -> Mapping[str, Any]:
    """What `build(draft folder)` returned when it made this folder, now or long ago; `needs()` bytes are said on a full disk."""
    for _ in range(
        3
    ):  # an entry can be replaced between the rename and the reading, by another process that saw it torn
        contents = read_contents(folder)
        if contents is not None:
            return contents
        _make(folder, build, name, needs)
    raise BadData(
        f"`{folder}` is damaged again each time it is built", hint="remove it, and set PICOLAB_HOME to another disk"
    )


def read_contents(folder: Path) -> Mapping[str, Any] | None:
    """What is known of a complete entry; None where there is none or a file of it is torn."""
    try:
        contents: dict[str, Any] = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in contents["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return contents if sizes == contents["files"] else None


def _make(folder: Path, build: Build, name: str, needs: Callable[[], float]) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        draft = Path(tempfile.mkdtemp(prefix=f".building-{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise BadData(
            f"nothing can be written into `{folder.parent}`: {error.strerror}",
            hint="set PICOLAB_HOME to a folder of yours",
        ) from error
    try:
        contents = build(draft)
        files = {p.relative_to(draft).as_posix(): p.stat().st_size for p in sorted(draft.rglob("*")) if p.is_file()}
        with (draft / CONTENTS).open("w", encoding="utf-8") as file:
            json.dump({**contents, "files": files}, file)
            file.flush()
            os.fsync(file.fileno())
        if folder.exists() and read_contents(folder) is None:
            torn = Path(tempfile.mkdtemp(prefix=f".building-{folder.name}-", dir=folder.parent)) / "torn"
            os.rename(folder, torn)
            shutil.rmtree(torn.parent, ignore_errors=True)
        try:
            os.rename(draft, folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise BadData(
            f"the disk is full: the tokens of `{name}` need about {needs() / 1e6:,.1f} MB in `{folder.parent}`, "
            f"which has {shutil.disk_usage(folder.parent).free / 1e6:,.1f} MB left",
            hint="make room, or set PICOLAB_HOME to a folder on another disk",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed have left."""
    for draft in folder.glob(".building-*"):
        try:
            old = time.time() - draft.stat().st_mtime > LEFT_BEHIND
        except OSError:
            continue  # its owner was faster
        if old:
            shutil.rmtree(draft, ignore_errors=True)
