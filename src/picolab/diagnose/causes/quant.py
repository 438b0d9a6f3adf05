"""Quantised weights taken apart the wrong way: `quant-unpack`.

    a block of 32 weights, two in a byte     byte j holds weights j and j + 16, four bits each
    order      read as 2 j and 2 j + 1, or high for low      the right weights in other columns
    zero       q for q - 8                                    every weight of the block higher by the same: by minus its extreme
    zero       q d for q d + min                              every weight lower by the block's least
    one off    zero points stored less one                    every weight one step of the block higher or lower

What comes out is compared with what each mistake would give; blocks of 32, 64 and 128, and whole rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.cause import Bend, Case, close
from picolab.diagnose.causes.weights import At, LinearCause, finish, outcome
from picolab.diagnose.walk import Pass

Way = Literal["halves for neighbours", "neighbours for halves", "nibbles exchanged", "neighbours exchanged",
              "zero of 8 missing", "least missing", "one step higher", "one step lower"]  # fmt: skip

BLOCKS = (32, 64, 128)
STEPS = 15
"""Steps from the least to the greatest of four bits."""


@dataclass(frozen=True, kw_only=True)
class QuantUnpack(At):
    """The weights of `of`, taken apart in blocks of `block` columns in this wrong `way`."""

    cause = "quant-unpack"
    way: Way
    block: int

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        line = at.line(site)
        assert line.weight is not None
        return finish(outcome(at.read(site), line, misread(line.weight, self.way, self.block)), value, at, site)

    def says(self) -> str:
        return f"the weights of {self.of} are unpacked wrongly in blocks of {self.block}: {self.way}"

    @property
    def evidence(self) -> dict[str, Any]:
        return {"line": self.of, "way": self.way, "block": self.block}


class QuantUnpackCause(LinearCause):
    name = "quant-unpack"
    says = "quantised weights are unpacked in another order or without their zero point"
    look_for = "which nibble comes first, which weights share a byte, `q - 8`, the zero point and whether it is stored less one"

    def propose(self, case: Case) -> Iterable[Bend]:
        for of in self.lines(case):
            sight = next((s for s in case.sights([of]) if s.target is not None), None)
            if sight is None or sight.line.weight is None:
                continue
            for block in _blocks(sight.line.weight):
                for way in get_args(Way):
                    wrong = outcome(sight.input(), sight.line, misread(sight.line.weight, way, block))
                    assert sight.target is not None
                    if close(finish(wrong, sight.made, sight.at, sight.key.site), flat_like(sight.target, sight.made)):
                        yield QuantUnpack(of=of, way=way, block=block, layers=case.layers([of]), phases=case.phases)

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        line = anatomy.lines.get("blocks.0.mlp.down")
        if line is None or line.weight is None or not _blocks(line.weight):
            return []
        block = _blocks(line.weight)[0]
        return [QuantUnpack(of="mlp.down", way=way, block=block) for way in ("nibbles exchanged", "zero of 8 missing")]


def flat_like(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(like.shape)


def misread(weight: Tensor, way: Way, block: int) -> Tensor:
    """`(rows, columns)` weights as they come out when every block of columns is unpacked this way; what fills no block stays."""
    whole = weight.shape[1] // block * block
    blocks = weight[:, :whole].unflatten(1, (-1, block))
    half = block // 2
    if way == "halves for neighbours":
        wrong = blocks.unflatten(-1, (2, half)).transpose(-1, -2).flatten(-2)
    elif way == "neighbours for halves":
        wrong = blocks.unflatten(-1, (half, 2)).transpose(-1, -2).flatten(-2)
    elif way == "nibbles exchanged":
        wrong = blocks.roll(half, -1)
    elif way == "neighbours exchanged":
        wrong = blocks.unflatten(-1, (half, 2)).flip(-1).flatten(-2)
    elif way == "zero of 8 missing":
        wrong = blocks - blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    elif way == "least missing":
        wrong = blocks - blocks.amin(-1, keepdim=True)
    else:
        step = (blocks.amax(-1, keepdim=True) - blocks.amin(-1, keepdim=True)) / STEPS
        wrong = blocks + step if way == "one step higher" else blocks - step
    return torch.cat((wrong.flatten(1), weight[:, whole:]), dim=1)


def _blocks(weight: Tensor) -> list[int]:
    columns = weight.shape[1]
    return [
        *(block for block in BLOCKS if columns % block == 0),
        *([columns] if columns % 2 == 0 and columns not in BLOCKS else []),
    ]
