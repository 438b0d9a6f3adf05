"""What lies in a tensor of ggml, the library below llama.cpp? Its C structure, read through ctypes. ggml/include/ggml.h.

    ne  20  6  5  1      elements along each axis, the fastest first: ours is (1, 5, 6, 20)
    nb   4 80 480 2400   bytes from one element to the next along each axis: a view of a wider tensor has gaps

A later ggml may lay the structure out differently. `check_layout` asks the library itself how large it is and how a tensor is
called, so that a new layout is refused and never misread.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from picolab.errors import BadInput

MAX_DIMS, MAX_SRC, MAX_NAME, MAX_PARAMS = 4, 10, 64, 16
OBJECT_SIZE = 32
"""Bytes that ggml keeps before every tensor (struct ggml_object)."""


class Node(ctypes.Structure):
    """struct ggml_tensor: a value of the graph, the operation that makes it and what that operation reads."""

    type: int
    ne: ctypes.Array[ctypes.c_int64]
    nb: ctypes.Array[ctypes.c_size_t]
    op: int
    op_params: ctypes.Array[ctypes.c_int32]
    src: ctypes.Array[ctypes.c_void_p]
    name: bytes

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * MAX_DIMS),
        ("nb", ctypes.c_size_t * MAX_DIMS),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * MAX_PARAMS),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * MAX_SRC),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * MAX_NAME),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )


DTYPES = {0: torch.float32, 1: torch.float16, 30: torch.bfloat16}
"""ggml's numbers of the types that activations have."""


class Ggml:
    """The few functions of the library that are needed, typed."""

    def __init__(self, library: Any) -> None:
        self._overhead, self._name, self._op_name = (
            library.ggml_tensor_overhead,
            library.ggml_get_name,
            library.ggml_op_name,
        )
        self._get, self._bytes = library.ggml_backend_tensor_get, library.ggml_nbytes
        self._overhead.restype = self._bytes.restype = ctypes.c_size_t
        self._name.restype = self._op_name.restype = ctypes.c_char_p
        self._name.argtypes = self._bytes.argtypes = [ctypes.c_void_p]
        self._op_name.argtypes = [ctypes.c_int]
        self._get.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
        self._get.restype = None
        self._ops: dict[int, str] = {}

    def check_layout(self, pointer: int | None = None) -> None:
        """Refuse a library whose tensors are laid out otherwise than `Node`; with a tensor, its name is compared too."""
        found = self._overhead()
        same = found == OBJECT_SIZE + ctypes.sizeof(Node)
        if same and pointer is not None:
            same = self._name(pointer) == node_at(pointer).name
        if not same:
            raise BadInput(
                f"this llama.cpp keeps a tensor in {found - OBJECT_SIZE} bytes laid out in a way that is not known here",
                hint="install the version of llama-cpp-python that constraints.txt names",
            )

    def op(self, node: Node) -> str:
        """What the operation is called: `MUL_MAT`, `ROPE`."""
        if node.op not in self._ops:
            self._ops[node.op] = self._op_name(node.op).decode()
        return self._ops[node.op]

    def value(self, pointer: int) -> Tensor | None:
        """A copy of the numbers as float32, the slowest axis first, four axes; None of a type that is no activation's."""
        node = node_at(pointer)
        dtype = DTYPES.get(node.type)
        if dtype is None or 0 in node.ne:
            return None
        span = self._bytes(pointer)
        raw = torch.empty(span, dtype=torch.uint8)
        self._get(pointer, raw.data_ptr(), 0, span)
        strides = [step // dtype.itemsize for step in node.nb]
        return raw.view(dtype).as_strided(list(node.ne)[::-1], strides[::-1]).float().contiguous()


def node_at(pointer: int) -> Node:
    """The tensor at an address."""
    return Node.from_address(pointer)


def float_parameter(node: Node, index: int) -> float:
    """A setting of an operation that is kept as float32."""
    return ctypes.c_float.from_buffer_copy(ctypes.c_int32(node.op_params[index])).value
