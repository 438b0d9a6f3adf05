"""What do the bytes of a quantised matrix mean? Each number is a small whole one times a scale it shares with its neighbours.

    int8     one scale a row                                        number = code * scale
    Q8_0     blocks of 32 with a scale                              number = code * scale
    Q4_1     blocks of 32 with a scale and a base                   number = code * scale + base
    Q4_K     blocks of 256, each 32 with a step and a base's step   number = code * step * scale - base's step * base

Every kind but `int8` is one of ggml's (github.com/ggml-org/ggml, src/ggml-common.h). A row of blocks is cut into the fields of
their structs once, as views: no byte is copied. From there on numbers are made by plain tensor operations on whole fields, which
run on any device and which a compiler turns into one loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

INT8 = "int8"


class Fields(NamedTuple):
    """The parts of a matrix's blocks, rows first: `(rows, blocks, ...)`; of `int8`, `(rows, lanes)` and `(rows,)`."""

    codes: Tensor  # the low bits of every number
    scale: Tensor | None = None
    base: Tensor | None = None  # what is added to every number of a block, or subtracted
    steps: Tensor | None = None  # whole numbers: what the groups of a block take of its scale and base
    high: Tensor | None = None  # the bits that codes have no room for


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """`numbers` of a block in `size` bytes: where its `fields` begin, with the type and count of their entries, and what they mean.

    `read` makes the numbers of all blocks in planes: the first run of every block, `(rows, blocks, ...)`, the second of every
    block .. Each is made by the same few operations from bytes that lie side by side, of which a processor does many at a time: on
    one core, compiled planes of Q4_0 were read 15 times as fast as its nibbles in their order.
    """

    numbers: int
    size: int
    fields: Mapping[str, tuple[int, torch.dtype, int]]
    read: Callable[[Fields], list[Tensor]]

    def cut(self, raw: Tensor) -> Fields:
        """The fields of raw bytes `(rows, bytes)`, in their place."""
        blocks = raw.unflatten(-1, (-1, self.size))
        return Fields(
            **{
                name: blocks[..., at : at + count * dtype.itemsize].view(dtype)
                for name, (at, dtype, count) in self.fields.items()
            }
        )


def numbers_of(kind: str, fields: Fields) -> Tensor:
    """The numbers, float32: fields of some rows to `(rows, lanes)`; any axes may stand for the rows."""
    if kind == INT8:
        return fields.codes.float() * _known(fields.scale)[..., None]
    planes, n_axes = KINDS[kind].read(fields), fields.codes.ndim - 2
    return (planes[0] if len(planes) == 1 else torch.stack(planes, dim=n_axes + 1)).flatten(n_axes)


def product_sums(kind: str, fields: Fields, x: Tensor) -> Tensor:
    """numbers x lanes, summed: fields of rows and one vector to `(rows,)`, in a form that a compiler makes one loop of."""
    if kind == INT8:  # one scale a row: it may wait until the sum is made
        return (fields.codes.to(x.dtype) * x).sum(-1) * _known(fields.scale)
    planes = KINDS[kind].read(fields)
    lanes = x.view(planes[0].shape[1], len(planes), *planes[0].shape[2:])
    terms = [plane * lanes[:, at] for at, plane in enumerate(planes)]
    return sum(terms[1:], start=terms[0]).sum(tuple(range(1, terms[0].ndim)))


def _plain(f: Fields) -> list[Tensor]:
    return [f.codes.float()]


def _q8_0(f: Fields) -> list[Tensor]:
    return [f.codes.float() * _wide(f.scale)]


def _q4_0(f: Fields) -> list[Tensor]:
    return [(half - 8.0) * _wide(f.scale) for half in _nibbles(f.codes)]


def _q4_1(f: Fields) -> list[Tensor]:
    return [half * _wide(f.scale) + _wide(f.base) for half in _nibbles(f.codes)]


def _q5_0(f: Fields) -> list[Tensor]:
    return [(half - 16.0) * _wide(f.scale) for half in _five_bits(f)]


def _q5_1(f: Fields) -> list[Tensor]:
    return [half * _wide(f.scale) + _wide(f.base) for half in _five_bits(f)]


