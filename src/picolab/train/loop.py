"""The training loop: make the objective small, step by step, and lose nothing on the way.

    settings -> task -> [ batch(step) -> step -> evaluate? -> row -> sample? -> checkpoint? ] x steps -> Run on disk

Knows no objective, model or dataset by name, prints nothing: what happens is told as events (train/events.py). A model that counts
instead of descending (`estimate`) goes the same way, in one step over all batches.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from picolab.data.batch import Rows
from picolab.errors import BadData, BadSetting, Diverged, PicolabError
from picolab.measure.loss import Evaluation, evaluate
from picolab.runs.folder import Run, create_run
from picolab.runs.settings import Settings, differences
from picolab.sample.generate import generate
from picolab.sample.pick import Sampler
from picolab.train import checkpoints
from picolab.train.checkpoints import Progress, TrainingState
from picolab.train.distributed import World, joined
from picolab.train.estimate import estimate
from picolab.train.events import Counting, Estimate, Event, Reading, Reason
from picolab.train.interruptions import Interruptions
from picolab.train.optimizers import load_optimizer_state, optimizer_state
from picolab.train.precision import COUNTING, Precision, choose
from picolab.train.record import Record, Report, counts
from picolab.train.setup import next_token_task
from picolab.train.step import Stepper, stepper_of
from picolab.train.task import Task, TaskOf
from picolab.train.track import check_tracking

RECENT_STEPS = 20
"""How many steps the ETA looks back: enough for a steady figure, few enough to follow the machine."""

SAMPLER = Sampler(top_p=0.95)


def train(
    settings: Settings,
    *,
    report: Report | None = None,
    resume: Run | None = None,
    task_of: TaskOf | None = None,
) -> Run:
    """Train as the settings say and leave a run on disk; `resume` goes on with one, from its newest whole checkpoint.

    `task_of` makes another task than the usual one, next tokens.

    An interrupted run comes back as one whose `status` is `interrupted`; a run whose numbers went bad raises `Diverged`.
    Under torchrun every process calls this; the first one writes and reports.
    """
    check_tracking(settings.training.track)
    with joined(settings.training.device) as world:
        precision = choose(settings.training.dtype, world.device)
        tell = report if report is not None and world.first else _ignore
        make = task_of or partial(
            next_token_task,
            reading=lambda done, total: tell(Reading(done=done, total=total)),
            counting=lambda done, total: tell(Counting(done=done, total=total)),
        )
        task = make(settings.changed(training={"dtype": precision.name}))
        if resume is not None:
            _check_same_run(resume, task)
        path = resume.path if resume is not None else create_run(task.settings).path if world.first else None
        run = Run(world.agree(path))
        with run.writing() if world.first else nullcontext(), Interruptions() as interruptions:
            used = COUNTING if counts(task) else precision
            record = Record(run, task, world, used, tell)
            _Training(task, world, used, record, interruptions).whole(resumed=resume is not None)
    return run


def _check_same_run(run: Run, task: Task) -> None:
    """Refuse to go back, or on with other data, another model or seed: that would be another run under the old name."""
    for name, (before, now) in differences(run.settings, task.settings).items():
        if name == "seed" or name.split(".")[0] in ("data", "model", "dpo"):
            raise BadSetting(
                f"`{run.path}` was begun with `{name}` {before}, not {now}",
                hint="leave it out to go on with the run, or start a new one without --resume",
            )
    last = run.last()
    if last is not None and last.step > task.steps:
        raise BadSetting(
            f"`{run.path}` has {last.step:,} steps done, more than the {task.steps:,} asked for",
            hint="more steps, or leave them out to go on with the run",
        )
    before = run.meta.get("data", {}).get("fingerprint", task.data_fingerprint)
    if before != task.data_fingerprint:
        raise BadData(
            f"`{task.settings.data.spec}` has changed since `{run.path}` was begun with it",
            hint="bring the text back as it was, or start a new run without --resume",
        )


def _ignore(event: Event) -> None:
    """Nobody listens."""


@dataclass
class _Training:
    """One call of `train`: a task, and how far it has come."""

    task: Task
    world: World
    precision: Precision
    record: Record
    interruptions: Interruptions
    progress: Progress = field(default_factory=Progress)
    saved_step: int = -1
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))
    evaluation_seconds: float = 0.0

    def whole(self, *, resumed: bool) -> None:
        """From the first step that is missing to the end, with a status on disk whatever happens."""
        try:
            kept = self._restore() if resumed else None
            self.record.start_clock(self.progress.seconds)
            self.record.opened(self.progress.step, resumed=kept is not None)
            with self.world.noticing_loss():
                reason = self._count() if counts(self.task) else self._descend(kept)
        except Diverged as error:
            self._stopped("diverged", str(error))
            raise
        except KeyboardInterrupt as error:
            self._stopped("interrupted", str(error))
            raise
        except BaseException as error:
            # The first error is the one to tell: on a full disk the status cannot be written either.
            with suppress(PicolabError):
                self._stopped("failed", str(error) or type(error).__name__)
            raise
        self._stopped(reason, _SAYS[reason].format(step=self.progress.step, steps=self.task.steps))

    def _stopped(self, reason: Reason, says: str) -> None:
        self.record.stopped(reason, self.progress, says)

    # The two ways to learn.

    def _descend(self, kept: TrainingState | None) -> Reason:
        task, progress = self.task, self.progress
        stepper = stepper_of(task, self.world, self.precision)
        if kept is not None:
            load_optimizer_state(task.model, stepper.optimizer, kept.optimizer)
        self._start(stepper, resumed=kept is not None)
        while progress.step < task.steps:
            if 0 < task.settings.training.patience <= progress.without_improvement:
                self._sample()
                self._save(stepper.optimizer)
                return "early stop"
            # A signal may reach one process before another: all must stop at the same step.
            if self.world.sum(float(self.interruptions.received is not None))[0] > 0:
                self._save(stepper.optimizer)
                return "interrupted"
            self._one_step(stepper)
        return "finished"

    def _count(self) -> Reason:
        """A model that counts reads all batches once; between beginning and end there is nothing to go on from."""
        task, progress = self.task, self.progress
        if progress.step >= task.steps:
            return "finished"
        self._start(None, resumed=False)
        reader, began = _Reader(task, self.interruptions), time.perf_counter()
        try:
            task.model.estimate(reader)  # type: ignore[operator]  # `counts` looked
        except _Interrupted:
            return "interrupted"
        rate = reader.tokens / (time.perf_counter() - began)
        progress.step, progress.tokens = task.steps, reader.tokens
        evaluation = self._evaluate()
        self.record.row(progress, evaluation, tokens_per_second=rate)
        if evaluation is not None:
            self.record.evaluated(progress, evaluation)
        self._sample()
        self._save(None, evaluation)
        return "finished"

    # One step, and what follows it.

    def _one_step(self, stepper: Stepper) -> None:
        progress, t = self.progress, self.task.settings.training
        began = time.perf_counter()
        taken = stepper.take(progress.step, self.task.batch(progress.step))
        seconds = time.perf_counter() - began
        self.recent.append(seconds)
        progress.step += 1
        progress.tokens += taken.tokens
        last = progress.step == self.task.steps
        checkpoint = last or _due(progress.step, t.checkpoint_every)
        evaluation = self._evaluate() if checkpoint or _due(progress.step, t.eval_every) else None
        rate = taken.tokens / seconds
        self.record.row(progress, evaluation, taken, rate)
        self.record.stepped(progress, taken, tokens_per_second=rate, eta_seconds=self._remaining())
        if evaluation is not None:
            self.record.evaluated(progress, evaluation)
        if last or _due(progress.step, t.sample_every):
            self._sample()
        improved = evaluation is not None and progress.without_improvement == 0
        if checkpoint or (improved and t.patience > 0):  # who waits for no improvement wants the best one kept
            self._save(stepper.optimizer, evaluation)

    def _evaluate(self) -> Evaluation | None:
        """The validation loss now, and what it says about progress; None where there is nothing to evaluate on."""
        if not self.task.validation:
            return None
        began = time.perf_counter()
        with self.precision.autocast():
            mine = evaluate(self.task.model, self.task.validation, n_bytes=self.task.validation_bytes)
            if self.task.judge is not None:
                mine = replace(mine, figures=self.task.judge(self.task.model))
        evaluation: Evaluation = self.world.agree(mine)
        self.evaluation_seconds = time.perf_counter() - began
        progress = self.progress
        if progress.step > 0:
            better = evaluation.nats_per_token < progress.best
            progress.without_improvement = 0 if better else progress.without_improvement + 1
            progress.best = min(progress.best, evaluation.nats_per_token)
        return evaluation

    def _sample(self) -> None:
        task, length = self.task, self.task.settings.training.sample_tokens
        if task.tokenizer is None or not length:
            return
        model = checkpoints.plain(task.model)
        if self.world.first:
            written = generate(
                model,
                task.tokenizer,
                task.prompt,
                max_new_tokens=length,
                sampler=SAMPLER,
                seed=task.settings.seed,
            )
            self.record.sampled(self.progress.step, written)

    def _save(self, optimizer: torch.optim.Optimizer | None, evaluation: Evaluation | None = None) -> None:
        task, progress = self.task, self.progress
        if progress.step == self.saved_step:
            return
        model = checkpoints.plain(task.model)
        state = {} if optimizer is None else optimizer_state(task.model, optimizer)
        best = evaluation is not None and evaluation.nats_per_token < progress.best_saved
        if best and evaluation is not None:
            progress.best_saved, progress.best_saved_step = evaluation.nats_per_token, progress.step
        progress.seconds = self.record.seconds()
        if self.world.first:
            saved = checkpoints.save(
                self.record.run, model, task.tokenizer, state, progress, keep=task.settings.training.keep
            )
            self.record.saved(saved, best=best)
        self.saved_step = progress.step

    # The beginning.

    def _restore(self) -> TrainingState | None:
        """Go back to the newest whole checkpoint. None: there is none, and the run begins again."""
        run = self.record.run
        last = self.world.agree(run.last())
        if self.world.first:
            for folder in run.torn():
                run.append_log(f"{folder.name} is torn and passed over")
            run.cut_rows(-1 if last is None else last.step)
        if last is None:
            return None
        state = checkpoints.load_state(last)
        checkpoints.load_weights(last, self.task.model)
        if self.world.first:
            checkpoints.point(run, last, state.progress)
        self.progress, self.saved_step = state.progress, last.step
        return state

    def _start(self, stepper: Stepper | None, *, resumed: bool) -> None:
        """Judge the untrained model, measure a few steps, say what is coming."""
        progress, t = self.progress, self.task.settings.training
        evaluation = self._evaluate() if t.eval_every and not resumed else None
        if evaluation is not None:
            self.record.row(progress, evaluation)
        measured = None if stepper is None or progress.step >= self.task.steps else self._estimate(stepper)
        self.record.started(progress.step, measured, resumed=resumed)
        if evaluation is not None:
            self.record.evaluated(progress, evaluation)
        if t.sample_every and not resumed:
            self._sample()

    def _estimate(self, stepper: Stepper) -> Estimate:
        seconds = self.record.seconds()
        measured = estimate(
            stepper,
            self.task.batch,
            first=self.progress.step,
            steps=self.task.steps - self.progress.step,
            evaluation_seconds=self._evaluations_left() * self.evaluation_seconds,
        )
        self.record.start_clock(seconds)  # steps that teach nothing are not the run's time
        return measured

    def _evaluations_left(self) -> int:
        every = self.task.settings.training.eval_every
        return 1 + (self.task.steps // every - self.progress.step // every if every else 0)

    def _remaining(self) -> float:
        left = self.task.steps - self.progress.step
        step_seconds = sum(self.recent) / len(self.recent)
        return left * step_seconds + (self._evaluations_left() * self.evaluation_seconds if left else 0.0)


class _Interrupted(Exception):
    """A signal came while batches were counted."""


@dataclass
class _Reader:
    """The batches of a whole run in order, for a model that counts; a signal ends the reading."""

    task: Task
    interruptions: Interruptions
    tokens: int = 0

    def __iter__(self) -> Iterator[Rows]:
        self.tokens = 0
        for step in range(self.task.steps):
            if self.interruptions.received is not None:
                raise _Interrupted
            batch = self.task.batch(step)
            self.tokens += batch.n_tokens
            yield batch


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


_SAYS: dict[Reason, str] = {
    "finished": "all {steps} steps are done",
    "early stop": "the validation loss has stopped falling at step {step} of {steps}",
    "interrupted": "everything up to step {step} of {steps} is saved",
}
