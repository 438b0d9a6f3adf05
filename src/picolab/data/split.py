"""Who is trained on, who is kept back? A hash of each document decides, so equal documents never fall on both sides.

    hash of (seed, document), 8 bytes      smallest                                                      largest
                                           |-- test --|-- validation --|------------- train -------------|

The proportions are exact, counted in distinct documents: the hashes are ranked, and the two cuts are hashes too. So the side of a
document is known from its text and the cuts alone, wherever it comes again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from picolab.errors import BadData, BadSetting

SPLITS = ("train", "validation", "test")
CHUNK = 2**16


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Which shares of the distinct documents are kept for validation and for a last test; above 0 is at least one document."""

    validation: float = 0.05
    test: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.validation < 1 and 0 <= self.test < 1 and self.validation + self.test < 1):
            raise BadSetting(
                f"validation {self.validation} and test {self.test} leave nothing to train on",
                hint="shares of at least 0 that sum to less than 1, for example validation 0.05 and test 0.05",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Cuts:
    """Documents whose hash is below `test` are test, below `validation` validation, the others train."""

    seed: int
    test: int
    validation: int

    def side(self, group: str) -> str:
        key = document_hash(group, self.seed)
        return "test" if key < self.test else "validation" if key < self.validation else "train"


def document_hash(group: str, seed: int) -> int:
    """Where a document stands among all; `group` is its text, or what it shares with those it must not be parted from."""
    return int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8, key=b"%d" % seed).digest(), "big")


def find_cuts(groups: Iterable[str], split: Split, seed: int, *, name: str, scratch: Path) -> Cuts:
    """The cuts that give a split of these documents; their hashes are sorted in the file `scratch`, not in memory."""
    with scratch.open("wb") as file:
        for chunk in _chunks(groups, lambda group: document_hash(group, seed)):
            file.write(chunk.tobytes())
    if not scratch.stat().st_size:
        return Cuts(seed=seed, test=0, validation=0)
    hashes = np.memmap(scratch, np.uint64, mode="r+")
    hashes.sort()
    distinct = sum(int(new.sum()) for _, new in _first_of_equals(hashes))
    n_test = max(1, round(distinct * split.test)) if split.test else 0
    n_validation = max(1, round(distinct * split.validation)) if split.validation else 0
    if n_test + n_validation >= distinct:
        parts = 1 + (n_test > 0) + (n_validation > 0)
        raise BadData(
            f"`{name}` has {distinct} distinct document{'s' * (distinct != 1)}: a split into {parts} parts leaves nothing "
            "to train on",
            hint="give more text, a smaller share, or divide it into more documents, as in `lines:FILE`",
        )
    return Cuts(seed=seed, test=_ranked(hashes, n_test), validation=_ranked(hashes, n_test + n_validation))


def _ranked(hashes: NDArray[np.uint64], rank: int) -> int:
    """The distinct hash with `rank` others below it."""
    for chunk, new in _first_of_equals(hashes):
        found = np.flatnonzero(new)
        if rank < len(found):
            return int(chunk[found[rank]])
        rank -= len(found)
    raise AssertionError("fewer distinct hashes than were counted")


def _first_of_equals(hashes: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.bool_]]]:
    """The sorted hashes in chunks, and which of them differ from the one before."""
    for begun in range(0, len(hashes), CHUNK):
        chunk = np.asarray(hashes[begun : begun + CHUNK])
        new = np.empty(len(chunk), np.bool_)
        new[0] = begun == 0 or chunk[0] != hashes[begun - 1]
        new[1:] = chunk[1:] != chunk[:-1]
        yield chunk, new


def _chunks(groups: Iterable[str], of: Callable[[str], int]) -> Iterator[NDArray[np.uint64]]:
    waiting = []
    for group in groups:
        waiting.append(of(group))
        if len(waiting) == CHUNK:
            yield np.array(waiting, np.uint64)
            waiting = []
    yield np.array(waiting, np.uint64)
