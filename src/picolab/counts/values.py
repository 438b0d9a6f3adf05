"""What should a head hand over? The token it looks at as it is (a copy), or what the counts say follows that token.

    copy      W_V = Q, W_O = c nu / sqrt(h) R           Q, R random orthonormal: another part of the stream for every head
    counts    M_ab = ln P(b | a) / p(b), of rank h:     X W E^T ~ M in the least squares that weigh tokens as often as they occur,
              X = norm(E); W = G_x^-1 (X^T D_w M D_p E) G_e^-1

M is sparse plus a constant a row, and a constant a row is nothing to a softmax, so every product costs (pairs seen) x d.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from picolab.counts.embeddings import NORM, orthonormal
from picolab.counts.sparse import Sparse, check_room, gram_of
from picolab.counts.tables import Table
from picolab.errors import BadSetting

KAPPA = 5.0
"""Weight of the unigram in every context, in tokens: P(b | a) = (C_ab + kappa p_b) / (n_a + kappa)."""

RIDGE = 1e-3


def copy(d_model: int, head_dim: int, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """W_V `(d_model, head_dim)` and W_O `(head_dim, d_model)` of a head whose output is `strength` embeddings long."""
    taken = orthonormal(d_model, head_dim, generator)
    given = strength * NORM / head_dim**0.5 * orthonormal(head_dim, d_model, generator)
    return taken, given


def following(
    table: Table,
    unigram: Float[Tensor, " vocab"],
    embedding: Float[Tensor, "vocab d_model"],
    head_dim: int,
    strength: float,
) -> tuple[Tensor, Tensor]:
    """W_V and W_O of a head that adds, in the embedding's own directions, what follows the token it looks at."""
    vocab, d_model = embedding.shape
    if head_dim > d_model:
        raise BadSetting(f"a head {head_dim} wide has more directions than the stream's {d_model}")
    e, p = embedding.float(), unigram.double()
    x = torch.nn.functional.layer_norm(e, (d_model,))
    information = table.matrix()  # of counts, until the next line but one
    n = torch.from_numpy(np.asarray(information.sum(1)).ravel())
    check_room(head_dim, int((n > 0).sum()), table.shape.name)
    information.data = np.log1p(information.data / (KAPPA * p.numpy()[information.indices]))
    weighed = p[:, None].float() * e
    told = Sparse([information]).times(torch.cat([weighed, p[:, None].float()], 1))
    inner = told[:, :-1] - told[:, -1:] * weighed.double().sum(0).float()
    often = (n / n.sum()).float()[:, None]
    g_x, g_e = (_ridged(gram_of(*pair, kind=torch.float32)) for pair in ((x, often * x), (e, weighed)))
    told_of = gram_of(x, often * inner, kind=torch.float32)
    best = torch.linalg.solve(g_x, torch.linalg.solve(g_e, told_of.T).T)
    l_x, l_e = torch.linalg.cholesky(g_x), torch.linalg.cholesky(g_e)
    u, _, _ = torch.linalg.svd(l_x.T @ best @ l_e)
    q = torch.linalg.qr(torch.linalg.solve_triangular(l_x.T, u[:, :head_dim], upper=True)).Q
    given = torch.linalg.solve(q.T @ g_x @ q, q.T @ g_x @ best)
    return q, strength * 1.5 * NORM / d_model**0.5 * given


def _ridged(gram: Tensor) -> Tensor:
    return gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
