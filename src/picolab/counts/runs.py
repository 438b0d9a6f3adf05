"""How are more pairs counted than memory holds? Sorted pieces on disk, merged a range of keys at a time.

    codes of a piece of text -> sort -> keys + counts, a run          [3 5 9 ..]  [2 1 4 ..]
    runs -> cut all of them at the same keys -> merge each range -> append         memory: one range of every run

A key is a context and its target as one number (shape.py); a run has every key once, rising. Files are plain little-endian int64,
so that they are mapped and never parsed; one that bears its final name is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from picolab.errors import BadData

Int64s = NDArray[np.int64]

RANGE = 2**22
"""Keys of all runs together that are merged at once: 128 MB with what sorting needs."""


class Run(NamedTuple):
    """Keys in rising order, each once, and how often each was seen."""

    keys: Int64s
    counts: Int64s


def tally(codes: Int64s, weights: Int64s | None = None) -> Run:
    """Each code once with its count, or with the sum of its weights; `codes` are sorted in place where there are no weights."""
    if not len(codes):
        return Run(codes, codes.copy())
    if weights is None:
        codes.sort()
    else:
        order = np.argsort(codes, kind="stable")
        codes, weights = codes[order], weights[order]
    first = np.empty(len(codes), np.bool_)
    first[0] = True
    np.not_equal(codes[1:], codes[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    if weights is not None:
        return Run(codes[starts], np.add.reduceat(weights, starts))
    return Run(codes[starts], np.diff(starts, append=len(codes)))


def save(run: Run, path: Path) -> None:
    """Write `PATH.keys` and `PATH.counts`; the counts get their name last, and a run without them does not exist."""
    for ending, numbers in (("keys", run.keys), ("counts", run.counts)):
        draft = _file(path, ending + ".part")
        np.asarray(numbers, "<i8").tofile(draft)
        os.replace(draft, _file(path, ending))


def exists(path: Path) -> bool:
    """Whether a run was written to its end."""
    return _file(path, "counts").exists()


def load(path: Path) -> Run:
    """A run on disk, mapped."""
    keys, counts = (_mapped(_file(path, ending)) for ending in ("keys", "counts"))
    if len(keys) != len(counts):
        raise BadData(
            f"`{path}` has {len(keys)} keys and {len(counts)} counts", hint="delete its folder and count again"
        )
    return Run(keys, counts)


def join(paths: Sequence[Path], path: Path) -> None:
    """All runs as one under another name; they themselves are gone then."""
    endings = ("keys", "counts")  # in this order: what has no counts does not exist
    if len(paths) == 1:
        for ending in endings:
            os.replace(_file(paths[0], ending), _file(path, ending))
        return
    drafts = {ending: _file(path, ending + ".part") for ending in endings}
    with drafts["keys"].open("wb") as keys, drafts["counts"].open("wb") as counts:
        for part in _merged([load(one) for one in paths]):
            np.asarray(part.keys, "<i8").tofile(keys)
            np.asarray(part.counts, "<i8").tofile(counts)
    for ending in endings:
        os.replace(drafts[ending], _file(path, ending))
    for one in paths:
        for ending in reversed(endings):
            _file(one, ending).unlink()


def _file(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}.{ending}")


def _merged(runs: Sequence[Run]) -> Iterator[Run]:
    """Ranges of keys, lowest first; borders are keys of the longest run, evenly spaced."""
    total, longest = sum(len(run.keys) for run in runs), max(runs, key=lambda run: len(run.keys))
    pieces = max(1, -(-total // RANGE))
    borders = longest.keys[np.linspace(0, len(longest.keys), pieces, endpoint=False, dtype=np.int64)[1:]]
    cuts = [np.concatenate([[0], np.searchsorted(run.keys, borders), [len(run.keys)]]) for run in runs]
    for i in range(len(borders) + 1):
        parts = [
            Run(run.keys[cut[i] : cut[i + 1]], run.counts[cut[i] : cut[i + 1]])
            for run, cut in zip(runs, cuts, strict=True)
        ]
        yield tally(np.concatenate([part.keys for part in parts]), np.concatenate([part.counts for part in parts]))


def _mapped(path: Path) -> Int64s:
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise BadData(f"there is no `{path}`", hint="count again: what is whole is kept") from error
    if size % 8:
        raise BadData(f"`{path}` ends within a number", hint="delete its folder and count again")
    return np.memmap(path, "<i8", "r") if size else np.empty(0, np.int64)
