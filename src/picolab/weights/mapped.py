"""A file as memory: nothing is read before it is used, and what is used is read once.

The mapping is private: writing to a weight changes the process's copy of that page, never the file.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from picolab.errors import BadCheckpoint


def map_file(path: Path) -> mmap.mmap | bytes:
    """The bytes of a file; an empty one, which cannot be mapped, is empty bytes."""
    try:
        with path.open("rb") as file:
            if not file.seek(0, 2):
                return b""
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError as error:
        raise BadCheckpoint(f"there is no `{path}`") from error
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"`{path}` cannot be read: {error}") from error


def forget_pages(data: mmap.mmap | bytes, offset: int, size: int) -> None:
    """Give the memory of some bytes back that were read and are not needed any more; who asks again reads them again."""
    if isinstance(data, bytes) or not hasattr(data, "madvise"):
        return
    first, last = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE, (offset + size) // mmap.PAGESIZE * mmap.PAGESIZE
    if first < last:
        data.madvise(mmap.MADV_DONTNEED, first, last - first)
