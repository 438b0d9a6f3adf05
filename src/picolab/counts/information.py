"""How much does a far token say about the next one, beyond what the nearest says? Conditional mutual information, from counts.

    I(x[i-s] ; x[i+1] | x[i]) = H(far, near) + H(near, next) - H(near) - H(far, near, next)      nats

with every entropy corrected for what was never seen, H + (kinds - 1) / 2n (Miller 1955). Tokens are synergistic: these numbers are
larger than the unconditional ones, which is why a head that copies the token serves better than one that adds its statistics.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from picolab.counts.runs import tally
from picolab.counts.shape import Shape
from picolab.counts.tables import Table
from picolab.errors import BadData


def far_and_near(offset: int) -> Shape:
    """The table that tells about the token `offset` before the present one: it, the present one, the next."""
    return Shape((offset + 1, 1))


def conditional_information(table: Table) -> float:
    """I(far ; next | near) in nats, of a table shaped as `far_and_near`."""
    if len(table.shape.back) != 2:
        raise BadData(f"the contexts of `{table.shape.name}` are not of two tokens")
    vocab, keys, counts = table.vocab_size, np.asarray(table.keys), np.asarray(table.counts)
    near_next = tally(keys % vocab**2, counts)
    near = tally(near_next.keys // vocab, near_next.counts)
    far_near = tally(keys // vocab, counts)
    return _entropy(far_near.counts) + _entropy(near_next.counts) - _entropy(near.counts) - _entropy(counts)


def _entropy(counts: NDArray[np.int64]) -> float:
    total = counts.sum()
    p = counts / total
    return float(-(p * np.log(p)).sum() + (len(counts) - 1) / (2 * total))
