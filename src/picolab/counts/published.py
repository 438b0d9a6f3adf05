"""The earlier recipe, as it was published, with each of its corrections separable: for the comparison, not for use.

    M = D_row^-1/2 C D_col^-1/2 = U S V^T        W_Q = E^T U S^1/2     W_K = E^T V S^1/2     queries look at what FOLLOWS the query
    P = D_row^-1 C            = U S V^T          W_V = S^1/2 U^T E     W_O = E^T V S^1/2

Layer l takes contexts of min(l + 1, 2) tokens, head i skips min(i, 3). What was wrong with it:

    scale        each matrix is brought to a standard deviation of 0.01: scores of a few hundredths, attention all but uniform
    embedding    the model's vectors were drawn anew afterwards: the frozen matrices refer to vectors that no longer exist
    direction    a token asks for what usually comes after it, and all it can look at lies before: W_Q and W_K change places
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from picolab.counts.shape import Shape
from picolab.counts.sparse import NOTHING, Sparse, check_room, leading
from picolab.counts.tables import Table, Tables

MAX_ORDER, MAX_SKIP, STD = 2, 3, 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The four matrices of a head as factors of a row vector: x W_Q `(d_model, head_dim)`, mixed W_O `(head_dim, d_model)`."""

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor


def shape_of(layer: int, head: int) -> Shape:
    """Which counts a head takes."""
    return Shape.of(min(layer + 1, MAX_ORDER), min(head, MAX_SKIP))


def base_embedding(vocab_size: int, d_model: int, generator: torch.Generator) -> Tensor:
    """Gaussian rows of unit length."""
    rows = torch.randn(vocab_size, d_model, generator=generator)
    return rows / rows.norm(dim=1, keepdim=True)


def head_of(
    tables: Tables,
    shape: Shape,
    embedding: Tensor,
    head_dim: int,
    generator: torch.Generator,
    *,
    corrections: Collection[str] = (),
) -> Head:
    """One head from one table, as published but for `scale` and `direction` where they are corrected."""
    from scipy.sparse import csr_matrix

    table = tables[shape.name]
    context, target = table.pairs()
    contexts, row = np.unique(context, return_inverse=True)
    counts = csr_matrix((table.counts.astype(float), (row, target)), shape=(len(contexts), table.vocab_size))
    of_context = (
        embedding[torch.from_numpy(contexts)] if len(shape.back) == 1 else _expected(tables, contexts, embedding)
    )
    rows, columns = np.asarray(counts.sum(1)).ravel(), np.asarray(counts.sum(0)).ravel()
    normal, shares = counts.copy(), counts.copy()
    of_row = np.repeat(rows, np.diff(counts.indptr))
    normal.data = counts.data / np.sqrt(of_row * columns[counts.indices])
    shares.data = counts.data / of_row
    u, s, v = leading(Sparse([normal]), head_dim, generator)
    check_room(head_dim, int((s > NOTHING * s[0]).sum()), shape.name)
    q, k = of_context.T @ u * s.sqrt(), embedding.T @ v * s.sqrt()
    if "direction" in corrections:
        q, k = k, q
    u, s, v = leading(Sparse([shares]), head_dim, generator)
    check_room(head_dim, int((s > NOTHING * s[0]).sum()), shape.name)
    taken, given = of_context.T @ u * s.sqrt(), (embedding.T @ v * s.sqrt()).T
    matrices = [STD * m / m.std() if "scale" not in corrections else m for m in (q, k, taken, given)]
    return Head(q=matrices[0], k=matrices[1], v=matrices[2], o=matrices[3])


def _expected(tables: Tables, contexts: np.ndarray, embedding: Tensor) -> Tensor:
    """E2 of a pair (a, b): how often b follows a, times b's vector."""
    first, second = np.divmod(contexts, len(embedding))
    pairs: Table = tables[Shape.of(1, 0).name]
    totals = np.asarray(pairs.matrix().sum(1)).ravel()
    keys = np.asarray(pairs.keys)
    at = np.minimum(np.searchsorted(keys, contexts), len(keys) - 1)
    counts = np.where(keys[at] == contexts, pairs.counts[at], 0)  # the pair itself is a key of that table
    share = torch.from_numpy(counts / np.maximum(totals[first], 1)).float()
    return share[:, None] * embedding[torch.from_numpy(second)]
