"""What will a study take? Steps of each shape of model and batch, really taken and thrown away, counted up over all runs.

    runs -> shapes (model, rows, batch) -> steps of the run itself, timed           -> x steps of every run
                                        -> one validation split, timed          -> x its evaluations
    trials                              -> the texts a judge reads, timed       -> x all of them
    bytes of the parameters -> x checkpoints kept

Of many shapes `MOST` are measured, spread over the list; the others are taken to cost what those do a parameter and token. A
search that learns is counted as if its points were drawn.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from picolab.measure.loss import evaluate
from picolab.measure.memory import resident_bytes
from picolab.measure.parameters import count_parameters
from picolab.measure.stopwatch import settle
from picolab.runs.settings import Settings
from picolab.sample.pick import Sampler
from picolab.studies.judges import judge_of, written_figures
from picolab.studies.points import points_of, settings_of, trials_of
from picolab.studies.search import check_points
from picolab.studies.study import Study
from picolab.studies.trial import task_of
from picolab.studies.workers import share_of_threads
from picolab.train.distributed import joined
from picolab.train.estimate import trainable_bytes
from picolab.train.precision import choose
from picolab.train.record import counts
from picolab.train.setup import dataset_of
from picolab.train.step import Stepper, stepper_of
from picolab.train.task import Task

MOST = 8
STEPS = 3
LONG = 2.0
"""Seconds of an evaluation that is not measured twice."""
OVERHEAD = 0.3
"""Seconds around a run: data opened, model built, files written. Measured on small runs."""
AROUND, STARTING = 5.0, 4.0
"""Seconds around a study (imports, pictures, the page), and until workers have begun. Measured on two cores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What a study takes: seconds with its workers (likely, lowest, highest), bytes of disk, bytes of memory a worker."""

    points: int
    runs: int
    seconds: float
    seconds_low: float
    seconds_high: float
    disk_bytes: int
    memory_bytes: int
    shapes: int
    measured: int
    measured_steps: int


@dataclass(frozen=True, slots=True)
class _Cost:
    step: float
    fastest: float
    slowest: float
    evaluation: float
    steps: int
    evaluations: int
    work: float
    checkpoint: int
    sampling: float


def forecast(study: Study, *, workers: int = 1) -> Forecast:
    """Measure, count up; nothing is left on disk but prepared data, which the study will read as well.

    Raises what the study would be refused for.
    """
    check_points(study)
    points = points_of(study)
    every = trials_of(study, points)
    trials = {trial.run: trial for trial in every}  # ways of sampling share the runs
    settings = [settings_of(study, t.point, t.seed, Path(), t.run) for t in trials.values()]
    shapes: dict[str, list[Settings]] = {}
    for one in settings:
        shapes.setdefault(_shape(one), []).append(one)
    keys = list(shapes)
    chosen = keys if len(keys) <= MOST else [keys[i * (len(keys) - 1) // (MOST - 1)] for i in range(MOST)]
    with _threads(share_of_threads(workers) if workers > 1 else torch.get_num_threads()):
        costs = {key: _measured(study, shapes[key][0]) for key in chosen}
    # A shape that was not measured costs what the measured ones cost on average; they are spread over the list.
    usual = {
        part: statistics.fmean(_seconds(costs[key], part) for key in chosen) for part in ("step", "fastest", "slowest")
    }
    total = {
        part: sum(
            len(group) * (_seconds(costs[key], part) if key in costs else usual[part]) for key, group in shapes.items()
        )
        for part in usual
    }
    sampling = len(every) * statistics.fmean(cost.sampling for cost in costs.values())
    around = AROUND + (STARTING if workers > 1 else 0.0)
    disk = statistics.fmean(cost.checkpoint for cost in costs.values())
    return Forecast(
        points=len(points),
        runs=len(points) * len(study.seeds),
        seconds=around + (total["step"] + sampling) / workers,
        seconds_low=(around + (total["fastest"] + sampling) / workers) * 0.9,
        seconds_high=(around + (total["slowest"] + sampling) / workers) * 1.3,
        disk_bytes=round(sum(len(g) * (costs[k].checkpoint if k in costs else disk) for k, g in shapes.items())),
        memory_bytes=resident_bytes() + max(cost.checkpoint for cost in costs.values()),
        shapes=len(keys),
        measured=len(chosen),
        measured_steps=STEPS,
    )


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Measure with the threads that a worker will have."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(cost: _Cost, part: str) -> float:
    return float(cost.steps * getattr(cost, part) + cost.evaluations * cost.evaluation + OVERHEAD)


def _shape(settings: Settings) -> str:
    """What a step's cost depends on: learning rates and seeds do not change it."""
    tree = settings.model_dump(mode="json")
    return json.dumps([tree["model"], tree["data"], tree["training"]], sort_keys=True)


def _measured(study: Study, settings: Settings) -> _Cost:
    with joined(settings.training.device) as world:
        precision = choose(settings.training.dtype, world.device)
        task = task_of(study)(settings.changed(training={"dtype": precision.name}))
        return _costs(study, settings, task, lambda: stepper_of(task, world, precision))


def _costs(study: Study, settings: Settings, task: Task, make_stepper: Callable[[], Stepper]) -> _Cost:
    t = task.settings.training
    evaluations = 1 + (math.ceil(task.steps / t.eval_every) if t.eval_every else 1)
    judge = judge_of(study, settings)
    for _ in range(2):  # the first one also wakes everything up; where it is long, that is no matter
        began = time.perf_counter()
        evaluate(task.model, task.validation)
        if judge is not None:
            judge(task.model)
        evaluation = time.perf_counter() - began
        if evaluation > LONG:
            break
    parameters = count_parameters(task.model).total
    if counts(task):  # one pass over everything
        began = time.perf_counter()
        task.model.estimate(iter([task.batch(0)]))  # type: ignore[operator]
        seconds = time.perf_counter() - began
        return _Cost(seconds, seconds, seconds, evaluation, task.steps, 1, 1.0, 0, _sampling(study, settings, task))
    stepper, seconds_of = make_stepper(), []
    for step in range(1 + STEPS):  # the first one pays for things that happen once; the model is thrown away afterwards
        began = time.perf_counter()
        stepper.take(step, task.batch(step))
        settle(stepper.world.device)
        seconds_of.append(time.perf_counter() - began)
    steady = sorted(seconds_of[1:])
    # Newest and best checkpoint, each with AdamW's two averages.
    kept = 2 if t.checkpoint_every or t.patience else 1
    return _Cost(
        statistics.median(steady),
        steady[0],
        steady[-1],
        evaluation,
        task.steps,
        evaluations,
        float(parameters),
        kept * 3 * trainable_bytes(task.model),
        _sampling(study, settings, task),
    )


def _sampling(study: Study, settings: Settings, task: Task) -> float:
    """Seconds of what is asked of a finished run's texts."""
    if "sampling" not in study.judges:
        return 0.0
    began = time.perf_counter()
    written_figures(task.model, dataset_of(settings), Sampler(), seed=settings.seed, held_out_loss=0.0)
    return time.perf_counter() - began
