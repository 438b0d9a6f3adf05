"""What is timed when a model trains, reads and writes? The real thing each time, a unit of it for every call, seconds by stage.

train     a step of `train/step.py` on packed rows       data, forward, loss, backward, optimizer
          a model that counts: all its rows at once      data, count
prefill   `generate` reading its prompts                 prefill
decode    `generate` writing on after them               decode
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch

from picolab.compare.bench_text import ROWS, Shape, loader_of, prompts_of
from picolab.data.batch import Batch
from picolab.errors import BadInput
from picolab.measure.arithmetic import arithmetic_of, cache_bytes, weight_bytes
from picolab.measure.parameters import count_parameters
from picolab.measure.stopwatch import Stopwatch, watch_head
from picolab.models.contract import LanguageModel
from picolab.objectives.next_token import next_token
from picolab.parts.cache import KeyValueCache
from picolab.runs.settings import Settings
from picolab.sample.compiled import Step
from picolab.sample.generate import Meter, generate
from picolab.sample.pick import Sampler
from picolab.train.distributed import World
from picolab.train.precision import choose
from picolab.train.step import stepper_of
from picolab.train.task import Task

What = Literal["train", "prefill", "decode"]

WRITTEN = 32
"""Tokens written after a prompt, where the length has room for both."""

LR = 1e-4
"""What is learned does not matter, only that nothing runs away."""

GREEDY = Sampler(temperature=0)


class Work(ABC):
    """A model at work. A call does one unit, `steps` steps over `tokens` tokens, and says where its seconds went."""

    stages: ClassVar[tuple[str, ...]]
    model: LanguageModel
    tokens: int
    steps: int = 1
    notes: tuple[str, ...] = ()

    @abstractmethod
    def __call__(self) -> Mapping[str, float]: ...

    @property
    def flops(self) -> float | None:
        """Of one unit; None where nothing is multiplied."""
        return None

    @property
    def bytes_moved(self) -> float | None:
        """Of one unit, in the stage that memory limits; None where that is not known."""
        return None


class Training(Work):
    """Steps of gradient descent."""

    stages = ("data", "forward", "loss", "backward", "optimizer")

    def __init__(self, model: LanguageModel, shape: Shape) -> None:
        self.model, self.shape = model.train(), shape
        self.loader = loader_of(model, shape)
        self.tokens = shape.batch_size * shape.length
        self.watch = Stopwatch(shape.device)
        watch_head(model.head, self.watch.lap)
        world = World(rank=0, size=1, device=shape.device)
        self.stepper = stepper_of(self._task(), world, choose(shape.dtype, shape.device), lap=self.watch.lap)
        self.taken = 0

    def __call__(self) -> Mapping[str, float]:
        self.watch.start()
        self.stepper.take(self.taken, self.loader.batch(self.taken))
        self.taken += 1
        return self.watch.stages

    @property
    def flops(self) -> float | None:
        return float(self.shape.batch_size * arithmetic_of(self.model).training(self.shape.length))

    @property
    def bytes_moved(self) -> float | None:
        """AdamW reads weight, gradient and two averages, and writes all but the gradient: seven numbers of 4 bytes."""
        return 28.0 * count_parameters(self.model).trainable

    def _task(self) -> Task:
        s = self.shape
        settings = Settings().changed(
            training={"batch_size": s.batch_size, "compile": s.compiled, "dtype": s.dtype},
            optimizer={"lr": LR, "min_lr": LR, "warmup": 0},
            seed=s.seed,
        )
        return Task(
            settings=settings,
            model=self.model,
            tokenizer=None,
            objective=next_token,
            batch=self.loader.batch,
            steps=1,
            tokens_per_step=self.tokens,
            validation=(),
            validation_bytes=None,
        )


class Counting(Work):
    """A model that counts learns from all its rows in one go."""

    stages = ("data", "count")
    notes = ("it counts: no forward, loss, backward or optimizer, no products to hold against a limit",)

    def __init__(self, model: LanguageModel, shape: Shape) -> None:
        self.model = model
        self.loader = loader_of(model, shape)
        self.batches = -(-ROWS // shape.batch_size)
        self.tokens = self.batches * shape.batch_size * shape.length
        self.watch = Stopwatch(shape.device)

    def __call__(self) -> Mapping[str, float]:
        self.watch.start()
        batches: list[Batch] = [self.loader.batch(step) for step in range(self.batches)]
        self.watch.lap("data")
        self.model.estimate(batches)  # type: ignore[operator]  # `work_of` looked
        self.watch.lap("count")
        return self.watch.stages


class Prefill(Work):
    """Prompts are read into a fresh cache, and the first token after each is picked."""

    stages = ("prefill",)

    def __init__(self, model: LanguageModel, shape: Shape) -> None:
        self.model, self.shape = model.eval(), shape
        self.prompts = prompts_of(model, shape, shape.length)
        self.tokens = shape.batch_size * shape.length
        self.notes = _reading_notes(model)

    def __call__(self) -> Mapping[str, float]:
        meter = Meter()
        _generate(self.model, self.prompts, 1, meter)
        return {"prefill": meter.seconds_reading}

    @property
    def flops(self) -> float | None:
        row = arithmetic_of(self.model)
        return float(self.shape.batch_size * row.forward(self.shape.length, scored=1)) if row.multiplies else None


class Decode(Work):
    """Prompts are written on up to the length asked for; reading them is not in the figure."""

    stages = ("decode",)

    def __init__(self, model: LanguageModel, shape: Shape) -> None:
        self.model, self.shape = model.eval(), shape
        self.steps = self.new = min(WRITTEN, shape.length // 2)
        self.past = shape.length - self.new
        self.prompts = prompts_of(model, shape, self.past)
        self.tokens = shape.batch_size * self.new
        self.notes = _reading_notes(model)
        self.step = _step(model, shape) if shape.compiled else None

    def __call__(self) -> Mapping[str, float]:
        meter = Meter()
        if self.step is None:
            _generate(self.model, self.prompts, self.new + 1, meter)
        else:
            self._write_compiled(self.step, meter)
        return {"decode": meter.seconds_writing}

    def _write_compiled(self, step: Step, meter: Meter) -> None:
        """What `generate` does, with a step that is compiled once and not anew for every text."""
        step.clear()
        picked = GREEDY.pick(step.read(torch.tensor(self.prompts, device=self.model.device)))
        for _ in range(self.new):
            with meter.writing():
                picked = GREEDY.pick(step(picked[:, None]))
                picked.tolist()  # a text is handed out as it is written

    @property
    def flops(self) -> float | None:
        row = arithmetic_of(self.model)
        return float(self.shape.batch_size * row.forward(self.new, past=self.past)) if row.multiplies else None

    @property
    def bytes_moved(self) -> float | None:
        """Weights once a step, and of every row what its newest token looks at."""
        if not arithmetic_of(self.model).multiplies:
            return None
        cached = sum(cache_bytes(self.model, self.past + step) for step in range(1, self.new + 1))
        return float(self.new * weight_bytes(self.model) + self.shape.batch_size * cached)


class NoSuchWork(BadInput):
    """A model that does not work so."""


def work_of(what: What, model: LanguageModel, shape: Shape) -> Work:
    """The work, set up and not yet begun, or NoSuchWork."""
    counts = hasattr(model, "estimate")
    if what == "train":
        return Counting(model, shape) if counts else Training(model, shape)
    if counts and not model.n_counts:  # a table without counts would answer at once
        loader = loader_of(model, shape)
        model.estimate([loader.batch(step) for step in range(-(-ROWS // shape.batch_size))])  # type: ignore[operator]
    return Prefill(model, shape) if what == "prefill" else Decode(model, shape)


def _step(model: LanguageModel, shape: Shape) -> Step:
    if not isinstance(model.new_cache(1, 1), KeyValueCache):
        raise NoSuchWork("its step cannot be compiled: what it remembers is not a list of keys and values")
    return Step(model, shape.batch_size, shape.length)


def _generate(model: LanguageModel, prompts: list[list[int]], new: int, meter: Meter) -> None:
    written = generate(
        model, None, prompts, max_new_tokens=new, sampler=GREEDY, batch_size=len(prompts), ignore_eot=True, meter=meter
    )
    if any(len(text.ids) != new for text in written):  # a text that ended early would be a fast one
        raise BadInput(f"{min(len(text.ids) for text in written)} tokens were written, not {new}")


def _reading_notes(model: LanguageModel) -> tuple[str, ...]:
    """What a figure means for a model that has not the usual memory."""
    return MEMORIES.get(model.architecture, ())


MEMORIES = {
    "ngram": ("it looks counts up: no weights are read through, no keys and values are kept",),
    "kgram": ("no keys and values are kept: its newest tokens are all it reads",),
    "lstm": ("no keys and values are kept, but one state, whatever the length",),
    "linear": ("no keys and values are kept, but one matrix a head, whatever the length",),
}
"""By architecture, where it is not attention over all that was read."""
