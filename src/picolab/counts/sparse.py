"""Linear algebra on counts: sparse times dense, and the leading directions of a matrix nobody writes out.

A  V x W, n non-zeros;  B  W x d          A B costs n d                     never V x W
SVD of rank d: a random sketch of the range, sharpened by powers of A A^T          Halko, Martinsson, Tropp 2011, arXiv:0909.4061
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from picolab.errors import BadData

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

OVERSAMPLE, POWERS = 10, 3
NOTHING = 1e-6
"""A singular value smaller than this share of the largest is rounding."""


class Sparse:
    """Sparse blocks side by side, as one matrix `(rows, columns)`, with its transpose; products in float32 on all cores.

    Blocks are taken one by one, so that they need not all be there at once; the transpose is made when it is first needed.
    """

    def __init__(self, blocks: Iterable[csr_matrix]) -> None:
        self.forward = [_tensor(block) for block in blocks]
        self.rows, self.widths = self.forward[0].shape[0], [block.shape[1] for block in self.forward]
        self._backward: list[Tensor] = []

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
        if not self._backward:
            self._backward = [_tensor(_as_scipy(block).T.tocsr()) for block in self.forward]
        return torch.cat([block @ dense for block in self._backward])


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
    squares, u = torch.linalg.eigh(gram_of(small))
    s, u = squares.clamp(min=0).sqrt().flip(0)[:rank], u.flip(1)[:, :rank]
    v = small @ (u / s.clamp(min=1e-30)).float()
    return basis @ u.float(), s.float(), v


def check_room(head_dim: int, directions: int, name: str) -> None:
    """Raise `BadData` where counts have fewer directions than a head has lanes: it would be filled with rounding errors."""
    if directions < head_dim:
        raise BadData(
            f"a head {head_dim} wide asks for more directions than the {directions} that the counts `{name}` have",
            hint=f"--model.head_dim {max(2, directions - directions % 2)} or less, or more text",
        )


def _orthonormal(tall: Tensor) -> Tensor:
    """An orthonormal basis of the columns, by Cholesky of their Gram matrix, twice (Yamamoto et al. 2015): a product with all cores
    where Householder's reflections would take ten times as long. Those serve where columns hang together: few tokens."""
    basis = tall
    for kind in (
        torch.float64,
        torch.float32,
    ):  # the second time they are nearly orthonormal, and single precision is enough
        gram = gram_of(basis, kind=kind)
        factor, failed = torch.linalg.cholesky_ex(gram)
        if failed:
            return torch.linalg.qr(tall).Q
        basis = basis @ torch.linalg.inv(factor).T.to(tall.dtype)
    return basis


def gram_of(
    left: Tensor, right: Tensor | None = None, *, kind: torch.dtype = torch.float64, rows: int = 2**13
) -> Float[Tensor, "left_columns right_columns"]:
    """`left.T @ right` (of itself, if no other is given) over tall matrices: blocks of rows in `kind`, their sum in float64."""
    total = torch.zeros(left.shape[1], (left if right is None else right).shape[1], dtype=torch.float64)
    for start in range(0, len(left), rows):
        block = left[start : start + rows].to(kind)
        other = block if right is None else right[start : start + rows].to(kind)
        total += block.T @ other
    return total


def _as_scipy(block: Tensor) -> csr_matrix:
    from scipy.sparse import csr_matrix

    parts = (block.values().numpy(), block.col_indices().numpy(), block.crow_indices().numpy())
    return csr_matrix(parts, shape=(block.shape[0], block.shape[1]))


def _tensor(block: csr_matrix) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(block.indptr),  # SciPy's own 32 bits where they suffice: the kernels want no more
            torch.from_numpy(block.indices),
            torch.from_numpy(block.data).float(),
            size=block.shape,
            check_invariants=False,  # SciPy made it
        )
