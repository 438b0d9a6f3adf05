"""Is a safetensors file what it says? Looked at before the library opens it, for an error that names the byte and the reason.
github.com/huggingface/safetensors, "Format".

    8 bytes: length of the header | {"name": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}, ...} | numbers

The library checks the same and stops at the same files; it does not say where, it takes a name that is there twice as there once,
and a pickle under this name is to it a header that is too long.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from picolab.errors import BadCheckpoint

LENGTH = 8
LONGEST = 100_000_000
"""Bytes of a header that the library reads."""

MOST_DIMS = 64
"""Axes that a tensor can have in torch."""

PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How torch.save's archives and bare pickles begin; as the length of a header each would be absurd."""

BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}


def check_safetensors(path: Path) -> None:
    """Refuse a file whose header makes no sense; what it claims is held against the file's size before anything is made of it."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            opening = file.read(LENGTH)
            length = int.from_bytes(opening, "little")
            if opening.startswith(PICKLES):
                _refuse(path, 0, "the file is a pickle, which can run code and is not opened here")
            if len(opening) < LENGTH or length > min(size - LENGTH, LONGEST):
                _refuse(path, 0, f"a header of {length:,} bytes is announced, and {max(size - LENGTH, 0):,} are left")
            header = file.read(length)
    except FileNotFoundError as error:
        raise BadCheckpoint(f"there is no `{path}`", hint="a part of the checkpoint is missing") from error
    except OSError as error:
        raise BadCheckpoint(f"`{path}` cannot be read: {error.strerror}") from error
    _check_tensors(path, header, size - LENGTH - length)


def _check_tensors(path: Path, header: bytes, left: int) -> None:
    places: list[tuple[int, int, str]] = []
    for name, said in _parsed(path, header).items():
        if name == "__metadata__":
            continue
        wrong = _wrong(said, left)
        if wrong is not None:
            at = LENGTH + max(header.find(json.dumps(name).encode()), 0)
            _refuse(path, at, f"tensor `{name[:60]}` {wrong}")
        places.append((*said["data_offsets"], name))
    for (_, end, name), (start, _, other) in pairwise(sorted(places)):
        if start < end:
            _refuse(
                path, LENGTH + len(header) + start, f"the tensors `{name[:60]}` and `{other[:60]}` lie upon each other"
            )


def _wrong(said: Any, left: int) -> str | None:
    """What is wrong with the description of a tensor, of which `left` bytes of numbers may be had."""
    if not isinstance(said, dict):
        return f"is {str(said)[:40]!r}, not a description"
    kind, shape, offsets = said.get("dtype"), said.get("shape"), said.get("data_offsets")
    if not isinstance(kind, str) or kind not in BITS:
        return f"is of type {str(kind)[:40]!r}, which is unknown"
    if not _are_counts(shape):
        return f"has the shape {str(shape)[:60]}"
    if not _are_counts(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= left:
        return f"lies at {str(offsets)[:60]} of the {left:,} bytes after the header"
    if math.prod(shape) * BITS[kind] != 8 * (offsets[1] - offsets[0]):
        return f"of shape {str(shape)[:60]} does not fill {offsets[1] - offsets[0]:,} bytes"
    return None


def _parsed(path: Path, header: bytes) -> dict[str, Any]:
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                twice.append(name)
            found[name] = value
        return found

    try:
        content = json.loads(header.decode("utf-8"), object_pairs_hook=once)
    except UnicodeDecodeError as error:
        _refuse(path, LENGTH + error.start, "the header is not UTF-8")
    except json.JSONDecodeError as error:
        _refuse(path, LENGTH + len(error.doc[: error.pos].encode()), f"the header is not JSON: {error.msg}")
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets within brackets without end
        _refuse(path, LENGTH, "the header is not JSON that a safetensors file has")
    if twice:
        _refuse(path, LENGTH + header.rfind(json.dumps(twice[0]).encode()), f"`{twice[0][:60]}` is there twice")
    if not isinstance(content, dict):
        _refuse(path, LENGTH, f"the header is a {type(content).__name__}, not names with tensors")
    return content


def _are_counts(values: Any) -> TypeGuard[list[int]]:
    """Whether it is a short list of numbers that a size could be: their product must cost nothing either."""
    return (
        isinstance(values, list)
        and len(values) <= MOST_DIMS
        and all(type(value) is int and 0 <= value < 1 << 63 for value in values)
    )


def _refuse(path: Path, at: int, what: str) -> NoReturn:
    raise BadCheckpoint(f"`{path}`, byte {at:,}: {what}", hint="the file is torn, foreign or hostile")
