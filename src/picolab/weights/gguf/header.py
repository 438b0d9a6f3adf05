"""What does a GGUF file hold? Its header is read in full, without believing a word of it. github.com/ggml-org/ggml, docs/gguf.md.

    "GGUF" version n_tensors n_keys | key type value, ... | name shape type offset, ... | padding | numbers

Every count and length is held against the bytes that are left before anything is made of it: a torn or hostile file is refused
with the byte where it stops making sense, in the time it takes to read that far. The numbers stay where they are, in the mapped
file.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from picolab.errors import BadCheckpoint
from picolab.weights.mapped import map_file

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
"""Where numbers begin is a multiple of this, unless `general.alignment` says otherwise."""

MOST_DIMS = 4
SCALARS = {
    GGUFValueType.UINT8: "<u1",
    GGUFValueType.INT8: "<i1",
    GGUFValueType.UINT16: "<u2",
    GGUFValueType.INT16: "<i2",
    GGUFValueType.UINT32: "<u4",
    GGUFValueType.INT32: "<i4",
    GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.BOOL: "<u1",
    GGUFValueType.UINT64: "<u8",
    GGUFValueType.INT64: "<i8",
    GGUFValueType.FLOAT64: "<f8",
}

Value = bool | int | float | str | list[str] | np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor lies: `size` bytes from `offset`, rows first (GGUF itself names the fastest axis first)."""

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """A GGUF file that has been found consistent; asking for a key of the wrong type is refused by name."""

    path: Path
    data: mmap.mmap | bytes
    fields: Mapping[str, Value]
    tensors: Mapping[str, Stored]

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number; one that every layer has for itself is one number if all are equal."""
        value = self.fields.get(key, default)
        if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
            value = value[0].item()
        return int(self._checked(key, value, int))

    def number(self, key: str, default: float | None = None) -> float:
        value = self.fields.get(key, default)
        return float(self._checked(key, value, float))

    def flag(self, key: str, default: bool) -> bool:
        return bool(self._checked(key, self.fields.get(key, default), bool))

    def text(self, key: str, default: str | None = None) -> str:
        return str(self._checked(key, self.fields.get(key, default), str))

    def texts(self, key: str) -> list[str]:
        value = self.fields.get(key, [])
        if not isinstance(value, list):
            self.refuse(f"`{key}` is not a list of texts")
        return value

    def numbers(self, key: str) -> list[Any]:
        value = self.fields.get(key)
        if value is None:
            return []
        if not isinstance(value, np.ndarray):
            self.refuse(f"`{key}` is not a list of numbers")
        return value.tolist()

    def refuse(self, what: str, hint: str | None = None) -> NoReturn:
        raise BadCheckpoint(f"`{self.path}`: {what}", hint=hint)

    def _checked(self, key: str, value: Any, kind: type) -> Any:
        if value is None:
            self.refuse(f"the file does not say `{key}`", hint="it is torn, or of an architecture with other settings")
        allowed = (int, float) if kind is float else (kind,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            self.refuse(f"`{key}` is {_shown(value)}, not {kind.__name__}")
        return value


def read_header(path: Path) -> Header:
    """Read and check the header of a GGUF file; BadCheckpoint with byte and reason where it makes no sense."""
    return _Reader(path, map_file(path)).header()


class _Reader:
    """A place in the file, and what may follow it."""

    def __init__(self, path: Path, data: mmap.mmap | bytes) -> None:
        self.path, self.data, self.at = path, data, 0

    def header(self) -> Header:
        if len(self.data) < 24:
            self.refuse(f"the file has {len(self.data)} bytes, less than a header")
        if self.data[:4] != MAGIC:
            self.refuse(f"the file opens with {bytes(self.data[:4])!r}, not {MAGIC!r}", hint="no GGUF file")
        self.at = 4
        version = self.scalar("<u4")
        if version not in VERSIONS:
            swapped = int.from_bytes(int(version).to_bytes(4, "little"), "big")
            order = ", in the other byte order" if swapped in VERSIONS else ""
            self.refuse(f"GGUF version {swapped if order else version}{order}, and {VERSIONS} are read")
        n_tensors, n_fields = self.scalar("<u8"), self.scalar("<u8")
        self.enough(n_tensors, 8 + 4 + 8 + 4 + 8, "tensors")
        self.enough(n_fields, 8 + 4 + 1, "keys")
        fields: dict[str, Value] = {}
        for _ in range(n_fields):
            start, key = self.at, self.string()
            if key in fields:
                self.refuse(f"the key `{key}` is there twice", at=start)
            fields[key] = self.value(key)
        named = [self.tensor() for _ in range(n_tensors)]
        return Header(self.path, self.data, fields, self.placed(named, fields))

    def tensor(self) -> tuple[str, tuple[int, ...], int, int, int]:
        start, name = self.at, self.string()
        n_dims = self.scalar("<u4")
        if not 1 <= n_dims <= MOST_DIMS:
            self.refuse(f"tensor `{_short(name)}` has {n_dims} dimensions", at=start)
        dims = tuple(self.scalar("<u8") for _ in range(n_dims))
        kind, offset = self.scalar("<u4"), self.scalar("<u8")
        return name, tuple(reversed(dims)), kind, offset, start

    def placed(
        self, named: list[tuple[str, tuple[int, ...], int, int, int]], fields: Mapping[str, Value]
    ) -> dict[str, Stored]:
        """The tensors at their places in the file, none outside it and none upon another."""
        alignment = fields.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1) or alignment > 1 << 20:
            self.refuse(f"`general.alignment` is {_shown(alignment)}, not a power of two")
        begin = -(-self.at // alignment) * alignment
        tensors: dict[str, Stored] = {}
        for name, shape, number, offset, at in named:
            if name in tensors:
                self.refuse(f"the tensor `{_short(name)}` is there twice", at=at)
            kind = next((k for k in GGML_QUANT_SIZES if k == number), None)
            if kind is None:
                self.refuse(f"tensor `{_short(name)}` is of type {number}, which is unknown", at=at)
            block, block_bytes = GGML_QUANT_SIZES[kind]
            if not all(shape) or shape[-1] % block:
                self.refuse(
                    f"tensor `{_short(name)}` of shape {shape} is not made of {kind.name} blocks of {block}", at=at
                )
            size = math.prod(shape) // block * block_bytes
            if offset % alignment or begin + offset + size > len(self.data):
                self.refuse(
                    f"tensor `{_short(name)}` of {size:,} bytes at {begin + offset:,} does not lie in the file's "
                    f"{len(self.data):,} bytes",
                    hint="the file is torn: fetch it again",
                    at=at,
                )
            tensors[name] = Stored(shape, kind, begin + offset, size)
        order = sorted(tensors.items(), key=lambda item: item[1].offset)
        for (name, one), (next_name, other) in pairwise(order):
            if one.offset + one.size > other.offset:
                self.refuse(f"the tensors `{_short(name)}` and `{_short(next_name)}` lie upon each other")
        return tensors

    def value(self, key: str) -> Value:
        start, number = self.at, self.scalar("<u4")
        if number == GGUFValueType.STRING:
            return self.string()
        if number == GGUFValueType.ARRAY:
            return self.array(key)
        dtype = SCALARS.get(number)
        if dtype is None:
            self.refuse(f"the key `{_short(key)}` is of type {number}, which is unknown", at=start)
        value: int | float = self.scalar(dtype)
        if number == GGUFValueType.BOOL:
            if value not in (0, 1):
                self.refuse(f"the key `{_short(key)}` is neither true nor false but {value}", at=start)
            return bool(value)
        return value

    def array(self, key: str) -> Value:
        start, number, count = self.at, self.scalar("<u4"), self.scalar("<u8")
        if number == GGUFValueType.STRING:
            self.enough(count, 8, f"texts of `{_short(key)}`")
            return [self.string() for _ in range(count)]
        dtype = SCALARS.get(number)
        if dtype is None:
            what = "of arrays" if number == GGUFValueType.ARRAY else f"of type {number}"
            self.refuse(f"the key `{_short(key)}` is an array {what}, which is not read", at=start)
        width = np.dtype(dtype).itemsize
        self.enough(count, width, f"numbers of `{_short(key)}`")
        numbers = np.frombuffer(self.data, dtype=dtype, count=count, offset=self.at)
        self.at += count * width
        return numbers

    def string(self) -> str:
        start, length = self.at, self.scalar("<u8")
        self.enough(length, 1, "bytes of text", at=start)
        self.at += length
        try:
            return self.data[self.at - length : self.at].decode("utf-8")
        except UnicodeDecodeError as error:
            self.refuse(f"a text of {length} bytes is not UTF-8: {error.reason}", at=start)

    def scalar(self, dtype: str) -> Any:
        layout = struct.Struct(_LAYOUT[dtype])
        if self.at + layout.size > len(self.data):
            self.refuse("the file ends inside its header", hint="it is torn: fetch it again")
        self.at += layout.size
        return layout.unpack_from(self.data, self.at - layout.size)[0]

    def enough(self, count: int, least: int, what: str, *, at: int | None = None) -> None:
        """Refuse a count that the rest of the file cannot hold."""
        left = len(self.data) - self.at
        if count * least > left:
            self.refuse(f"{count:,} {what} are announced, and {left:,} bytes are left", at=at)

    def refuse(self, what: str, *, hint: str | None = None, at: int | None = None) -> NoReturn:
        place = self.at if at is None else at
        raise BadCheckpoint(
            f"`{self.path}`, byte {place:,}: {what}", hint=hint or "the file is torn, foreign or hostile"
        )


_LAYOUT = {
    "<u1": "<B",
    "<i1": "<b",
    "<u2": "<H",
    "<i2": "<h",
    "<u4": "<I",
    "<i4": "<i",
    "<f4": "<f",
    "<u8": "<Q",
    "<i8": "<q",
    "<f8": "<d",
}  # NumPy's words to those of struct, which reads single numbers ten times as fast


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


def _shown(value: Any) -> str:
    return f"an array of {len(value)}" if isinstance(value, np.ndarray | list) else _short(repr(value))
