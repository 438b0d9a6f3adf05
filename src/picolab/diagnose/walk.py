"""One pass of a model, place by place: at each the value it makes may be noted, bent by a fault, and replaced by another engine's.

    inputs (as they flow) -> the model's own line of code -> made -> fault? -> bent -> given? -> what flows on

With the values of a target given at every place, each line of the reference is replayed on the target's own inputs: what the
reference makes of them and what the target made differ only where the target's line is wrong, however wrong its inputs were.
With faults and nothing given, the walk is the broken model. Nothing of the model is written a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy, Line
from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.parts.tap import listening
from picolab.trace.recording import DECODE, PREFILL, Recording
from picolab.trace.sites import layer_of


class Key(NamedTuple):
    """One value of a walk: which pass, which place."""

    phase: str
    step: int
    site: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """In which passes a text is read: the first `prefill` tokens at once, the others one by one."""

    tokens: tuple[int, ...]
    prefill: int

    def __post_init__(self) -> None:
        if not 1 <= self.prefill <= len(self.tokens):
            raise BadInput(f"{self.prefill} of {len(self.tokens)} tokens cannot be read at once")

    def passes(self) -> Iterator[tuple[str, int, tuple[int, ...]]]:
        """Phase, step and positions of every pass."""
        yield PREFILL, 0, tuple(range(self.prefill))
        for position in range(self.prefill, len(self.tokens)):
            yield DECODE, position - self.prefill, (position,)


@dataclass(slots=True)
class Pass:
    """What a fault may look at while one pass runs: the model's lines, the positions, every value that flowed so far."""

    anatomy: Anatomy
    phase: str
    step: int
    positions: tuple[int, ...]
    tokens: tuple[int, ...]
    flowed: dict[str, Tensor] = field(default_factory=dict)
    earlier: Sequence[Pass] = ()

    @property
    def model(self) -> LanguageModel:
        return self.anatomy.model

    def line(self, site: str) -> Line:
        """The line that makes this place."""
        return self.anatomy.lines[site]

    def read(self, site: str, number: int = 0) -> Tensor:
        """An input of the line that makes this place, as it flowed."""
        return self.flowed[self.anatomy.lines[site].inputs[number]]

    def so_far(self, site: str) -> Tensor:
        """The values of a site of keys or values at all positions up to this pass, `(batch, past, kv_heads, head_dim)`."""
        return torch.cat([one.flowed[site] for one in (*self.earlier, self)], dim=1)


@runtime_checkable
class Fault(Protocol):
    """One way in which an operation is wrong, with its parameters: it says what the wrong line makes in place of the right."""

    @property
    def cause(self) -> str:
        """The name of the cause in the catalogue."""
        ...

    def applies(self, site: str, at: Pass) -> bool:
        """Whether the line that makes this place is the wrong one, in this pass."""
        ...

    def bend(self, site: str, value: Tensor, at: Pass) -> Tensor:
        """What the wrong line makes, where the right one makes `value`."""
        ...


@torch.inference_mode()
def walk(
    anatomy: Anatomy,
    schedule: Schedule,
    *,
    faults: Sequence[Fault] = (),
    given: Mapping[Key, Tensor] | None = None,
    look: Callable[[Key, Tensor, Pass], None] | None = None,
    until: Key | None = None,
) -> dict[Key, Tensor]:
    """What a model makes at every place, faults included, each from what flowed into it.

    `given` values flow on in place of those made; `look` sees each made value with the pass it belongs to, before that. The walk
    ends once the value `until` is made.
    """
    made: dict[Key, Tensor] = {}
    model = anatomy.model
    cache = model.new_cache(1, len(schedule.tokens))
    passes: list[Pass] = []
    for phase, step, positions in schedule.passes():
        at = Pass(anatomy, phase, step, positions, schedule.tokens, earlier=tuple(passes))

        def see(site: str, value: Tensor, at: Pass = at) -> Tensor:
            for fault in faults:
                if fault.applies(site, at):
                    value = fault.bend(site, value, at)
            key = Key(at.phase, at.step, site)
            made[key] = value
            if look is not None:
                look(key, value, at)
            flows = value if given is None or key not in given else _completed(given[key], value, site)
            at.flowed[site] = flows = flows.to(value.device, value.dtype)
            if key == until:
                raise _Enough
            return flows

        with suppress(_Enough), listening(model, see):
            model(torch.tensor([[schedule.tokens[p] for p in positions]], device=model.device), cache=cache)
        passes.append(at)
        if until in made:
            break
    return made


def time_axis(site: str) -> int:
    """Where time is in a value of this place; the batch comes first."""
    return 2 if site.endswith(("attention.scores", "attention.probs")) else 1


def _completed(given: Tensor, made: Tensor, site: str) -> Tensor:
    """A given value; where it covers the last positions alone, those before as they were made."""
    axis = time_axis(site)
    missing = made.shape[axis] - given.shape[axis]
    if missing <= 0:
        return given
    return torch.cat((made.narrow(axis, 0, missing), given.to(made.device, made.dtype)), dim=axis)


class _Enough(Exception):
    """What was asked for has been made."""


def schedule_of(recording: Recording) -> Schedule:
    """In which passes a recording was made: its tokens, and where its first decode step stands.

    Raises `BadInput` for decode steps that are not of one token each, one position after the other.
    """
    tokens = tuple(int(token) for token in recording.tokens[0])
    steps = {entry.step: entry.positions for entry in recording.entries if entry.phase == DECODE}
    if not steps:
        return Schedule(tokens, len(tokens))
    told = {step: positions for step, positions in steps.items() if positions}
    first = min((at[0] - step for step, at in told.items()), default=len(tokens) - 1 - max(steps))
    for step, at in told.items():
        if at != (first + step,):
            raise BadInput(
                f"decode step {step} reads positions {', '.join(map(str, at))} where position {first + step} is its turn",
                hint="decode steps are counted from 0 and read one token each; what is read at once is a prefill",
            )
    return Schedule(tokens, first)


def difference(made: Tensor, other: Tensor, site: str) -> float:
    """How far two values of a place are apart: the worst position, relative to the usual size of a position there.

    Of scores only those count that the mask leaves; of anything that is not finite in one of them alone, infinity. Where the
    other covers the last positions alone, these are compared.
    """
    time = time_axis(site)
    if made.ndim == other.ndim and made.ndim > time and other.shape[time] < made.shape[time]:
        made = made.narrow(time, made.shape[time] - other.shape[time], other.shape[time])
    if made.shape != other.shape:
        return float("inf")
    if (made.dtype, made.device) == (other.dtype, other.device) and torch.equal(made, other):
        return 0.0  # so it is at most places, where the mistake sits elsewhere
    made, other = made.double(), other.to(made.device).double()
    if site.endswith("scores"):
        seen = torch.ones(made.shape[-2:], dtype=torch.bool, device=made.device).tril(made.shape[-1] - made.shape[-2])
        made, other = made.masked_fill(~seen, 0.0), other.masked_fill(~seen, 0.0)
    if not torch.equal(made.isfinite(), other.isfinite()):
        return float("inf")
    made, other = made.nan_to_num(0, 0, 0), other.nan_to_num(0, 0, 0)
    gap = (made - other).movedim(time, 0).flatten(1).norm(dim=1)
    size = made.movedim(time, 0).flatten(1).norm(dim=1)
    usual = float(size.square().mean().sqrt()) or float(other.abs().max()) or 1.0
    return float((gap / size.clamp(min=usual)).max())


def local(site: str) -> str:
    """A site without its block: `attention.q_rope`."""
    return site if layer_of(site) is None else site.split(".", 2)[2]
