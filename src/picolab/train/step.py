"""One optimizer step: the gradient of the mean over all scored tokens of the step, however its rows are cut up.

    pieces (accumulate) x ranks -> each piece's mean loss * (its terms / all terms) -> backward, added up -> clip -> AdamW

A plain mean over pieces would let a token in a piece with much padding weigh more than one elsewhere. A term is what the objective
averages over: a scored token, a pair.

Whoever wants to know where a step's time goes hands in `lap`, which is called with a stage's name as it ends.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from picolab.data.batch import Rows
from picolab.errors import BadData, Diverged
from picolab.train.distributed import World
from picolab.train.nonfinite import first_nonfinite
from picolab.train.optimizers import adamw
from picolab.train.precision import Precision
from picolab.train.recompute import recompute_blocks
from picolab.train.schedules import Cosine
from picolab.train.task import Task

Lap = Callable[[str], None]


def _unheard(stage: str) -> None:
    """Nobody measures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What a step did: mean loss before it, gradient norm before clipping, learning rate, tokens learned from.

    `figures` are the means of whatever else the objective counts.
    """

    loss: float
    grad_norm: float
    lr: float
    tokens: int
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Summed:
    """What the pieces of this process add up to, and over how many terms of all processes."""

    total: Tensor
    figures: Mapping[str, Tensor]
    terms: int


@dataclass(frozen=True, kw_only=True)
class Stepper:
    """Takes steps. `model` is what `trainee` trains; the two share their parameters."""

    model: nn.Module
    trainee: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Cosine
    clip: float
    accumulate: int
    precision: Precision
    world: World
    seed: int
    lap: Lap = _unheard

    def take(self, step: int, batch: Rows) -> Taken:
        """Learn from the rows of step `step`, counted from 0; `Diverged` leaves parameters and optimizer as they were."""
        summed = self.gradients(step, batch)
        norm = self._clip()
        # The one moment a step waits for the device: all numbers at once.
        grad_norm, *sums = torch.stack([t.float() for t in (norm, summed.total, *summed.figures.values())]).tolist()
        if self.world.size > 1:
            sums = self.world.sum(*sums)
        loss, *means = (value / summed.terms for value in sums)
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise self._diverged(step, batch, loss)
        lr = self.schedule.at(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.lap("optimizer")
        figures = dict(zip(summed.figures, means, strict=True))
        return Taken(loss=loss, grad_norm=grad_norm, lr=lr, tokens=batch.n_tokens, figures=figures)

    def gradients(self, step: int, batch: Rows) -> Summed:
        """Fill the gradients; the sums of this process's losses and figures."""
        seed_everything(self.seed, step, self.world.rank, self.world.device)
        if not self.model.training:
            self.model.train()
        pieces = list(self._pieces(batch))
        counts = [piece.scored for piece in pieces]
        terms = int(self.world.sum(float(sum(counts)))[0])
        if terms == 0:
            raise BadData(
                f"step {step + 1} has no token to learn from", hint="its rows are all padding: is the corpus empty?"
            )
        total = torch.zeros((), device=self.world.device)
        figures: dict[str, Tensor] = {}
        for number, (piece, count) in enumerate(zip(pieces, counts, strict=True), start=1):
            # DDP and FSDP average over the ranks; times their number, that is a sum.
            weight = torch.full((), count / terms * self.world.size, device=self.world.device)
            here = piece.to(self.world.device)
            self.lap("data")
            with self.world.synchronising(self.trainee, number == len(pieces)):
                with self.precision.autocast():
                    share, summed, counted = self.trainee(here, weight)
                self.lap("loss")
                share.backward()
            self.lap("backward")
            total += summed
            figures = {name: value + figures.get(name, 0) for name, value in counted.items()}
        return Summed(total=total, figures=figures, terms=terms)

    def _pieces(self, batch: Rows) -> Iterator[Rows]:
        mine = self.world.rows(batch)
        height = mine.height
        pieces = min(self.accumulate, height)
        bounds = [height * i // pieces for i in range(pieces + 1)]
        for start, stop in pairwise(bounds):
            yield mine.part(slice(start, stop))

    def _clip(self) -> Tensor:
        """Shrink the gradients to the global norm `clip`; their norm before."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        # An infinite limit multiplies every gradient by one: the norm is wanted all the same.
        norm = nn.utils.clip_grad_norm_(parameters, self.clip or math.inf)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def _diverged(self, step: int, batch: Rows, loss: float) -> Diverged:
        seed_everything(self.seed, step, self.world.rank, self.world.device)
        one = torch.ones((), device=self.world.device)
        passes = [partial(self._loss_again, piece.to(self.world.device), one) for piece in self._pieces(batch)]
        found = [name for name in self.world.gather(first_nonfinite(self.model, passes)) if name is not None]
        self.optimizer.zero_grad(set_to_none=True)
        where = found[0] if found else "no tensor of a second try is, so the fault comes and goes"
        return Diverged(
            f"step {step + 1} gave a loss of {loss:g}; first to be no longer finite: {where}",
            hint="lower --lr, lengthen --warmup, or use --dtype float32",
        )

    def _loss_again(self, batch: Rows, weight: Tensor) -> Tensor:
        with self.precision.autocast():
            share: Tensor = self.trainee(batch, weight)[0]
        return share


def stepper_of(task: Task, world: World, precision: Precision, *, lap: Lap = _unheard) -> Stepper:
    """Who takes the steps of a task whose settings are settled: its model on the world's device, its optimizer, its schedule."""
    s = task.settings
    task.model.to(world.device)
    if s.training.recompute:
        recompute_blocks(task.model, named=s.model.preset)
    trainee = world.wrap(task.model, task.objective, s.training.strategy, precision.dtype)
    if s.training.compile:
        trainee.compile()
    assert s.optimizer.min_lr is not None and s.optimizer.warmup is not None  # the task settled them
    return Stepper(
        model=task.model,
        trainee=trainee,
        optimizer=adamw(task.model, s.optimizer),
        schedule=Cosine(lr=s.optimizer.lr, min_lr=s.optimizer.min_lr, warmup=s.optimizer.warmup, steps=task.steps),
        clip=s.optimizer.clip,
        accumulate=s.training.accumulate,
        precision=precision,
        world=world,
        seed=s.seed,
        lap=lap,
    )


def seed_everything(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Set PyTorch's, NumPy's and Python's random numbers for one step of one process.

    A function of the step and nothing else: a resumed run needs no saved generator, and what happens between two steps
    (evaluation, samples, somebody's own code) cannot move what the next one draws.
    """
    words = np.random.SeedSequence((seed, step, rank)).generate_state(4, np.uint32)
    number = int(words[0]) << 32 | int(words[1])
    # Not torch.manual_seed: where a GPU is not in use it keeps a note of every call, with a stack trace, for the day it will be.
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)
    np.random.seed(int(words[2]))
    random.seed(int(words[3]))
