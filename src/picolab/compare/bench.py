"""How fast do models train, read and write here, and how near to what this machine can do? Models take turns.

    for each work:  set up and warm all up  ->  A B C limits | A B C limits | ..  ->  rows beside what the machine reached meanwhile

Each turn is a few units of work, as many as the time asked for allows; a machine that drifts drifts for all. Before anything
is set up, what it will hold is compared with the memory that is free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from picolab.compare.bench_asked import TRAINABLE, Asked, Contender, contenders_of
from picolab.compare.bench_fits import check_fits
from picolab.compare.bench_result import Bench, Facts, Measured, Row, Skipped, rows_of
from picolab.compare.bench_text import Shape
from picolab.compare.bench_work import NoSuchWork, What, Work, work_of
from picolab.errors import BadInput
from picolab.measure.limits import Limits, limits
from picolab.measure.memory import PeakMemory
from picolab.runs import machine
from picolab.runs.reference import open_reference
from picolab.train.distributed import pick_device
from picolab.weights.kept import PLAIN
from picolab.zoo import PRESETS, create

TINY: dict[str, dict[str, Any]] = {
    "softmax-pico": {"vocab_size": 8, "d_model": 8, "n_heads": 1, "n_layers": 1, "d_ff": 8},
    "lstm": {"vocab_size": 8, "d_model": 8, "hidden": 8},
}
WARM_UP = 2
"""Units before the clock counts: the first pays for what happens once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A sentence about how far it is; `lasting` ones are worth a line, the others only a moment on a terminal."""

    says: str
    lasting: bool = False


Report = Callable[[Progress], None]


def bench(asked: Asked, report: Report = lambda progress: None) -> Bench:
    """Measure; Ctrl-C ends it early, with what there is."""
    device = pick_device(asked.device)
    contenders = contenders_of(asked)
    check_fits(asked, contenders, device)
    if asked.vocab_size is not None and not any(c.reference in PRESETS for c in contenders):
        raise BadInput("`vocab_size` is for presets, and none is given", hint="a saved model has its own: leave it out")
    measuring = _Measuring(asked, contenders, device, report)
    interrupted = False
    with _threads(asked.threads):
        facts = {**asdict(asked), "device": str(device), "threads": torch.get_num_threads()}
        try:
            measuring.all()
        except KeyboardInterrupt:
            interrupted = True
    return Bench(
        asked=facts,
        machine=machine.describe(),
        limits=measuring.limits,
        rows=tuple(measuring.rows()),
        skipped=tuple(measuring.skipped),
        interrupted=interrupted,
    )


@dataclass(frozen=True, slots=True)
class Turn:
    """A model's turn in every round: so many units of its work, about as long as the others'."""

    measured: Measured
    work: Work
    unit_seconds: float

    def units(self, seconds: float) -> int:
        return max(1, round(seconds / self.unit_seconds))

    def take(self, seconds: float) -> None:
        """Work for about so long; a round is the mean of a unit."""
        units = self.units(seconds)
        if units > 1:
            self.work()  # what a neighbour pushed out of the processor's cache comes back uncounted
        done = [self.work() for _ in range(units)]
        self.measured.rounds.append({stage: sum(d[stage] for d in done) / units for stage in self.work.stages})

    def lasts(self, seconds: float) -> float:
        units = self.units(seconds)
        return (units + (units > 1)) * self.unit_seconds


class _Measuring:
    """How far a benchmark has come."""

    def __init__(self, asked: Asked, contenders: Sequence[Contender], device: torch.device, report: Report) -> None:
        self.asked, self.contenders, self.device, self.report = asked, contenders, device, report
        self.limits: Limits | None = None
        self.skipped: list[Skipped] = []
        self._measured: list[Measured] = []

    def rows(self) -> Iterator[Row]:
        """Of everything that has a round, against what the machine reached in the whole time."""
        for what in self.asked.what if self.limits is not None else ():
            assert self.limits is not None
            yield from rows_of([one for one in self._measured if one.what == what], self.limits)

    def all(self) -> None:
        """Each work in turn; its models are let go before the next one's are made."""
        self._look_at_machine()
        self._wake()
        for what in self.asked.what:
            self._take_turns(what, self._set_up(what))

    def _wake(self) -> None:
        """Do every work once with tiny models: what torch loads for that is nobody's memory."""
        shape = Shape(batch_size=1, length=4, dtype="float32", device=self.device, compiled=False, seed=0)
        for what in self.asked.what:
            for preset, fields in TINY.items():
                work_of(what, create(preset, **fields).to(self.device), shape)()

    def _set_up(self, what: What) -> list[Turn]:
        turns = []
        for contender in self.contenders:
            self.report(Progress(says=f"{what}: warming {contender.name} up"))
            if what == "train" and self.asked.dtype not in TRAINABLE:
                self._skip(contender, what, f"no model is trained in {self.asked.dtype}")
                continue
            try:
                turns.append(self._warmed(contender, what))
            except NoSuchWork as error:
                self._skip(contender, what, str(error))
        self._measured += [turn.measured for turn in turns]
        return turns

    def _warmed(self, contender: Contender, what: What) -> Turn:
        a = self.asked
        shape = Shape(
            batch_size=a.batch_size,
            length=a.length,
            dtype=a.dtype,
            device=self.device,
            compiled=a.compiled,
            seed=a.seed,
        )
        with PeakMemory() as memory:
            opened = open_reference(
                contender.reference,
                seed=a.seed,
                dtype="float32" if what == "train" else contender.form,
                **contender.fields,
            )
            work = work_of(what, opened.model.to(self.device), shape)
            seconds = [sum(work().values()) for _ in range(WARM_UP)]
        measured = Measured(
            name=contender.name,
            source=opened.source,
            what=what,
            facts=Facts.of(work),
            peak_bytes=memory.extra_bytes,
        )
        return Turn(measured, work, seconds[-1])

    def _skip(self, contender: Contender, what: What, says: str) -> None:
        self.skipped.append(Skipped(model=contender.name, what=what, says=says))

    def _take_turns(self, what: What, turns: Sequence[Turn]) -> None:
        if not turns:
            return
        rounds, seconds = self.asked.rounds, self.asked.seconds / self.asked.rounds
        lasts = rounds * sum(turn.lasts(seconds) for turn in turns)
        says = f"{what}: {_count(len(turns), 'model')}, {_count(rounds, 'round')}, about {lasts:.0f} s"
        self.report(Progress(says=says, lasting=True))
        for number in range(1, rounds + 1):
            for turn in turns:
                self.report(Progress(says=f"{what}: round {number} of {rounds}, {turn.measured.name}"))
                turn.take(seconds)
            self._look_at_machine()

    def _look_at_machine(self) -> None:
        dtype = PLAIN.get(self.asked.dtype, torch.float32)
        now = limits(dtype, self.device, self.asked.sizes)
        self.limits = now if self.limits is None else self.limits.best(now)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


@contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
