"""Linear algebra on counts: sparse times dense, and the leading directions of a matrix nobody writes out.

A  V x W, n non-zeros;  B  W x d          A B costs n d                     never V x W
SVD of rank d: a random sketch of the range, sharpened by powers of A A^T          Halko, Martinsson, Tropp 2011, arXiv:0909.4061
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from picolab.errors import BadData

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

OVERSAMPLE, POWERS = 10, 3


class Sparse:
    """Sparse blocks side by side, as one matrix `(rows, columns)`, with its transpose; products in float32 on all cores."""

    def __init__(self, blocks: Sequence[csr_matrix]) -> None:
        self.forward = [_tensor(block) for block in blocks]
        self.backward = [_tensor(block.T.tocsr()) for block in blocks]
        self.rows, self.widths = blocks[0].shape[0], [block.shape[1] for block in blocks]

    @property
    def columns(self) -> int:
        return sum(self.widths)

    def times(self, dense: Float[Tensor, "columns d"]) -> Float[Tensor, "rows d"]:
        parts = dense.split(self.widths)
        product = self.forward[0] @ parts[0]
        for block, part in zip(self.forward[1:], parts[1:], strict=True):
            product += block @ part
        return product

    def transposed_times(self, dense: Float[Tensor, "rows d"]) -> Float[Tensor, "columns d"]:
        return torch.cat([block @ dense for block in self.backward])


def leading(matrix: Sparse, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """U `(rows, rank)`, S `(rank,)`, V `(columns, rank)` of the largest singular values, falling.

    Raises `BadData` where the matrix has no such rank to give.
    """
    width = min(rank + OVERSAMPLE, matrix.rows, matrix.columns)
    if width < rank:
        raise BadData(
            f"{rank} directions are more than a matrix of {matrix.rows} x {matrix.columns} has",
            hint="a narrower model, or a larger vocabulary",
        )
    basis = matrix.times(torch.randn(matrix.columns, width, generator=generator))
    for _ in range(POWERS):
        basis = torch.linalg.qr(basis).Q
        basis = matrix.times(torch.linalg.qr(matrix.transposed_times(basis)).Q)
    basis = torch.linalg.qr(basis).Q
    small = matrix.transposed_times(basis)  # columns x width
    v, s, u = torch.linalg.svd(small, full_matrices=False)
    return (basis @ u.T)[:, :rank], s[:rank], v[:, :rank]


def _tensor(block: csr_matrix) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(block.indptr).long(),
            torch.from_numpy(block.indices).long(),
            torch.from_numpy(block.data).float(),
            size=block.shape,
            check_invariants=False,  # SciPy made it
        )
