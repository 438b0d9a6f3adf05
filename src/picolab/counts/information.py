"""How much does a far token say about the next one, beyond what the nearest says? Conditional mutual information, from counts.

    I(x[i-s] ; x[i+1] | x[i]) = H(far, near) + H(near, next) - H(near) - H(far, near, next)      nats

with every entropy corrected for what was never seen, H + (kinds - 1) / 2n (Miller 1955). Of a large vocabulary the most frequent
tokens count each and all others as one: triples seen once would say that every far token tells everything. Tokens are synergistic:
these numbers are larger than the unconditional ones, which is why a head that copies serves better than one that adds statistics.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from picolab.counts.runs import Run, tally
from picolab.counts.shape import Shape
from picolab.counts.tables import AT_ONCE, Table
from picolab.errors import BadData


def far_and_near(offset: int) -> Shape:
    """The table that tells about the token `offset` before the present one: it, the present one, the next."""
    return Shape((offset + 1, 1))


CLASSES = 64


def conditional_information(table: Table) -> float:
    """I(far ; next | near) in nats, of a table shaped as `far_and_near`."""
    if len(table.shape.back) != 2:
        raise BadData(f"the contexts of `{table.shape.name}` are not of two tokens")
    triples = _frequent(table)
    near_next = tally(triples.keys % CLASSES**2, triples.counts)
    near = tally(near_next.keys // CLASSES, near_next.counts)
    far_near = tally(triples.keys // CLASSES, triples.counts)
    joint = _entropy(far_near.counts) + _entropy(near_next.counts)
    return joint - _entropy(near.counts) - _entropy(triples.counts)


def _frequent(table: Table) -> Run:
    """The counts of triples, tokens numbered by how often they are the next one, the last number for all that are rarer."""
    pieces = [slice(start, start + AT_ONCE) for start in range(0, len(table.keys), AT_ONCE)]
    often = np.zeros(table.vocab_size)
    for piece in pieces:
        often += np.bincount(table.keys[piece] % table.vocab_size, table.counts[piece], table.vocab_size)
    rank = np.empty(table.vocab_size, np.int64)
    rank[np.argsort(-often, kind="stable")] = np.minimum(np.arange(table.vocab_size), CLASSES - 1)
    found = np.zeros(CLASSES**3)  # whole numbers below 2^53: exact
    for piece in pieces:
        rest, following = np.divmod(np.asarray(table.keys[piece]), table.vocab_size)
        far, near = np.divmod(rest, table.vocab_size)
        triples = (rank[far] * CLASSES + rank[near]) * CLASSES + rank[following]
        found += np.bincount(triples, table.counts[piece], CLASSES**3)
    keys = np.flatnonzero(found)
    return Run(keys, found[keys].astype(np.int64))


def _entropy(counts: NDArray[np.int64]) -> float:
    total = counts.sum()
    p = counts / total
    return float(-(p * np.log(p)).sum() + (len(counts) - 1) / (2 * total))
