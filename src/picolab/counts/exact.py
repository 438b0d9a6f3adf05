"""Can a transformer be a count model, exactly, without a step of training? Yes: one layer, norms on, tied head, real softmax.

    E     orthonormal rows, orthogonal to (1, .., 1) and to one spare direction w: a layer norm then only scales
    L     ln P(next | token `skip` back), J = I - 1 1^T / V (a constant on all logits is nothing)
    skip 0    stream E_a  + E_a' (L - I) J E                      + pad_a w
    skip s    stream E_a  - E_a' J E        + L_b J E   (b is s back) + pad_b w          pad makes every stream equally long, so the
                                                                                          last norm is the same number everywhere
    logits = stream E^T = L + a constant a row

Positions that have no token `skip` back are not covered.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from picolab.counts.embeddings import orthonormal
from picolab.counts.places import place
from picolab.counts.tables import Table
from picolab.errors import BadData
from picolab.models.counted import Attention, Block, Config, Counted

SHARP = 60.0
"""One-hot in double precision: what is left beside the target is exp(-65)."""


def smoothed(table: Table, alpha: float = 0.1) -> Tensor:
    """ln P(next | token) of every pair, `(vocab, vocab)` float64, `alpha` added to every count (Lidstone)."""
    counts = torch.from_numpy(table.dense()) + alpha
    return (counts / counts.sum(1, keepdim=True)).log()


@torch.no_grad()
def as_transformer(log_probs: Tensor, *, skip: int = 0, context_length: int = 256, seed: int = 0) -> Counted:
    """The transformer, in float64, whose next-token distribution is `log_probs[token skip back]`; `(vocab, vocab)` float64.

    Raises `BadData` for a table that is not square or not normalised.
    """
    vocab = len(log_probs)
    if log_probs.shape != (vocab, vocab) or not torch.allclose(log_probs.exp().sum(1), torch.ones(vocab).double()):
        raise BadData(
            f"{tuple(log_probs.shape)} numbers are no next-token distributions", hint="rows are ln P and sum to 1"
        )
    d_model, head_dim = vocab + 2 + vocab % 2, vocab + vocab % 2
    model = Counted(
        Config(
            vocab_size=vocab,
            context_length=context_length,
            d_model=d_model,
            head_dim=head_dim,
            n_layers=1,
            n_heads=2 if skip == 0 else 3,
            d_ff=2,
            learned_positions=False,
            attention="zero",
            embedding="usual",
        )
    ).double()
    for parameter in model.parameters():
        parameter.zero_()
    rows, spare = _rows(vocab, d_model, seed)
    centred = torch.eye(vocab).double() - 1 / vocab
    told = (log_probs - torch.eye(vocab) if skip == 0 else log_probs) @ centred
    bare = rows + told @ rows if skip == 0 else told @ rows + rows.mean(0)
    lengths = bare.norm(dim=1)
    longest = float(lengths.max())
    maps = [
        (skip, rows.T @ told @ rows),
        (skip, torch.outer(rows.T @ (longest**2 - lengths**2).clamp(min=0).sqrt(), spare)),
    ]
    if skip:
        maps.append((0, -rows.T @ centred @ rows))
    block = cast(Block, model.blocks[0])
    for number, (offset, matrix) in enumerate(maps):
        _head(model.config, block.attention, number, offset, matrix)
    model.embedding.weight.copy_(rows)
    block.attention_norm.weight.fill_((1 / d_model + model.config.norm_eps) ** 0.5)
    model.final_norm.weight.fill_((longest**2 / d_model + model.config.norm_eps) ** 0.5)
    return model.eval()


def _head(config: Config, attention: Attention, number: int, offset: int, matrix: Tensor) -> None:
    """Head `number` adds `x @ matrix` of the token `offset` back; the matrix has no more rank than a head is wide."""
    lanes = slice(number * config.head_dim, (number + 1) * config.head_dim)
    query, key = place(offset, config.head_dim, config.rope_theta, SHARP)
    attention.q_bias[lanes], attention.k_bias[lanes] = query, key
    u, s, v = torch.linalg.svd(matrix)
    taken, given = u * s.sqrt(), v * s.sqrt()[:, None]
    attention.v_proj.weight[lanes] = taken[:, : config.head_dim].T
    attention.out_proj.weight[:, lanes] = given[: config.head_dim].T


def _rows(vocab: int, d_model: int, seed: int) -> tuple[Tensor, Tensor]:
    """Orthonormal embeddings and a spare direction, all orthogonal to (1, .., 1)."""
    generator = torch.Generator().manual_seed(seed)
    ones = torch.full((1, d_model), d_model**-0.5, dtype=torch.float64)
    free = torch.linalg.svd(ones).Vh[1:]  # a basis of what is orthogonal to it
    turned = orthonormal(vocab + 1, len(free), generator) @ free
    return turned[:vocab], turned[vocab]


def apart(model: Counted, log_probs: Tensor, tokens: np.ndarray, *, skip: int = 0) -> float:
    """Largest difference in nats between a constructed model and its table, over rows of tokens `(batch, time)`."""
    ids = torch.from_numpy(tokens).long()
    with torch.inference_mode():
        found = model(ids).double().log_softmax(-1)[:, skip:]
    return float((found - log_probs[ids[:, : ids.shape[1] - skip]]).abs().max())
