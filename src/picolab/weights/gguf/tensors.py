"""Numbers as GGUF keeps them: where they lie in the mapped file, plain ones as they are, blocks as a matrix that can be read.

F32 F16 BF16     the bytes are the tensor: nothing is copied
Q8_0 .. Q6_K     blocks of 32 or 256 numbers that share a scale: made into numbers when and where they are asked for
"""

from __future__ import annotations

import math

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from torch import Tensor

from picolab.parts.quantised import Quantised, to_float
from picolab.parts.quantised_blocks import KINDS
from picolab.weights.gguf.header import Header

PLAIN = {Type.F32: ("<f4", torch.float32), Type.F16: ("<f2", torch.float16), Type.BF16: ("<i2", torch.bfloat16)}

QUANTISED = {
    Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1,
    Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K,
}  # fmt: skip


def tensor_of(header: Header, name: str) -> Tensor:
    """One tensor of a file, rows first; of a quantised one, the numbers it stands for."""
    tensor = mapped(header, name)
    return to_float(tensor) if isinstance(tensor, Quantised) else tensor


def mapped(header: Header, name: str, *, heads: int = 0) -> Tensor:
    """One tensor of a file where it lies, nothing read: a `Quantised` if it is a matrix of blocks, or one whose rows are those of
    `heads` in adjacent pairs."""
    stored = header.tensors[name]
    if stored.kind in PLAIN and not heads:
        written, dtype = PLAIN[stored.kind]
        numbers = np.frombuffer(
            header.data, dtype=written, count=stored.size // np.dtype(written).itemsize, offset=stored.offset
        )
        return torch.from_numpy(numbers).view(dtype).reshape(stored.shape)
    if stored.kind not in QUANTISED and stored.kind not in PLAIN:
        known = ", ".join(kind.name for kind in (*PLAIN, *sorted(QUANTISED)))
        header.refuse(
            f"tensor `{name}` is stored as {stored.kind.name}, which is not read here", hint=f"read are: {known}"
        )
    raw = torch.from_numpy(np.frombuffer(header.data, dtype=np.uint8, count=stored.size, offset=stored.offset))
    matrix = Quantised(KINDS[stored.kind.name].cut(raw.view(math.prod(stored.shape[:-1]), -1)), stored.kind.name, heads)
    return matrix if len(stored.shape) == 2 else to_float(matrix).reshape(stored.shape)
