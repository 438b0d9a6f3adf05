"""Three integer sequences, 3,333 lines in a fixed order: all there is to learn is the three lines and how often each comes.

    integers   0 1 2 3 .. 999           1,111 times
    evens      0 2 4 6 .. 998           1,111 times
    powers     1 2 4 8 .. 2^99          1,111 times

Every document is known, so what may follow a beginning is counted: of the lines that begin so, how many go on with what.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from picolab.errors import BadData


@lru_cache(maxsize=1)
def lines() -> tuple[str, ...]:
    """All lines, in their order."""
    i, e, p = (" ".join(map(str, numbers)) for numbers in (range(1000), range(0, 1000, 2), (2**k for k in range(100))))
    return (i, *[i, e, p] * 100, e, p, *[i, e, p] * 1010)


def next_distribution(prefix: Sequence[int]) -> dict[int | None, float]:
    """What follows a beginning, None for the end of the text; the probabilities sum to 1."""
    begun = tuple(prefix)
    after: Counter[int | None] = Counter()
    for numbers, count in _counted().items():
        if numbers[: len(begun)] == begun:
            after[numbers[len(begun)] if len(numbers) > len(begun) else None] += count
    if not after:
        raise BadData(
            f"no line begins with `{' '.join(map(str, begun))[:60]}`",
            hint="`3seqs` counts on, by twos, or in powers of 2",
        )
    return {number: count / after.total() for number, count in after.items()}


def document_floors(documents: Sequence[str]) -> NDArray[np.float64]:
    """Nats of every document, its end included."""
    counts = Counter(lines())
    return np.array([-math.log(counts[document] / len(lines())) for document in documents], np.float64)


@lru_cache(maxsize=1)
def _counted() -> dict[tuple[int, ...], int]:
    return {tuple(map(int, line.split())): count for line, count in Counter(lines()).items()}
