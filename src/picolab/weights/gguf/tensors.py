"""Numbers as GGUF keeps them: plain ones as they lie in the mapped file, quantised ones as float32, made when asked for.

F32 F16 BF16     the bytes are the tensor: nothing is copied
Q8_0 .. Q6_K     blocks of 32 or 256 numbers that share a scale; the `gguf` package knows the layouts
"""

from __future__ import annotations

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize
from torch import Tensor

from picolab.weights.gguf.header import Header

PLAIN = {Type.F32: ("<f4", torch.float32), Type.F16: ("<f2", torch.float16), Type.BF16: ("<i2", torch.bfloat16)}

QUANTISED = {
    Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1,
    Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K,
}  # fmt: skip


def tensor_of(header: Header, name: str) -> Tensor:
    """One tensor of a file, rows first; of a quantised one, the numbers it stands for."""
    stored = header.tensors[name]
    if stored.kind in PLAIN:
        written, dtype = PLAIN[stored.kind]
        numbers = np.frombuffer(
            header.data, dtype=written, count=stored.size // np.dtype(written).itemsize, offset=stored.offset
        )
        return torch.from_numpy(numbers).view(dtype).reshape(stored.shape)
    if stored.kind not in QUANTISED:
        known = ", ".join(kind.name for kind in (*PLAIN, *sorted(QUANTISED)))
        header.refuse(
            f"tensor `{name}` is stored as {stored.kind.name}, which is not read here", hint=f"read are: {known}"
        )
    raw = np.frombuffer(header.data, dtype=np.uint8, count=stored.size, offset=stored.offset)
    with np.errstate(all="ignore"):  # a torn scale may be infinite: the numbers then say so themselves
        numbers = dequantize(raw.reshape(*stored.shape[:-1], -1), stored.kind)
    return torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.float32))
