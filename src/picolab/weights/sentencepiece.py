"""A SentencePiece model file, read without its library: pieces with scores and kinds, and the few settings that change ids.
github.com/google/sentencepiece, sentencepiece_model.proto.

    field 1 (repeated)   piece: text 1, score 2, kind 3
    field 2              trainer: model_type 3 (2 is byte-pair encoding), unk_id 40, bos_id 41, eos_id 42, pad_id 43
    field 3              normalizer: charsmap 2, add_dummy_prefix 3, remove_extra_whitespaces 4, escape_whitespaces 5

Protocol buffers are numbered fields one after another; a number is written seven bits at a time, a text says its length first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from picolab.errors import BadCheckpoint
from picolab.text.spm import Kind, Pieces, spm_tokenizer
from picolab.text.tokenizer import Tokenizer
from picolab.weights.mapped import map_file

BYTE_PAIRS = 2
Field = tuple[int, int | bytes]


def read_sentencepiece(path: Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.model`; only byte-pair encoding without normalisation is read."""
    data = bytes(map_file(path))
    texts: list[str] = []
    scores: list[float] = []
    kinds: list[Kind] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    try:
        for number, value in _fields(data):
            if number == 1:
                piece = dict(_fields(_bytes(value)))
                texts.append(_bytes(piece.get(1, b"")).decode("utf-8"))
                scores.append(struct.unpack("<f", _bytes(piece.get(2, bytes(4))))[0])
                kinds.append(_kind(piece.get(3, Kind.NORMAL)))
            elif number == 2:
                trainer = dict(_fields(_bytes(value)))
            elif number == 3:
                normalizer = dict(_fields(_bytes(value)))
    except (ValueError, struct.error) as error:
        raise BadCheckpoint(
            f"`{path}` is no SentencePiece model: {error}", hint="the file is torn or foreign"
        ) from error
    if trainer.get(3, 1) != BYTE_PAIRS:
        raise BadCheckpoint(
            f"`{path}` is no byte-pair encoding", hint="SentencePiece's unigram models are not read here"
        )
    if normalizer.get(2, b"") or not normalizer.get(5, 1):
        raise BadCheckpoint(f"`{path}` changes the text before it is encoded, which is not computed here")
    bos, eos, pad = (_id(trainer.get(field, default), len(texts)) for field, default in ((41, 1), (42, 2), (43, -1)))
    if eos is None:
        raise BadCheckpoint(f"`{path}` has no token that ends a text")
    try:
        pieces = Pieces(
            texts=texts,
            scores=scores,
            kinds=kinds,
            space_first=bool(normalizer.get(3, 1)),
            one_space=bool(normalizer.get(4, 1)),
        )
        return spm_tokenizer(pieces, eot=eos, bos=bos, pad=pad)
    except BadCheckpoint as error:
        raise BadCheckpoint(f"`{path}`: {error}", hint=error.hint) from error


def _fields(data: bytes) -> Iterator[Field]:
    """The numbered fields of a message, ValueError where it breaks off."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"a field of the unknown kind {wire}")
        length = {1: 8, 5: 4}.get(wire, 0)
        if wire == 2:
            length, at = _varint(data, at)
        if length > len(data) - at:
            raise ValueError(f"a field of {length} bytes where {len(data) - at} are left")
        yield number, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("it breaks off inside a number")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    raise ValueError("a number does not end")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where a text belongs")
    return value


def _kind(value: int | bytes) -> Kind:
    if not isinstance(value, int):
        raise ValueError("a text where the kind of a piece belongs")
    return Kind(value)


def _id(value: int | bytes, count: int) -> int | None:
    """A token's id; SentencePiece writes -1, in 64 bits, for one that does not exist."""
    return value if isinstance(value, int) and 0 <= value < count else None
