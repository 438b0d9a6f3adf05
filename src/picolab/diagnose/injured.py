"""A model that makes mistakes on purpose, so that what finds mistakes can itself be examined.

with injured(model, [RopePairing()]):      the model's own code runs; at the wrong line's place the wrong value flows on
    doctor, a trainer, anybody             whoever listens to the model sees what the wrong line makes

injured_recording(anatomy, schedule, [RopePairing()])      what an engine with this mistake would have written down
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.walk import Fault, Key, Pass, Schedule, walk
from picolab.models.contract import LanguageModel
from picolab.parts.tap import listening
from picolab.trace.recording import DECODE, PREFILL, Entry, Recording


@contextmanager
def injured(model: LanguageModel, faults: Sequence[Fault]) -> Iterator[None]:
    """While open, the model makes these mistakes in every pass, with and without a cache; so do copies that are made of it.

    Rows of a batch are read one after the other where there is no cache: a fault looks at one text at a time.
    """
    hurt = _Injured(model, tuple(faults), listens=True)
    model.__dict__.update(forward=hurt.forward, features=hurt.features)
    try:
        with listening(model, hurt.see):  # before anybody else: others shall see what the wrong line makes
            yield
    finally:
        del model.__dict__["forward"], model.__dict__["features"]


class _Injured:
    """Stands before a model's own methods, and knows which pass runs."""

    def __init__(self, model: LanguageModel, faults: tuple[Fault, ...], *, listens: bool = False) -> None:
        self.model, self.faults, self.listens = model, faults, listens
        self.read: WeakKeyDictionary[Any, list[Pass]] = WeakKeyDictionary()
        self.now: Pass | None = None
        self.asks = False
        self.seen: tuple[object, ...] = ()
        self.lines: Anatomy | None = None
        if listens:
            self.anatomy()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Injured:
        """Of the copy of the model, which is just being made."""
        return _Injured(memo.get(id(self.model), self.model), self.faults)

    def forward(self, tokens: Tensor, *, cache: Any = None, documents: Any = None) -> Tensor:
        if self.asks:
            return type(self.model).forward(self.model, tokens, cache=cache, documents=documents)
        return self._row_by_row(type(self.model).forward, tokens, cache, documents)

    def features(self, tokens: Tensor, *, cache: Any = None, documents: Any = None) -> Tensor:
        if self.asks:
            return type(self.model).features(self.model, tokens, cache=cache, documents=documents)
        return self._row_by_row(self._pass, tokens, cache, documents)

    def _row_by_row(self, call: Callable[..., Tensor], tokens: Tensor, cache: Any, documents: Any) -> Tensor:
        with self._heard():
            if cache is not None or tokens.shape[0] == 1:
                return call(self.model, tokens, cache=cache, documents=documents)
            rows = [slice(i, i + 1) for i in range(tokens.shape[0])]
            return torch.cat(
                [call(self.model, tokens[r], documents=None if documents is None else documents[r]) for r in rows]
            )

    def _pass(self, model: LanguageModel, tokens: Tensor, *, cache: Any = None, documents: Any = None) -> Tensor:
        earlier = [] if cache is None else self.read.setdefault(cache, [])
        start = 0 if cache is None else int(cache.length)
        text = (*(token for one in earlier for token in _own(one)), *tokens[0].tolist())
        self.now = Pass(
            self.anatomy(),
            DECODE if start else PREFILL,
            max(len(earlier) - 1, 0),
            tuple(range(start, start + tokens.shape[1])),
            text,
            earlier=tuple(earlier),
        )
        made = type(model).features(model, tokens, cache=cache, documents=documents)
        if cache is not None:
            earlier.append(self.now)
        return made

    def anatomy(self) -> Anatomy:
        """The model's lines; looked up again where its parameters have moved. Looking runs the model, unhurt."""
        stand = tuple((p.data_ptr(), p.dtype) for p in self.model.parameters())
        if self.lines is None or stand != self.seen:
            self.asks = True
            try:
                self.lines, self.seen = Anatomy(self.model), stand
            finally:
                self.asks = False
        return self.lines

    def see(self, site: str, value: Tensor) -> Tensor:
        at = self.now
        assert at is not None
        for fault in self.faults:
            if fault.applies(site, at):
                value = fault.bend(site, value, at)
        at.flowed[site] = value
        return value

    @contextmanager
    def _heard(self) -> Iterator[None]:
        if self.listens:
            yield
            return
        self.listens = True
        try:
            with listening(self.model, self.see):
                yield
        finally:
            self.listens = False


def _own(one: Pass) -> tuple[int, ...]:
    """The tokens that this pass itself read."""
    return one.tokens[-len(one.positions) :]


def recorded(
    values: Mapping[Key, Tensor], schedule: Schedule, sites: Collection[str] | None = None, dtype: str = "float32"
) -> Recording:
    """The values of a walk as an engine's recording; of some sites only."""
    made = Recording(engine="elsewhere", dtype=dtype, tokens=torch.tensor([schedule.tokens]))
    positions = {(phase, step): at for phase, step, at in schedule.passes()}
    for key, value in values.items():
        if sites is None or key.site in sites:
            at = positions[key.phase, key.step]
            made.entries.append(Entry(key.site, key.phase, key.step, at, None, value))
    return made


def injured_recording(
    anatomy: Anatomy, schedule: Schedule, faults: Sequence[Fault], sites: Collection[str] | None = None
) -> Recording:
    """What an engine that makes these mistakes would have recorded."""
    return recorded(walk(anatomy, schedule, faults=faults), schedule, sites)
