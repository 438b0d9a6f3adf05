"""Where are the logits in what somebody's model returns, and which axis is which? Asked of the shapes, not of the code.

    tokens (2, 3)  ->  (2, 3, 50)            batch, time, vocab                as it is
                       (3, 2, 50)            time, batch, vocab                turned
                       (logits, loss)        the one of several that fits
                       .logits  ["logits"]   by name
                       (2, 1, 50)  (2, 50)   after the last token only         texts are then read prefix by prefix

Sizes that could be either are asked again with another number of texts and tokens. A model that reads one text at a time is asked
so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from picolab.errors import BadInput

Ask = Callable[[Tensor], Any]
"""Tokens `(batch, time)` to whatever the model returns."""

SIZES = ((2, 3), (3, 5))
"""Texts and tokens of the two questions."""

NAME = "logits"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where the logits are: the way to them through what is returned, and which axes are batch, time and vocab; -1 where an axis
    is not there. With `last_only` there are logits of the last token only."""

    way: tuple[str | int, ...]
    axes: tuple[int, int, int]
    last_only: bool
    vocab_size: int

    def logits(self, returned: Any) -> Tensor:
        """Float32 logits `(time, vocab)` of the one text in the batch; one row where `last_only`."""
        value, order = self._found(returned)
        value = value.permute(order).reshape(-1, value.shape[self.axes[2]])
        return value.detach().to("cpu", torch.float32)

    def batch(self, returned: Any, batch: int) -> Tensor:
        """Logits `(batch, time, vocab)` as the model made them, with their gradient; one position where `last_only`."""
        value, order = self._found(returned)
        value = value.permute(order)
        return value.reshape(batch, -1, value.shape[-1])

    @property
    def told(self) -> str | None:
        """Where the logits are, in words; None where they are all that is returned, batch first."""
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.way)
        turned = self.axes[0] > self.axes[1] >= 0
        last = "of the last token only" if self.last_only else ""
        words = [f"as `{place}`" if place else "", "as (time, batch, vocab)" if turned else "", last]
        return " ".join(word for word in words if word) or None

    def _found(self, returned: Any) -> tuple[Tensor, list[int]]:
        value = _tensor(_followed(returned, self.way))
        if value is None:
            raise BadInput("what the model returns has no logits where they were before", hint=_HINT)
        order = [axis for axis in self.axes if axis >= 0]
        if value.ndim != len(order):
            raise BadInput(f"the model's logits have the shape {tuple(value.shape)}, and had {len(order)} axes before")
        return value, order


def find_layout(ask: Ask, vocab_size: int | None, *, one_text: bool = False) -> Layout:
    """Ask a model with two small batches where its logits are."""
    options: list[Layout] | None = None
    shapes: list[str] = []
    for batch, time in ((1, time) if one_text else (batch, time) for batch, time in SIZES):
        returned = ask(torch.zeros((batch, time), dtype=torch.int64))
        values = [(way, value) for way, value in _values(returned) if value.is_floating_point()]
        if any(value.is_meta for _, value in values):
            raise BadInput("what the model returns lies on the device `meta`, where shapes have no numbers", hint=_HINT)
        shapes = [str(tuple(value.shape)) for _, value in values]
        fitting = [layout for way, value in values for layout in _layouts(way, value, batch, time)]
        options = fitting if options is None else [layout for layout in options if layout in fitting]
    assert options is not None
    chosen = _chosen(options, vocab_size)
    if len(chosen) == 1:
        return chosen[0]
    asked = f"{1 if one_text else SIZES[-1][0]} x {SIZES[-1][1]} tokens"
    if not chosen:
        raise BadInput(
            f"no logits are found in what it returns for {asked}: {', '.join(shapes) or 'no numbers'}", hint=_HINT
        )
    raise BadInput(f"several things in what it returns for {asked} could be logits: {', '.join(shapes)}", hint=_HINT)


_HINT = "return logits (batch, time, vocab), alone or as `.logits`"


def _chosen(options: Sequence[Layout], vocab_size: int | None) -> list[Layout]:
    """The better ones: all positions before the last only, the vocabulary that is expected, what is called logits."""
    for better in (
        lambda layout: layout.vocab_size == vocab_size,
        lambda layout: NAME in layout.way,
        lambda layout: not layout.last_only,
    ):
        kept = [layout for layout in options if better(layout)]
        options = kept or options
    if len({layout.way for layout in options}) == 1:
        # One text: whether batch or time comes first in (1, 1, vocab) changes nothing.
        return list(options)[:1]
    return list(options)


def _layouts(way: tuple[str | int, ...], value: Tensor, batch: int, time: int) -> Iterator[Layout]:
    """Every reading of a tensor's axes that these sizes allow."""
    for axes in product(range(-1, value.ndim), repeat=3):
        if sorted(axis for axis in axes if axis >= 0) != list(range(value.ndim)) or axes[2] < 0:
            continue
        sizes = [1 if axis < 0 else value.shape[axis] for axis in axes]
        if sizes[0] == batch and sizes[1] in (1, time):
            yield Layout(way=way, axes=(axes[0], axes[1], axes[2]), last_only=sizes[1] == 1, vocab_size=sizes[2])


def _values(returned: Any, way: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Tensor]]:
    """Every tensor in what was returned, with the way to it."""
    value = _tensor(returned)
    if value is not None:
        yield way, value
    elif isinstance(returned, Mapping):
        for name, inner in returned.items():
            yield from _values(inner, (*way, str(name)))
    elif isinstance(returned, list | tuple) and not hasattr(returned, NAME):
        for number, inner in enumerate(returned):
            yield from _values(inner, (*way, number))
    elif hasattr(returned, NAME):
        yield from _values(getattr(returned, NAME), (*way, NAME))


def _followed(returned: Any, way: Sequence[str | int]) -> Any:
    for step in way:
        if isinstance(step, int):
            returned = returned[step] if isinstance(returned, list | tuple) and step < len(returned) else None
        else:
            returned = returned.get(step) if isinstance(returned, Mapping) else getattr(returned, step, None)
    return returned


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    return torch.from_numpy(value) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else None
