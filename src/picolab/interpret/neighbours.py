"""Which tokens does a model hold for alike? The nearest rows of its embedding, and whether the data agrees.

    cosine of two rows          likeness to the model
    cosine of what stands before and after two tokens in the data          likeness of use     Harris 1954
    their rank correlation over all pairs of frequent tokens, beside that of shuffled tokens   Mantel 1967

Rows are compared without their common mean, which says nothing about any of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import rankdata

from picolab.errors import BadData
from picolab.interpret.chance import Measured, Numbers, measured, shuffles

FREQUENT = 120
"""Tokens whose use is compared."""

SHOWN, NEAREST = 12, 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """A token and the nearest others, with their cosines."""

    token: int
    count: int
    nearest: tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Likeness:
    """Whether the model's likeness of tokens is that of their use: a rank correlation over pairs of `tokens` tokens."""

    tokens: int
    correlation: Measured
    shown: tuple[Neighbours, ...]


def likeness_of(table: Numbers, ids: Sequence[Sequence[int]], control: frozenset[int], *, seed: int = 0) -> Likeness:
    """The neighbours of the most frequent tokens of some texts, and whether they are used alike there.

    `control` tokens are left out. Neighbours are sought among tokens that occur: the others are as they were drawn at first.
    """
    counts = Counter(token for row in ids for token in row if token not in control)
    if len(counts) < NEAREST + 1:
        raise BadData(f"the texts have {len(counts)} different tokens", hint=f"neighbours need at least {NEAREST + 1}")
    seen = [token for token, _ in counts.most_common()]
    frequent = seen[:FREQUENT]
    rows = _unit(table[seen] - table[seen].mean(axis=0))
    alike = rows @ rows.T
    np.fill_diagonal(alike, -np.inf)
    shown = tuple(
        Neighbours(
            token=token,
            count=counts[token],
            nearest=tuple((seen[j], float(alike[i, j])) for j in np.argsort(-alike[i])[:NEAREST].tolist()),
        )
        for i, token in enumerate(frequent[:SHOWN])
    )
    of_model, of_use = alike[: len(frequent), : len(frequent)], _use(ids, frequent, seen)
    return Likeness(tokens=len(frequent), correlation=_mantel(of_model, of_use, seed), shown=shown)


def says(likeness: Likeness, name: str) -> str:
    """What was found, in one sentence."""
    correlation = likeness.correlation
    verb = "follows" if correlation.is_clear and correlation.value > 0 else "does not follow"
    return (
        f"Likeness in the {name} {verb} likeness of use in these texts: over all pairs of the {likeness.tokens} most frequent "
        f"tokens their rank correlation is {correlation}."
    )


def _use(ids: Sequence[Sequence[int]], frequent: Sequence[int], seen: Sequence[int]) -> Numbers:
    """Cosines of what stands before and after the frequent tokens."""
    at, column = {token: i for i, token in enumerate(frequent)}, {token: i for i, token in enumerate(seen)}
    around = np.zeros((len(frequent), 2 * len(seen)))
    for row in ids:
        for before, after in pairwise(row):
            if before in at and after in column:
                around[at[before], len(seen) + column[after]] += 1
            if after in at and before in column:
                around[at[after], column[before]] += 1
    rows = _unit(np.log1p(around))
    return np.asarray(rows @ rows.T)


def _mantel(a: Numbers, b: Numbers, seed: int) -> Measured:
    """Rank correlation of two likenesses over pairs, and of shuffled ones."""
    count = len(a)
    above = np.triu_indices(count, 1)
    ranked = np.zeros((count, count))
    ranked[above] = _standard(rankdata(a[above]))
    ranked += ranked.T
    other = _standard(rankdata(b[above]))

    def correlation(order: Numbers) -> float:
        return float(ranked[order[above[0]], order[above[1]]] @ other / len(other))

    return measured(correlation(np.arange(count)), [correlation(order) for order in shuffles(count, seed)])  # type: ignore[arg-type]


def _standard(values: Numbers) -> Numbers:
    spread = float(values.std())
    return np.asarray((values - values.mean()) / (spread or 1.0))


def _unit(rows: Numbers) -> Numbers:
    length = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return np.asarray(rows / np.where(length == 0, 1.0, length))
