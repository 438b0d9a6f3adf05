"""Do two engines choose the same tokens when each always takes the most likely one?

    there    the reference's choice is read by both, and both are asked again
    here     12 12 7 9 ..     a difference does not end the comparison: the texts stay the same

Where rounding decides, two right engines may choose otherwise. So a difference is excused if the reference prefers its own choice
by less than the noise: twice what the logits of this comparison were measured to differ by, and never more than the tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from picolab.diagnose.verify_read import Tally, read_on
from picolab.trace.engines.engine import Engine


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A step at which the engines chose otherwise; `margin` is by how much the reference prefers `theirs`, relative to its largest
    absolute logit there."""

    step: int
    ours: int
    theirs: int
    margin: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Greedy:
    """`count` choices, those that differ, the noise, and the logits on the way."""

    count: int
    differing: tuple[Choice, ...]
    noise: float
    tally: Tally

    @property
    def excused(self) -> tuple[Choice, ...]:
        return tuple(choice for choice in self.differing if choice.margin < self.noise)

    @property
    def wrong(self) -> tuple[Choice, ...]:
        return tuple(choice for choice in self.differing if not choice.margin < self.noise)


def write_greedily(
    here: Engine, there: Engine, opening: Sequence[int], count: int, *, measured: float, tolerance: float
) -> Greedy:
    """Let both write `count` tokens after an opening; `measured` is how far their logits were apart elsewhere."""
    here.forget()
    there.forget()
    tally, differing = Tally(tolerance), []
    length, piece = len(opening) + count - 1, opening
    for step in range(count):
        ours, theirs = read_on(here, piece), read_on(there, piece)
        tally.add(0, ours, theirs, first=0 if step == 0 else len(opening) + step - 1, length=length)
        known = min(ours.shape[-1], theirs.shape[-1])  # only what both have can be read on
        chosen, other = (int(logits[-1, :known].argmax()) for logits in (theirs, ours))
        if other != chosen:
            margin = float((theirs[-1, chosen] - theirs[-1, other]) / theirs[-1].abs().max())
            differing.append(Choice(step=step, ours=other, theirs=chosen, margin=margin))
        piece = [chosen]
    noise = min(2 * max(measured, tally.worst), tolerance)
    return Greedy(count=count, differing=tuple(differing), noise=noise, tally=tally)
