"""Where is an error born? At the first line whose own result is wrong, given the inputs that the target itself had.

    coarse   embed | resid_mid | resid_post | ... | final_norm | logits      which half of which block
    middle   q k v | probs | mixed | out | mlp.act | mlp.down                which part of it
    fine     every place both sides have                                     which line

A stretch between two coarse places that computes the right thing is right, whatever its inside looks like: heads in another
order with the output projection's columns reordered, queries and keys turned together, a norm's weight folded into the next
matrix. So only stretches that are wrong are looked into.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.levels import LEVELS, Level, shows
from picolab.diagnose.noise import Floor
from picolab.diagnose.walk import Fault, Key, Pass, Schedule, difference, walk


@dataclass(frozen=True, slots=True)
class Stretch:
    """The lines among which an error is born: those that make `until` out of what is shown; `until`'s own is the last."""

    until: str
    lines: tuple[str, ...]
    phase: str
    step: int
    added: float
    inherited: float
    level: Level = None

    @property
    def key(self) -> Key:
        return Key(self.phase, self.step, self.until)


@dataclass(frozen=True, slots=True)
class Replay:
    """The reference replayed on the target's inputs: what each line added, and what had gone wrong before it."""

    order: tuple[Key, ...]
    made: Mapping[Key, Tensor]
    added: Mapping[Key, float]
    natural: Mapping[Key, Tensor]

    def inherited(self, key: Key) -> float:
        """How far what a line makes of the target's inputs is from what it makes of the right ones."""
        return difference(self.natural[key], self.made[key], key.site) if key in self.natural else 0.0


def replay(
    anatomy: Anatomy,
    schedule: Schedule,
    target: Mapping[Key, Tensor],
    natural: Mapping[Key, Tensor],
    *,
    level: Level = None,
    faults: Sequence[Fault] = (),
    look: Callable[[Key, Tensor, Pass], None] | None = None,
    until: Key | None = None,
) -> Replay:
    """Every line of the reference on the target's own inputs, compared at the places of `level` that the target has, or at
    `until` alone.

    `natural` are the reference's values on its own inputs: what a line makes of the target's inputs, beside what it makes of
    the right ones, is inherited error.
    """
    given = {key: value for key, value in target.items() if shows(level, key.site)}
    made = walk(anatomy, schedule, given=given, faults=faults, look=look, until=until)
    order = tuple(key for key in made if key in given and until in (None, key))
    return Replay(
        order=order,
        made=made,
        added={key: difference(made[key], given[key], key.site) for key in order},
        natural=natural,
    )


def births(
    anatomy: Anatomy,
    schedule: Schedule,
    target: Mapping[Key, Tensor],
    natural: Mapping[Key, Tensor],
    floor: Floor,
    *,
    faults: Sequence[Fault] = (),
) -> list[Stretch]:
    """Every stretch that adds error, in the order of computation, as narrow as the target's places allow.

    `faults` are those already found: the reference is walked with them, so what is born is what they do not explain.
    """
    found: list[Stretch] = []
    for number, level in enumerate(LEVELS):
        told = replay(anatomy, schedule, target, natural, level=level, faults=faults)
        born = [key for key in told.order if told.added[key] > floor.allows(key.site, level)]
        if number:
            inside = {(s.phase, s.step, line) for s in found for line in s.lines}
            born = [key for key in born if key in inside]
        if not born:
            break
        compared = set(told.order)

        def shown(site: str, key: Key, compared: set[Key] = compared) -> bool:
            return Key(key.phase, key.step, site) in compared

        found = [
            Stretch(
                until=key.site,
                lines=anatomy.lines_to(key.site, functools.partial(shown, key=key)),
                phase=key.phase,
                step=key.step,
                added=told.added[key],
                inherited=told.inherited(key),
                level=level,
            )
            for key in born
        ]
    return found
