"""What a training leaves behind and tells: rows, samples, status on disk, and events for whoever listens.

facts of the loop -> metrics.jsonl samples.jsonl meta.json log.txt        written by the first process, read by anyone
                  -> Started Step Evaluated Sampled Saved Stopped         heard by the caller
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from picolab.measure.loss import Evaluation
from picolab.measure.memory import resident_bytes
from picolab.measure.parameters import count_parameters
from picolab.runs.folder import Checkpoint, Run
from picolab.sample.generate import Generation
from picolab.train.checkpoints import Progress
from picolab.train.distributed import World
from picolab.train.events import Estimate, Evaluated, Event, Reason, Sampled, Saved, Started, Step, Stopped
from picolab.train.optimizers import decay_groups
from picolab.train.precision import Precision
from picolab.train.step import Taken
from picolab.train.task import Task
from picolab.train.track import Nobody, Tracker, tracker_of

Report = Callable[[Event], None]


@dataclass
class Record:
    """The pen of a run. Every process holds one; only the first one's writes."""

    run: Run
    task: Task
    world: World
    precision: Precision
    report: Report
    clock_began: float = 0.0
    tracker: Tracker = field(default_factory=Nobody)

    def seconds(self) -> float:
        """The run's clock: training, evaluations and checkpoints of all its processes in turn, pauses left out."""
        return time.perf_counter() - self.clock_began

    def start_clock(self, seconds: float) -> None:
        self.clock_began = time.perf_counter() - seconds

    def opened(self, step: int, *, resumed: bool) -> None:
        """Say on disk what is about to run, and where."""
        if not self.world.first:
            return
        task, settings = self.task, self.task.settings
        self.tracker = tracker_of(settings.training.track, self.run.path, step=step if resumed else -1)
        counted = count_parameters(task.model)
        groups = [] if counts(task) else decay_groups(task.model, settings.optimizer.weight_decay)
        self.run.write_settings(settings)
        self.run.update_meta(
            status="running",
            process=os.getpid(),
            steps=task.steps,
            parameters={"total": counted.total, "trainable": counted.trainable, "frozen": counted.frozen},
            decay={group.name: {"weight_decay": group.weight_decay, "parameters": group.count} for group in groups},
            device=str(self.world.device),
            processes=self.world.size,
            strategy=settings.training.strategy if self.world.size > 1 else None,
            dtype={"type": self.precision.name, "reason": self.precision.reason},
            data={"fingerprint": task.data_fingerprint, **task.facts},
        )
        self.run.append_log(f"{'goes on after' if resumed else 'begins at'} step {step} of {task.steps}")

    def started(self, step: int, measured: Estimate | None, *, resumed: bool) -> None:
        counted = count_parameters(self.task.model)
        self.report(
            Started(
                run=self.run.path,
                preset=self.task.settings.model.preset,
                parameters=counted.total,
                trainable=counted.trainable,
                vocab_size=self.task.model.config.vocab_size,
                device=str(self.world.device),
                processes=self.world.size,
                dtype=self.precision.name,
                dtype_reason=self.precision.reason,
                step=step,
                steps=self.task.steps,
                tokens_planned=round(self.task.steps * self.task.tokens_per_step),
                resumed=resumed,
                estimate=measured,
                notes=self.task.notes,
            )
        )

    def row(
        self,
        progress: Progress,
        evaluation: Evaluation | None,
        taken: Taken | None = None,
        tokens_per_second: float | None = None,
    ) -> None:
        """One row of metrics.jsonl: what was not measured at this step is not in it."""
        progress.seconds = self.seconds()
        row = {
            "step": progress.step,
            "tokens": progress.tokens,
            "seconds": round(progress.seconds, 4),
            "train/loss": None if taken is None else taken.loss,
            "val/loss": None if evaluation is None else evaluation.nats_per_token,
            "val/bits_per_byte": None if evaluation is None else evaluation.bits_per_byte,
            "lr": None if taken is None else taken.lr,
            "grad_norm": None if taken is None else taken.grad_norm,
            "tokens_per_second": tokens_per_second,
            **(taken.figures if taken is not None else {}),
            **(evaluation.figures if evaluation is not None else {}),
        }
        if self.world.first:
            measured = {name: value for name, value in row.items() if value is not None}
            self.run.append_metrics(measured)
            self.tracker.row(measured)

    def stepped(self, progress: Progress, taken: Taken, *, tokens_per_second: float, eta_seconds: float) -> None:
        self.report(
            Step(
                step=progress.step,
                steps=self.task.steps,
                tokens=progress.tokens,
                loss=taken.loss,
                lr=taken.lr,
                grad_norm=taken.grad_norm,
                seconds=progress.seconds,
                tokens_per_second=tokens_per_second,
                eta_seconds=eta_seconds,
                figures=taken.figures,
            )
        )

    def evaluated(self, progress: Progress, evaluation: Evaluation) -> None:
        self.report(
            Evaluated(
                step=progress.step,
                loss=evaluation.nats_per_token,
                bits_per_byte=evaluation.bits_per_byte,
                best=progress.step > 0 and progress.without_improvement == 0,
                without_improvement=progress.without_improvement,
                figures=evaluation.figures,
            )
        )

    def sampled(self, step: int, written: Sequence[Generation]) -> None:
        for one in written:
            self.run.append_sample({"step": step, "prompt": one.prompt, "text": one.text})
            self.report(Sampled(step=step, prompt=one.prompt, text=one.text))

    def saved(self, checkpoint: Checkpoint, *, best: bool) -> None:
        self.run.append_log(f"saved {checkpoint.path.name}")
        self.report(Saved(step=checkpoint.step, path=checkpoint.path, best=best))

    def stopped(self, reason: Reason, progress: Progress, says: str) -> None:
        """How it ended and how to go on. The event comes first: on a full disk the files may refuse."""
        if not self.world.first:
            return
        self.tracker.close()
        status = "finished" if reason == "early stop" else reason
        go_on = None if status == "finished" else f"picolab train --resume {self.run.path}"
        seconds = self.seconds()
        self.report(Stopped(reason=reason, step=progress.step, seconds=seconds, says=says, go_on=go_on))
        self.run.append_log(f"{reason} at step {progress.step}: {says}")
        self.run.update_meta(
            status=status,
            reason=reason,
            says=says,
            step=progress.step,
            tokens=progress.tokens,
            seconds=round(seconds, 3),
            resident_bytes=resident_bytes(),
        )


def counts(task: Task) -> bool:
    """Whether the model learns by counting, in one pass, instead of descending a gradient."""
    return hasattr(task.model, "estimate")
