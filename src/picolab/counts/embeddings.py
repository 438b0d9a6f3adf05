"""Which vectors should tokens begin with? Orthogonal ones where there is room; else neighbours in the text say who is alike.

    V <= d    rows of a random orthogonal matrix: no two tokens are confused
    V >  d    positive pointwise mutual information with the tokens one and two places before and after, its d leading directions
              PPMI = max(0, ln P(b | a) / p(b)^0.75 ..)                   Levy and Goldberg 2014; Levy, Goldberg, Dagan 2015

Both have rows of length `NORM`. The embedding alone is a large part of what counts can give: every arm of a comparison gets the
same.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from picolab.counts.sparse import Sparse, leading
from picolab.counts.tables import Table
from picolab.errors import BadSetting

NORM, CONTEXT_POWER = 0.5, 0.75


def orthonormal(rows: int, columns: int, generator: torch.Generator) -> Float[Tensor, "rows columns"]:
    """Random orthonormal rows (columns, where there are more rows), float64."""
    tall = torch.randn(max(rows, columns), min(rows, columns), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(tall)
    q = q * r.diagonal().sign()  # without it the distribution is not uniform (Mezzadri 2007)
    return q.T if rows <= columns else q


def orthogonal_embedding(vocab_size: int, d_model: int, generator: torch.Generator) -> Float[Tensor, "vocab d_model"]:
    """Orthogonal rows of length `NORM`."""
    if vocab_size > d_model:
        raise BadSetting(
            f"{vocab_size} tokens cannot be orthogonal in {d_model} dimensions",
            hint="an embedding from neighbours serves large vocabularies",
        )
    return (NORM * orthonormal(vocab_size, d_model, generator)).float()


def neighbour_embedding(
    nearest: Table, next_nearest: Table, d_model: int, generator: torch.Generator
) -> Float[Tensor, "vocab d_model"]:
    """Rows of length `NORM` from the counts of tokens one and two places apart; tokens never seen get random directions."""
    one, two = nearest.matrix(), next_nearest.matrix()
    directed = (lambda: one, lambda: one.T.tocsr(), lambda: two, lambda: two.T.tocsr())
    u, s, _ = leading(Sparse(_positive_information(counts()) for counts in directed), d_model, generator)
    rows = u * s.sqrt()
    rows = rows - rows.mean(0)
    rows = rows @ orthonormal(d_model, d_model, generator).float()  # no lane is more important than another
    seen = torch.from_numpy(np.asarray(one.sum(1)).ravel() + np.asarray(one.sum(0)).ravel() > 0)
    rows[~seen] = torch.randn(int((~seen).sum()), d_model, generator=generator)
    return NORM * rows / rows.norm(dim=1, keepdim=True)


def _positive_information(counts):  # type: ignore[no-untyped-def]
    """PPMI of a sparse matrix, with contexts smoothed by a power; as sparse as the counts, or sparser."""
    result = counts.copy()
    rows, columns = np.asarray(counts.sum(1)).ravel(), np.asarray(counts.sum(0)).ravel() ** CONTEXT_POWER
    columns /= columns.sum()
    of_row = np.repeat(rows, np.diff(counts.indptr))
    result.data = np.maximum(np.log(counts.data / of_row / columns[counts.indices]), 0)
    result.eliminate_zeros()
    return result
