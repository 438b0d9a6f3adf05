"""How is an array of a foreign bundle opened without believing it? The name stays in the folder, the header is read, not the data.

name -> a plain file inside the folder -> header (type, shape) == the file's size -> numbers, when somebody asks for them
"""

from __future__ import annotations

import ast
import math
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from picolab.errors import BadData

MAGIC, LONGEST_HEADER = b"\x93NUMPY", 10_000
LENGTHS = {(1, 0): "<H", (2, 0): "<I", (3, 0): "<I"}
"""Version of the npy format -> how it writes the length of its header."""

READ: dict[str, str] = {name: name for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1")} | {
    "u2": "i4",
    "u4": "i8",
}
"""Types of number -> as what they are read: torch knows few without a sign."""


def reason(error: Exception) -> str:
    """Why, in a line, without the name that is said already."""
    lines = str(getattr(error, "strerror", None) or error).splitlines()
    return lines[0][:200] if lines else type(error).__name__


def save_npy(path: Path, value: Tensor) -> None:
    """Write one tensor."""
    value = value.detach().cpu()
    # numpy has no bfloat16; float32 holds each of its numbers exactly.
    array = (value.float() if value.dtype == torch.bfloat16 else value).contiguous().numpy()
    np.save(path, array, allow_pickle=False)


def place_in(folder: Path, name: str) -> Path:
    """The plain file of this name in a folder; `BadData` where there is none, or it lies elsewhere."""
    path = folder / name
    try:
        outside = Path(name).is_absolute() or not path.resolve().is_relative_to(folder.resolve())
        plain = outside or stat.S_ISREG(path.stat().st_mode)  # not a pipe, which would keep us waiting
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadData(
            f"`{path}` is missing, and the bundle names it",
            hint="arrays lie beside trace.json, one a file or all in tensors.safetensors: was a file left behind?",
        ) from error
    except (ValueError, OSError, RuntimeError) as error:  # a name no file can have, a link that leads to itself
        raise BadData(f"`{name!r:.80}` in `{folder}` cannot be opened: {reason(error)}") from error
    if outside:
        raise BadData(f"`{name:.80}` is outside the bundle `{folder}`", hint="arrays lie in the bundle's own folder")
    if not plain:
        raise BadData(f"`{path}` is no plain file")
    return path


def open_npy(folder: Path, name: str) -> tuple[tuple[int, ...], Callable[[], Tensor]]:
    """The shape of an array, and how to read it."""
    path = place_in(folder, name)
    try:
        with path.open("rb") as file:
            dtype, shape = _header(file)
            size = path.stat().st_size - file.tell()
    except (ValueError, OSError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise BadData(f"`{path}` is no array: {reason(error)}", hint="numpy.save writes what is read here") from error
    if dtype.str[1:] not in READ:
        raise BadData(f"`{path}` does not hold plain numbers but {dtype!s:.80}", hint="float32 is always read")
    if size != math.prod(shape) * dtype.itemsize:
        raise BadData(
            f"`{path}` says its shape is {shape!s:.80} and holds {size} bytes", hint="was it written to the end?"
        )
    return shape, reader(path)


def _header(file: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape. numpy's own parser retries what it cannot read as Python 2 would have written it, and stumbles there."""
    magic, version = file.read(6), tuple(file.read(2))
    if magic != MAGIC or version not in LENGTHS:
        raise ValueError(f"it begins with {magic + bytes(version)!r}")
    width = struct.calcsize(LENGTHS[version])
    (length,) = struct.unpack(LENGTHS[version], file.read(width).ljust(width, b"\0"))
    if length > LONGEST_HEADER:
        raise ValueError(f"its header is {length} bytes long")
    header = ast.literal_eval(file.read(length).decode("latin1").strip())
    if not isinstance(header, dict) or header.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header lacks `descr`, `fortran_order` or `shape`")
    shape = header["shape"]
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape) or len(shape) > 32:
        raise ValueError(f"its shape is {shape!s:.80}")
    if not isinstance(header["descr"], str) or type(header["fortran_order"]) is not bool:
        raise ValueError("it does not hold plain numbers")
    return np.dtype(header["descr"]), shape


def reader(path: Path) -> Callable[[], Tensor]:
    """A function that reads the numbers."""

    def read() -> Tensor:
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise BadData(f"`{path}` can no longer be read: {reason(error)}") from error
        return torch.from_numpy(array.astype(READ[array.dtype.str[1:]], order="C", copy=False))

    return read
