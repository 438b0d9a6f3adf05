"""Which tokens are counted together? The target and some before it, named by how far back each stands.

    text      t0  t1  t2  t3  t4        order n: how many neighbours make the context; skip s: how many tokens lie between it
                                        and the target
    n1-s0         [t3] -> t4            back = (1,)
    n1-s2     [t1] ..  -> t4            back = (3,)
    n2-s1     [t1 t2] . -> t4           back = (3, 2)
    3,1       [t1] . [t3] -> t4         back = (3, 1): a context with a gap, for the information a far token adds to the nearest

A context and its target are one number, base `vocab_size`, so that a table is a sorted array and needs no text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from picolab.errors import BadSetting

MAX_ORDER, MAX_SKIP = 3, 8


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """`back` are distances from the target to the tokens of the context, the oldest first."""

    back: tuple[int, ...]

    def __post_init__(self) -> None:
        good = 1 <= len(self.back) <= MAX_ORDER and all(a > b for a, b in zip(self.back, self.back[1:], strict=False))
        if not good or not 1 <= self.back[-1] <= self.back[0] <= MAX_ORDER + MAX_SKIP:
            raise BadSetting(
                f"{self.back} are no distances of a context",
                hint=f"1 to {MAX_ORDER} falling distances from 1 to {MAX_ORDER + MAX_SKIP}",
            )

    @classmethod
    def of(cls, n: int, s: int) -> Shape:
        """`n` neighbours with `s` tokens between them and the target."""
        if not 1 <= n <= MAX_ORDER or not 0 <= s <= MAX_SKIP:
            raise BadSetting(
                f"order {n} and skip {s} are not counted here",
                hint=f"order 1 to {MAX_ORDER}, skip 0 to {MAX_SKIP}",
            )
        return cls(tuple(range(n + s, s, -1)))

    @classmethod
    def named(cls, name: str) -> Shape:
        """`n2-s1`, or distances: `3,1`."""
        if found := re.fullmatch(r"n(\d+)-s(\d+)", name):
            return cls.of(int(found[1]), int(found[2]))
        if re.fullmatch(r"\d+(,\d+)*", name):
            return cls(tuple(int(part) for part in name.split(",")))
        raise BadSetting(f"`{name}` is no table of counts", hint="n1-s0, n2-s3, or distances such as 3,1")

    @property
    def name(self) -> str:
        n, s = len(self.back), self.back[-1] - 1
        return f"n{n}-s{s}" if self == Shape.of(n, min(s, MAX_SKIP)) else ",".join(map(str, self.back))

    @property
    def width(self) -> int:
        """Tokens of text that a count spans, the target included."""
        return self.back[0] + 1

    def check(self, vocab_size: int) -> None:
        """A context and its target must fit a 64-bit number."""
        if vocab_size ** (len(self.back) + 1) > 2**63 - 1:
            raise BadSetting(
                f"{len(self.back) + 1} tokens of {vocab_size} have {float(vocab_size) ** (len(self.back) + 1):.1e} combinations, "
                f"more than 64 bits can number",
                hint="a smaller order or vocabulary",
            )

    def codes(self, ids: NDArray[np.integer], vocab_size: int) -> NDArray[np.int64]:
        """The number of every window of the stream, in its order."""
        count = len(ids) - self.back[0]
        code = np.zeros(max(count, 0), np.int64)
        for back in (*self.back, 0):
            start = self.back[0] - back
            code *= vocab_size
            code += ids[start : start + count]
        return code
