"""Which documents share a row? Whole ones, packed with almost no gap, by their lengths alone. Krell et al. 2021, arXiv:2107.02027.

    lengths   7 7 5 4 4 3 1           rows of 12    |7      |5    |    what matters is how many documents there are of each length;
                                                    |7      |4   |1|    which of them takes which place is drawn again every epoch
                                                    |4   |3  |. . . . .|

Documents of one length are interchangeable, so packing needs the histogram of lengths only, longest first into the tightest gap:
the search does not grow with the corpus, and the number of rows is the same in every epoch.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Pattern = tuple[tuple[int, int], ...]
"""What a row holds: (length, how many of it)."""


@dataclass(frozen=True, slots=True)
class Order:
    """One epoch: row r holds the pieces `first[r] .. first[r+1]`; piece i is `lengths[i]` positions from `starts[i]`."""

    first: Ints
    starts: Ints
    lengths: Ints


class Packing:
    """The rows of a corpus at one context length."""

    def __init__(self, offsets: Ints, context_length: int) -> None:
        self.context_length = context_length
        self.starts, self.lengths = pieces(offsets, context_length)
        self.patterns = pack(np.bincount(self.lengths, minlength=context_length + 1), context_length)
        self.n_rows = sum(times for _, times in self.patterns)
        self._places = self._rows_by_length()

    @property
    def padding(self) -> float:
        """The share of positions that hold nothing."""
        return 1 - int(self.lengths.sum()) / (self.n_rows * self.context_length)

    def order(self, rng: np.random.Generator) -> Order:
        """Every piece once, rows and places in them drawn anew."""
        n = len(self.lengths)
        shuffled = rng.permutation(n)
        # Stable, so pieces of one length stay shuffled; two-byte keys make it a radix sort.
        key = self.lengths[shuffled].astype(np.uint16 if self.context_length < 2**16 else np.int64)
        by_length = shuffled[np.argsort(key, kind="stable")]
        row = rng.permutation(self.n_rows)[self._places]
        shuffled = rng.permutation(n)
        by_row = shuffled[np.argsort(row[shuffled], kind="stable")]
        chosen = by_length[by_row]
        first = np.zeros(self.n_rows + 1, np.int64)
        np.cumsum(np.bincount(row, minlength=self.n_rows), out=first[1:])
        return Order(first, self.starts[chosen], self.lengths[chosen])

    def _rows_by_length(self) -> Ints:
        """The row of every place, places in order of their length."""
        lengths, rows, begun = [], [], 0
        for pattern, times in self.patterns:
            for length, copies in pattern:
                lengths.append(np.full(times * copies, length))
                rows.append(np.repeat(np.arange(begun, begun + times), copies))
            begun += times
        return np.concatenate(rows)[np.argsort(np.concatenate(lengths), kind="stable")]


def pieces(offsets: Ints, context_length: int) -> tuple[Ints, Ints]:
    """Where each document starts and how long it is; one longer than the context is cut into several."""
    sizes = np.diff(offsets)
    counts = -(-sizes // context_length)
    document = np.repeat(np.arange(len(sizes)), counts)
    within = (np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)) * context_length
    return offsets[document] + within, np.minimum(context_length, sizes[document] - within)


def pack(histogram: Ints, capacity: int) -> list[tuple[Pattern, int]]:
    """Rows for `histogram[n]` pieces of length n: what a row holds, and how many rows hold just that."""
    open_rows: dict[int, list[tuple[Pattern, int]]] = {capacity: []}
    gaps: list[int] = []  # sizes of gap that some row has, sorted

    def put(pattern: Pattern, times: int, gap: int) -> None:
        if times:
            if not open_rows.setdefault(gap, []):
                insort(gaps, gap)
            open_rows[gap].append((pattern, times))

    for length in np.flatnonzero(histogram)[::-1].tolist():
        left = int(histogram[length])
        while left:
            at = bisect_left(gaps, length)
            pattern: Pattern = ()
            gap, times = capacity, left  # new rows, as many as it takes
            if at < len(gaps):
                gap = gaps[at]
                pattern, times = open_rows[gap].pop()
                if not open_rows[gap]:
                    gaps.pop(at)
            copies = gap // length
            full = min(times, left // copies)
            left -= full * copies
            put((*pattern, (length, copies)), full, gap - copies * length)
            begun = int(full < times and left > 0)
            if begun:  # fewer are left than fill one more such row
                put((*pattern, (length, left)), 1, gap - left * length)
                left = 0
            if pattern:
                put(pattern, times - full - begun, gap)
    return [group for groups in open_rows.values() for group in groups]
