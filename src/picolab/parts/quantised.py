"""How is a matrix kept smaller than its float32 numbers, and used all the same? As codes and scales, made into numbers in passing.

    Linear.weight     is a Quantised      F.linear(x, weight)     a few rows at a time: numbers, product, next rows
    Embedding.weight                      F.embedding(ids, weight)    the rows asked for
    Head.weight                           anything else           all numbers, for that one operation

A `Quantised` stands where the float matrix stood, in the same module, under the same name, float32 to whoever asks: models, sites
and shared heads are as they were. Its bytes are codes of 8 bits with one scale a row (`int8`), or the blocks of a GGUF file where
they lie in the mapped file. It is for reading: what is to be trained or written needs the float numbers.

    int8: scale = max |row| / 127, code = round(number / scale), so every number is off by at most scale / 2
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from picolab.errors import BadInput
from picolab.parts import quantised_blocks
from picolab.parts.embedding import Embedding
from picolab.parts.head import Head
from picolab.parts.quantised_blocks import INT8, KINDS, Fields, numbers_of, product_sums

Vectors = Float[Tensor, "*batch lanes"]
Products = Float[Tensor, "*batch rows"]

CHUNK = 2**18
"""Numbers made at once: 1 MB, which stays in the cache until it is multiplied. With 4 MB a product with one vector took 2.5 ms in
place of 2.8 (int8, 32,000 x 512, one core), and four times the memory."""

FEW_ROWS = 4
"""Rows of `x` up to which compiled code takes a product as sums, each number made in a register and never written."""


class Quantised(Tensor):
    """A matrix `(rows, lanes)` of the kind `int8` or one of ggml's. With `heads`, the rows of its fields lie in adjacent pairs, as
    llama.cpp turns them, and are put in halves wherever they are used: bytes in a mapped file cannot be moved."""

    codes: Tensor
    scale: Tensor | None
    base: Tensor | None
    steps: Tensor | None
    high: Tensor | None
    kind: str
    heads: int

    @staticmethod
    def __new__(cls, fields: Fields, kind: str, heads: int = 0) -> Quantised:
        shape = fields.codes.shape
        if kind != INT8:
            shape = torch.Size((shape[0], shape[1] * KINDS[kind].numbers))
        made: Quantised = Tensor._make_wrapper_subclass(
            cls, shape, dtype=torch.float32, device=fields.codes.device, requires_grad=False
        )
        return made

    def __init__(self, fields: Fields, kind: str, heads: int = 0) -> None:
        self.codes, self.scale, self.base, self.steps, self.high = fields
        self.kind, self.heads = kind, heads

    @property
    def fields(self) -> Fields:
        return Fields(self.codes, self.scale, self.base, self.steps, self.high)

    @property
    def bytes_kept(self) -> int:
        """Bytes of its fields."""
        return sum(field.numel() * field.element_size() for field in self.fields if field is not None)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Quantised({self.shape[0]} x {self.shape[1]}, {self.kind})"

    # What torch asks of a tensor that is made of others, to copy it and to compile code that uses it.

    def __tensor_flatten__(self) -> tuple[list[str], tuple[str, int]]:
        return [name for name, field in self.fields._asdict().items() if field is not None], (self.kind, self.heads)

    @staticmethod
    def __tensor_unflatten__(
        inner: Mapping[str, Tensor], context: tuple[str, int], size: Sequence[int], stride: Sequence[int]
    ) -> Quantised:
        return Quantised(Fields(**inner), *context)

    def _stable_hash_for_caching(self) -> str:
        """What torch may find code by that it compiled earlier. It does not see this file when it looks, so the file says so."""
        return f"{self.kind} {self.heads} {tuple(self.shape)} {_sources()}"

    def each(self, work: Callable[[Tensor], Tensor]) -> Quantised:
        """The same with `work` done to every field."""
        return Quantised(Fields(*(None if f is None else work(f) for f in self.fields)), self.kind, self.heads)  # type: ignore[arg-type]

    @classmethod
    def __torch_function__(
        cls, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear:
            return linear(*args, **kwargs)
        if func is F.embedding:
            return embedding(*args, **kwargs)
        if func in _FOR_FLOATS and (func is not Tensor.requires_grad_ or _asks_for_gradient(*args, **kwargs)):
            refuse(args[0], _FOR_FLOATS[func])
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _KEEPING:
            return args[0].each(lambda field: func(field))
        if func is torch.ops.aten._to_copy.default and kwargs.get("dtype") in (None, torch.float32):
            return args[0].each(lambda field: field.to(kwargs.get("device")))
        if func._schema.is_mutable:
            refuse(next(a for a in (*args, *kwargs.values()) if isinstance(a, Quantised)), "changed")
        return func(*tree_map(_in_numbers, args), **tree_map(_in_numbers, dict(kwargs)))


def quantise(matrix: Float[Tensor, "rows lanes"] | Quantised) -> Quantised:
    """A matrix as int8, a few rows at a time: of a mapped or quantised one no float copy is made.

    Every number is off by at most half its row's scale, max |row| / 254. A row of zeros stays one; a row with a number that is
    not finite becomes NaN, all of it.
    """
    codes = torch.empty(matrix.shape, dtype=torch.int8, device=matrix.device)
    scale = torch.empty(matrix.shape[0], dtype=torch.float32, device=matrix.device)
    for rows, numbers in in_chunks(matrix):
        least, most = numbers.aminmax(dim=1)
        top = torch.maximum(-least, most)
        finite = top.isfinite()
        scale[rows] = torch.where(finite, top / 127, torch.nan)
        steps = numbers * (1 / scale[rows].clamp(min=torch.finfo(torch.float32).tiny))[:, None]
        codes[rows] = steps.round_() if bool(finite.all()) else steps.round_().nan_to_num_(0, 0, 0)
    if isinstance(matrix, Quantised) and matrix.heads:  # these rows are in memory of their own, and may be moved
        codes, scale = _rows_in_halves(codes, matrix.heads), _rows_in_halves(scale, matrix.heads)
    return Quantised(Fields(codes, scale), INT8)


def to_float(matrix: Quantised, dtype: torch.dtype = torch.float32) -> Float[Tensor, "rows lanes"]:
    """All numbers at once: the plain version, and the way out of a file."""
    if torch.compiler.is_compiling():  # nothing is made that is not used, and nothing may be written in place
        made = numbers_of(matrix.kind, matrix.fields).to(dtype)
    else:
        made = torch.empty(matrix.shape, dtype=dtype, device=matrix.device)
        for rows, numbers in in_chunks(matrix):
            made[rows] = numbers.to(dtype)
    return _rows_in_halves(made, matrix.heads) if matrix.heads else made


def in_chunks(matrix: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some rows after the other, as float32, in the order in which they are kept."""
    step = max(1, CHUNK // matrix.shape[1])
    for first in range(0, matrix.shape[0], step):
        rows = slice(first, first + step)
        yield rows, _some(matrix, rows) if isinstance(matrix, Quantised) else matrix[rows].float()


def linear(x: Vectors, weight: Quantised, bias: Tensor | None = None) -> Products:
    """`linear_plainly` without ever making more than `CHUNK` numbers of the weight."""
    if torch.compiler.is_compiling() and x.shape[:-1].numel() <= FEW_ROWS:
        out = _in_one_loop(x, weight)
    else:
        step = max(1, CHUNK // weight.shape[1])
        starts = range(0, weight.shape[0], step)
        products = [_product(x, weight, slice(first, first + step)) for first in starts]
        out = products[0] if len(products) == 1 else torch.cat(products, dim=-1)
    if weight.heads:
        out = out.unflatten(-1, (weight.heads, -1, 2)).transpose(-1, -2).flatten(-3)
    return out if bias is None else out + bias.to(out.dtype)


def linear_plainly(x: Vectors, weight: Quantised, bias: Tensor | None = None) -> Products:
    """Make all numbers, then multiply."""
    return F.linear(x, to_float(weight).to(x.dtype), bias)


def embedding(
    ids: Tensor,
    weight: Quantised,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of these ids, and no other; what else F.embedding takes is about training."""
    if max_norm is not None or weight.heads:
        refuse(weight, "read as an embedding with `max_norm` or rows in pairs")
    return _some(weight, ids)


def _product(x: Tensor, weight: Quantised, rows: slice) -> Tensor:
    if weight.kind == INT8 and weight.scale is not None:  # one scale a row: it may wait until the sum is made
        return F.linear(x, weight.codes[rows].to(x.dtype)) * weight.scale[rows].to(x.dtype)
    return F.linear(x, _some(weight, rows).to(x.dtype))


def _in_one_loop(x: Tensor, weight: Quantised) -> Tensor:
    """For a compiler: the sum of number times lane, while the bytes stream by."""
    wide = torch.promote_types(x.dtype, torch.float32)
    n_rows = x.shape[:-1].numel()
    lanes = x.reshape(n_rows, -1).to(wide).unbind(0)
    sums = torch.stack([product_sums(weight.kind, weight.fields, row) for row in lanes])
    return sums.to(x.dtype).unflatten(0, x.shape[:-1])


def _some(weight: Quantised, rows: slice | Tensor) -> Tensor:
    """The numbers of some rows, in the order in which they are kept."""
    return numbers_of(weight.kind, Fields(*(None if f is None else f[rows] for f in weight.fields)))  # type: ignore[arg-type]


def _rows_in_halves(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _in_numbers(value: Any) -> Any:
    return to_float(value) if isinstance(value, Quantised) else value


def _asks_for_gradient(tensor: Tensor, requires_grad: bool = True) -> bool:
    return requires_grad


def is_matrix(module: nn.Module, name: str) -> bool:
    """Whether a parameter of a module is a matrix that may be a `Quantised`: it is only ever multiplied, or looked up in."""
    return name == "weight" and isinstance(module, nn.Linear | nn.Embedding | Embedding | Head)


def kinds_of(model: nn.Module) -> list[str]:
    """The kinds in which a model's matrices are kept, each once; none of a model of plain floats."""
    return sorted({p.kind for p in map(_own, model.parameters()) if p is not None})


def refuse_quantised(model: nn.Module, done: str) -> None:
    """BadInput if any weight of a model is not what it was made of: rounding twice, or training what is rounded, is never meant."""
    for parameter in map(_own, model.parameters()):
        if parameter is not None:
            refuse(parameter, done)


def refuse(weight: Quantised, done: str) -> NoReturn:
    raise BadInput(
        f"weights kept as {weight.kind} cannot be {done}", hint="open the model with dtype float32, bfloat16 or float16"
    )


@cache
def _sources() -> str:
    """What these two files say."""
    return hashlib.sha256(
        b"".join(Path(name).read_bytes() for name in (__file__, quantised_blocks.__file__))
    ).hexdigest()


def _own(parameter: Tensor) -> Quantised | None:
    return parameter if isinstance(parameter, Quantised) else None


_KEEPING = {torch.ops.aten.detach.default, torch.ops.aten.alias.default, torch.ops.aten.clone.default}
"""What gives a tensor again, and not numbers."""

_FOR_FLOATS: dict[Any, str] = {
    Tensor.requires_grad_: "trained",
    Tensor.requires_grad.__set__: "trained",  # type: ignore[attr-defined]
    Tensor.numpy: "read as an array",
    Tensor.data.__set__: "changed",  # type: ignore[attr-defined]
}
"""What needs numbers in memory, and what to call it."""
