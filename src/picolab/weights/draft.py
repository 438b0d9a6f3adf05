"""How does a file or a folder take its name only when it is whole? It is written under another and renamed.

    out.gguf  ->  .tmp-out.gguf-4711  ->  written, synced, found good  ->  os.replace  ->  out.gguf

Whatever happens on the way, an interruption or a full disk, what stood there before stands there still, and the draft is gone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from picolab.errors import BadInput, was_interrupted


@contextmanager
def drafts(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """A temporary name for each of these paths, all in one folder, to be written by the block; when it ends well they take
    their names, in order."""
    made = [path.with_name(f".tmp-{path.name}-{os.getpid()}") for path in paths]
    missing = [folder for folder in paths[0].parents if not folder.exists()]  # the innermost first
    try:
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        for draft in made:
            remove(draft)
        yield made
        for draft in made:
            sync(draft)
        for draft, path in zip(made, paths, strict=True):
            replace(draft, path)
    except (OSError, SafetensorError) as error:  # safetensors tells of a full disk in its own way
        known = isinstance(error, OSError) and error.strerror
        reason = known or f"the disk took only a part of it ({str(error).splitlines()[0]})"
        raise BadInput(
            f"`{paths[-1]}` cannot be written: {reason[:1].lower()}{reason[1:]}",
            hint="nothing is left of it, and what was there before is as it was",
        ) from error
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"interrupted: nothing is left of `{paths[-1]}`") from error
    except Exception as error:
        if was_interrupted(error):
            raise KeyboardInterrupt(f"interrupted: nothing is left of `{paths[-1]}`") from error
        raise
    finally:
        for draft in made:
            remove(draft)
        for folder in missing:  # made for nothing
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def replace(draft: Path, path: Path) -> None:
    """Put a draft in the place of whatever is there; a folder that is there steps aside until the new one has its name."""
    if not (path.is_dir() and not path.is_symlink() and any(path.iterdir())):
        os.replace(draft, path)
        return
    old = path.with_name(f"{draft.name}-old")
    os.replace(path, old)
    try:
        os.replace(draft, path)
    except BaseException:
        os.replace(old, path)
        raise
    remove(old)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the disk has it."""
    for file in [path] if path.is_file() else (inner for inner in path.rglob("*") if inner.is_file()):
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())
