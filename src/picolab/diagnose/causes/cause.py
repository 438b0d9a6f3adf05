"""What is a cause? One small object: how a correct line goes wrong this way, how that is recognised, what to look for in code.

    Cause     a kind of mistake in the catalogue: name, what it is, where it can be, what to look for
    Bend      one such mistake with its parameters, at some blocks: bends the value of a line (a `Fault` of walk.py)
    Case      what a cause may look at to propose bends: the reference replayed on the target's inputs

The same object injects the mistake (walk the model with the bend), recognises it (propose bends, replay with each, see whether the
error vanishes) and teaches it (its page). A proposal is only a guess: it counts when replaying with it leaves nothing but rounding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy, Line
from picolab.diagnose.walk import Key, Pass, local
from picolab.trace.sites import layer_of


@dataclass(frozen=True, kw_only=True)
class Bend(ABC):
    """One mistake with its parameters. `layers` None means every block, `phases` None every pass.

    `dial`, if there is one, is a positive number among the parameters and its range: where no tensor shows it, it is turned until
    the error is least.
    """

    cause: ClassVar[str]
    places: ClassVar[frozenset[str]]
    dial: ClassVar[tuple[str, float, float] | None] = None
    layers: frozenset[int] | None = None
    phases: frozenset[str] | None = None

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of lines this one sits in: all `places` of its cause, or those it was found in."""
        return self.places

    def applies(self, site: str, at: Pass) -> bool:
        layer = layer_of(site)
        here = layer is None or self.layers is None or layer in self.layers
        return here and local(site) in self.kinds and (self.phases is None or at.phase in self.phases)

    def turned(self, number: float) -> Bend:
        """The same mistake with another number at its dial."""
        assert self.dial is not None
        turned: Bend = replace(self, **{self.dial[0]: number})  # type: ignore[arg-type]
        return turned

    @abstractmethod
    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        """What the wrong line makes, where the right one makes `value`."""

    @abstractmethod
    def says(self) -> str:
        """The mistake with its parameters, as one clause: `q and k are rotated in pairs (0,1)(2,3).. instead of (0,32)(1,33)..`."""

    @property
    def evidence(self) -> dict[str, Any]:
        """The recovered parameters, for the verdict's JSON."""
        return {}


@dataclass(frozen=True, slots=True)
class Sight:
    """One value of the stretch in question: what the reference made of the target's inputs, and what the target made."""

    key: Key
    at: Pass
    line: Line
    made: Tensor
    target: Tensor | None

    def input(self, number: int = 0) -> Tensor:
        """An input of the line, as it flowed: the target's, where the target shows it."""
        return self.at.flowed[self.line.inputs[number]]


@dataclass(frozen=True, slots=True)
class Case:
    """The reference replayed on the target's inputs, and the places under suspicion.

    `suspects` are the places of the stretch where the error was born, from its first line to its last; only the last is known
    to be wrong. `born` are all places of that kind, in any block and pass, that add error.
    """

    anatomy: Anatomy
    made: Mapping[Key, Tensor]
    target: Mapping[Key, Tensor]
    passes: Mapping[tuple[str, int], Pass]
    suspects: tuple[str, ...]
    born: tuple[Key, ...]

    def sights(self, places: Iterable[str]) -> Iterator[Sight]:
        """The suspected values at places of these kinds, in the order of computation; target None where it is not known."""
        wanted = set(places)
        places_born = {local(key.site) for key in self.born}
        blocks = {layer_of(key.site) for key in self.born}
        for key, made in self.made.items():
            place = local(key.site)
            wrong = key in self.born if place in places_born else layer_of(key.site) in blocks
            if place in wanted and place in self.suspects and wrong:
                shown = self.target.get(key)
                target = shown if shown is not None and shown.shape == made.shape else None
                yield Sight(key, self.passes[key.phase, key.step], self.anatomy.lines[key.site], made, target)

    def layers(self, places: Iterable[str]) -> frozenset[int] | None:
        """The blocks in which an error is born at one of these places, or after them where they are not shown; None: all."""
        at = {
            layer for key in self.born if local(key.site) in set(places) and (layer := layer_of(key.site)) is not None
        }
        found = at or {layer for key in self.born if (layer := layer_of(key.site)) is not None}
        every = {layer for site in self.anatomy.sites if (layer := layer_of(site)) is not None}
        return None if found == every or not found else frozenset(found)

    @property
    def phases(self) -> frozenset[str] | None:
        """The phases in which an error is born; None: all there are."""
        found = {key.phase for key in self.born}
        return None if found == {phase for phase, _ in self.passes} else frozenset(found)


class Cause(ABC):
    """A kind of mistake. `name` is that of the catalogue; `places` are the lines where it can sit."""

    name: ClassVar[str]
    places: ClassVar[frozenset[str]]
    says: ClassVar[str]
    look_for: ClassVar[str]

    @abstractmethod
    def propose(self, case: Case) -> Iterable[Bend]:
        """Bends that might explain the case, the most telling first; parameters recovered from its tensors."""

    def examples(self, anatomy: Anatomy) -> Sequence[Bend]:
        """Bends to inject into a model: for self-tests, pages, benchmarks. Empty where the model has no such line."""
        return ()


def close(a: Tensor, b: Tensor, tolerance: float = 1e-3) -> bool:
    """Whether two tensors are so alike that a guess is worth a replay; not a verdict."""
    if a.shape != b.shape:
        return False
    size = float(b.double().norm())
    return bool(torch.isfinite(a).all()) and float((a.double() - b.double()).norm()) <= tolerance * (size or 1.0)