def _q2_k(f: Fields) -> list[Tensor]:
    """Runs of 32: four out of the first 32 bytes, two bits each, four out of the other 32; steps for 16 numbers."""
    steps = _known(f.steps)
    return [
        _halved(f.codes[..., 32 * (run // 4) :][..., :32] >> 2 * (run % 4) & 3) * _grouped(f.scale, steps & 15, run)
        - _grouped(f.base, steps >> 4, run)
        for run in range(8)
    ]


def _q3_k(f: Fields) -> list[Tensor]:
    """As Q2_K, with a third bit: where it is not set, 4 less. Steps have 4 low bits in 8 bytes and 2 high ones in 4."""
    packed, high = _known(f.steps), _known(f.high)
    low_bits = torch.cat((packed[..., :8] & 15, packed[..., :8] >> 4), dim=-1)
    high_bits = torch.cat([packed[..., 8:] >> shift & 3 for shift in (0, 2, 4, 6)], dim=-1)
    steps = low_bits.float() + 16.0 * high_bits.float() - 32.0
    return [
        _halved(
            (f.codes[..., 32 * (run // 4) :][..., :32] >> 2 * (run % 4) & 3).float() + 4.0 * (high >> run & 1) - 4.0
        )
        * _grouped(f.scale, steps, run)
        for run in range(8)
    ]


def _q4_k(f: Fields) -> list[Tensor]:
    """Runs of 32: the low halves of 32 bytes, then the high ones, four times; a step and a base's step for each."""
    slopes, bases = _slopes_and_bases(f)
    return [_nibble(f.codes, run) * slopes[run] - bases[run] for run in range(8)]


def _q5_k(f: Fields) -> list[Tensor]:
    """As Q4_K, with a fifth bit: that of number l in run g is bit g of byte l."""
    slopes, bases = _slopes_and_bases(f)
    fifth = [16.0 * (_known(f.high) >> run & 1).float() for run in range(8)]
    return [(_nibble(f.codes, run) + fifth[run]) * slopes[run] - bases[run] for run in range(8)]


def _q6_k(f: Fields) -> list[Tensor]:
    """Halves of 128: 64 bytes hold the low bits of two runs and, in their high halves, of two more; 32 bytes all the high bits."""
    planes = []
    for half in range(2):
        for run in range(4):
            low = f.codes[..., 64 * half + 32 * (run % 2) :][..., :32] >> 4 * (run // 2) & 15
            high = _known(f.high)[..., 32 * half :][..., :32] >> 2 * run & 3
            codes = low.float() + 16.0 * high.float() - 32.0
            planes.append(_halved(codes) * _grouped(f.scale, _known(f.steps), 4 * half + run))
    return planes


def _known(field: Tensor | None) -> Tensor:
    assert field is not None  # the table says which fields a kind has
    return field


def _wide(field: Tensor | None) -> Tensor:
    return _known(field).float()


def _nibbles(bytes_: Tensor) -> list[Tensor]:
    """The low half of every byte, then the high half of every byte."""
    return [(bytes_ & 15).float(), (bytes_ >> 4).float()]


def _nibble(bytes_: Tensor, run: int) -> Tensor:
    """Of 128 bytes, the halves that make one run of 32."""
    return (bytes_[..., 32 * (run // 2) :][..., :32] >> 4 * (run % 2) & 15).float()


def _five_bits(f: Fields) -> list[Tensor]:
    """Nibbles and, from 32 bits of their own, a fifth bit for each: byte by byte, the lowest bit first."""
    by = torch.arange(8, dtype=torch.uint8, device=f.codes.device)
    fifth = ((_known(f.high)[..., None] >> by) & 1).flatten(-2).float()
    return [half + 16.0 * fifth[..., 16 * at :][..., :16] for at, half in enumerate(_nibbles(f.codes))]


def _halved(run: Tensor) -> Tensor:
    """A run of 32 as the two groups of 16 that have steps of their own."""
    return run.float().unflatten(-1, (2, 16))


def _grouped(scale: Tensor | None, steps: Tensor, run: int) -> Tensor:
    """The two steps of a run in the scale's measure."""
    return (_wide(scale) * steps[..., 2 * run : 2 * run + 2].float())[..., None]


def _slopes_and_bases(f: Fields) -> tuple[list[Tensor], list[Tensor]]:
    """8 steps and 8 bases of 6 bits in 12 bytes `a b c`, four of each: the first four are the low bits of `a` and `b`, the last
    four halves of `c` with the two bits left over in `a` and `b`."""
    a, b, c = (_known(f.steps)[..., 4 * part : 4 * part + 4] for part in range(3))
    late_steps, late_bases = (c & 15) | (a >> 2 & 48), (c >> 4) | (b >> 2 & 48)
    slopes = [_wide(f.scale) * some[..., at : at + 1].float() for some in (a & 63, late_steps) for at in range(4)]
    bases = [_wide(f.base) * some[..., at : at + 1].float() for some in (b & 63, late_bases) for at in range(4)]
    return slopes, bases


def _fields(**parts: tuple[int, torch.dtype, int]) -> Mapping[str, tuple[int, torch.dtype, int]]:
    return parts


_U8, _I8, _F16, _F32 = torch.uint8, torch.int8, torch.float16, torch.float32

KINDS: dict[str, Kind] = {
    "F32": Kind(numbers=1, size=4, fields=_fields(codes=(0, _F32, 1)), read=_plain),
    "F16": Kind(numbers=1, size=2, fields=_fields(codes=(0, _F16, 1)), read=_plain),
    "BF16": Kind(numbers=1, size=2, fields=_fields(codes=(0, torch.bfloat16, 1)), read=_plain),
    "Q8_0": Kind(numbers=32, size=34, fields=_fields(scale=(0, _F16, 1), codes=(2, _I8, 32)), read=_q8_0),
    "Q4_0": Kind(numbers=32, size=18, fields=_fields(scale=(0, _F16, 1), codes=(2, _U8, 16)), read=_q4_0),
    "Q4_1": Kind(
        numbers=32, size=20, fields=_fields(scale=(0, _F16, 1), base=(2, _F16, 1), codes=(4, _U8, 16)), read=_q4_1
    ),
    "Q5_0": Kind(
        numbers=32, size=22, fields=_fields(scale=(0, _F16, 1), high=(2, _U8, 4), codes=(6, _U8, 16)), read=_q5_0
    ),
    "Q5_1": Kind(
        numbers=32,
        size=24,
        fields=_fields(scale=(0, _F16, 1), base=(2, _F16, 1), high=(4, _U8, 4), codes=(8, _U8, 16)),
        read=_q5_1,
    ),
    "Q2_K": Kind(
        numbers=256,
        size=84,
        fields=_fields(steps=(0, _U8, 16), codes=(16, _U8, 64), scale=(80, _F16, 1), base=(82, _F16, 1)),
        read=_q2_k,
    ),
    "Q3_K": Kind(
        numbers=256,
        size=110,
        fields=_fields(high=(0, _U8, 32), codes=(32, _U8, 64), steps=(96, _U8, 12), scale=(108, _F16, 1)),
        read=_q3_k,
    ),
    "Q4_K": Kind(
        numbers=256,
        size=144,
        fields=_fields(scale=(0, _F16, 1), base=(2, _F16, 1), steps=(4, _U8, 12), codes=(16, _U8, 128)),
        read=_q4_k,
    ),
    "Q5_K": Kind(
        numbers=256,
        size=176,
        fields=_fields(
            scale=(0, _F16, 1), base=(2, _F16, 1), steps=(4, _U8, 12), high=(16, _U8, 32), codes=(48, _U8, 128)
        ),
        read=_q5_k,
    ),
    "Q6_K": Kind(
        numbers=256,
        size=210,
        fields=_fields(codes=(0, _U8, 128), high=(128, _U8, 64), steps=(192, _I8, 16), scale=(208, _F16, 1)),
        read=_q6_k,
    ),
}
"""ggml's types by its own names: numbers and bytes of a block, and where each field of its struct begins."""
