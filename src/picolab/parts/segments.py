"""Packed rows taken apart into their documents, for layers that carry a state from left to right.

    row   a0 a1 a2 a3 b0 b1 c0 -          a0 a1 a2 a3      b0 b1      c0
    row   d0 d1 d2 d3 d4 e0 e1 f0         d0 d1 d2 d3 d4   e0 e1      f0
                                          longer           2          1            one call each, from fresh states

Documents of similar length run side by side, none more than twice as long as another in its group: at most half of the work is
spent behind a document's end, and there are at most log2(time) calls. (PyTorch's `PackedSequence` wastes nothing, but leaves the
fused kernel of the CPU and is several times slower there.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from picolab.parts.attention import positions_within
from picolab.shapes import Documents

Rows = Float[Tensor, "batch time lanes"]
Out = Float[Tensor, "batch time out_lanes"]


@dataclass(frozen=True, slots=True)
class Group:
    """Documents side by side: where in the flattened rows each token stands, and which places hold one at all.

    A place behind a document's end names one of the document's own tokens; what comes of it is thrown away.
    """

    at: Int64[Tensor, "documents longest"]
    real: Bool[Tensor, "documents longest"]


@dataclass(frozen=True, slots=True)
class Segments:
    """The documents of packed rows, in groups."""

    groups: tuple[Group, ...]

    def run(self, layer: Callable[[Rows], Out], x: Rows) -> Out:
        """`layer` over every document alone, put back in its row; zeros where there was padding."""
        flat, at, done = x.flatten(0, 1), [], []
        for group in self.groups:
            done.append(layer(flat[group.at])[group.real])
            at.append(group.at[group.real])
        out = torch.cat(done)
        rows = out.new_zeros(len(flat), out.shape[-1]).index_copy(0, torch.cat(at), out)
        return rows.unflatten(0, x.shape[:2])


def split(documents: Documents) -> Segments | None:
    """The documents of packed rows; None where every row is one document, which needs no taking apart."""
    real = documents >= 0
    opens = (positions_within(documents) == 0) & real
    if not opens[:, 1:].any():
        return None
    start = opens.flatten().nonzero().squeeze(1)
    length = torch.bincount(opens.flatten().cumsum(0)[real.flatten()] - 1)
    size_class = torch.frexp((length - 1).float()).exponent  # 1 | 2 | 3 4 | 5 .. 8 | 9 .. 16 | ...
    groups = []
    for one in size_class.unique().tolist():
        members = size_class == one
        within = torch.arange(int(length[members].max()), device=documents.device)
        inside = within < length[members, None]
        groups.append(Group(start[members, None] + within.where(inside, 0), inside))
    return Segments(tuple(groups))
