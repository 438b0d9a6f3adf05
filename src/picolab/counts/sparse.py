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
    basis = _orthonormal(matrix.times(torch.randn(matrix.columns, width, generator=generator)))
    for _ in range(POWERS):
        basis = _orthonormal(matrix.times(matrix.transposed_times(basis)))
    small = matrix.transposed_times(basis)  # columns x width
    squares, u = torch.linalg.eigh(_gram(small))
    s, u = squares.clamp(min=0).sqrt().flip(0)[:rank], u.flip(1)[:, :rank]
    v = small @ (u / s.clamp(min=1e-30)).float()
    return basis @ u.float(), s.float(), v


def _orthonormal(tall: Tensor) -> Tensor:
    """An orthonormal basis of the columns, by Cholesky of their Gram matrix, twice (Yamamoto et al. 2015): a product with all cores
    where Householder's reflections would take ten times as long."""
    for _ in range(2):
        gram = _gram(tall)
        ridge = 1e-12 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        factor = torch.linalg.cholesky(gram + ridge)
        tall = tall @ torch.linalg.inv(factor).T.to(tall.dtype)
    return tall


def _gram(tall: Tensor, rows: int = 2**15) -> Tensor:
    """Products of all columns, summed in float64 over blocks of rows."""
    total = torch.zeros(tall.shape[1], tall.shape[1], dtype=torch.float64)
    for block in tall.split(rows):
        total += block.T.double() @ block.double()
    return total


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
