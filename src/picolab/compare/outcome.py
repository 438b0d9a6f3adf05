"""What came of one run: trained or taken up where it stopped, judged on the whole held-out split, kept on disk.

    Settings -> train (or resume) -> last checkpoint -> loss, samples, attention, size -> OUT/outcomes/MODEL_seed-K.json

An outcome on disk is final: it is read, never computed again. A run that diverged has one too, with the reason.
"""

from __future__ import annotations

import functools
import json
import math
import shutil
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from picolab.compare.exhibits import attention_over, samples_of, size_of
from picolab.compare.lengths import LengthCost, costs_by_length
from picolab.compare.plan import RUNS, Plan, run_name
from picolab.compare.result import Attention, Sample, SeedRun, Size
from picolab.compare.sequences import Sequences, numeric_data, study_sequences
from picolab.data.dataset import Dataset
from picolab.data.loader import Loader
from picolab.errors import BadCheckpoint, Diverged
from picolab.measure.loss import evaluate
from picolab.measure.memory import PeakMemory
from picolab.runs import atomic
from picolab.runs.folder import META, SETTINGS, Run
from picolab.runs.settings import Settings
from picolab.train.events import Event
from picolab.train.loop import train
from picolab.train.setup import next_token_task
from picolab.train.task import TaskOf
from picolab.weights.checkpoint import load_model, load_tokenizer

OUTCOMES = "outcomes"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Figures of one model with one seed. Samples, attention and what longer texts cost are there for the first seed only: one is
    enough to look at. `sequences` and `costs` are for integer sequences."""

    model: str
    run: SeedRun
    scored_tokens: int
    device: str
    size: Size | None
    samples: tuple[Sample, ...]
    attention: Attention | None
    sequences: Sequences | None = None
    costs: tuple[LengthCost, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Held:
    """The held-out text all models are judged on, and what they are shown of it."""

    dataset: Dataset
    prompt: str
    text: str


@functools.cache
def _adapter() -> TypeAdapter[Outcome]:
    return TypeAdapter(Outcome)


def load_outcome(folder: Path, model: str, seed: int) -> Outcome | None:
    """The outcome on disk; None where the run is still to be done."""
    path = _path(folder, model, seed)
    if not path.exists():
        return None
    try:
        loaded: Outcome = _adapter().validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise BadCheckpoint(
            f"`{path}` is no outcome of a run", hint="remove it: the run is then judged again"
        ) from error
    return loaded


def make_outcome(
    plan: Plan, folder: Path, model: str, seed: int, held: Held, *, report: Callable[[Event], None]
) -> Outcome | None:
    """Train, judge and keep; None where the training was interrupted, which a later call goes on with."""
    settings = plan.settings(model, seed, folder)
    path = folder / RUNS / run_name(model, seed)
    memory = PeakMemory()
    try:
        run = take_up_or_train(settings, path, memory, report)
        if run.status == "interrupted":
            return None
        outcome = _judged(plan, model, seed, run, held, peak_memory=memory.extra_bytes or None)
    except Diverged as error:
        outcome = _failed(model, seed, Run(path), str(error))
    with atomic.reported(folder):
        (folder / OUTCOMES).mkdir(exist_ok=True)
    atomic.write_json(_path(folder, model, seed), _adapter().dump_python(outcome, mode="json"))
    return outcome


def take_up_or_train(
    settings: Settings,
    path: Path,
    memory: AbstractContextManager[object],
    report: Callable[[Event], None],
    *,
    task_of: TaskOf = next_token_task,
) -> Run:
    """The run of a folder, finished: as it lies there, from where it stopped, or from the beginning. `Diverged` where it did."""
    if (path / SETTINGS).exists() and (path / META).exists():
        run = Run.open(path)
        if run.status == "finished":
            return run
        if run.status == "diverged":
            raise Diverged(str(run.meta.get("says")))
        with memory:
            return train(settings, report=report, resume=run, task_of=task_of)
    if path.exists():  # killed while the folder was being made: it lies in our own folder and holds no run
        shutil.rmtree(path)
    with memory:
        return train(settings, report=report, task_of=task_of)


def _judged(plan: Plan, model: str, seed: int, run: Run, held: Held, *, peak_memory: int | None) -> Outcome:
    last = run.last()
    if last is None:
        raise BadCheckpoint(f"`{run.path}` is finished and has no checkpoint", hint="remove the folder to train again")
    settings, rows = run.settings, run.metrics()
    trained, tokenizer = load_model(last.path), load_tokenizer(last.path)
    context = settings.data.context_length or trained.config.context_length
    store = held.dataset.validation
    batches = Loader(store, batch_size=settings.training.batch_size, context_length=context, seed=0).epoch()
    evaluation = evaluate(trained, batches, n_bytes=store.n_bytes)
    if not math.isfinite(evaluation.nats_per_token):
        raise Diverged(f"the held-out loss is {evaluation.nats_per_token}")
    rates = [row["tokens_per_second"] for row in rows if row.get("tokens_per_second")]
    shown = seed == plan.seeds[0]
    return Outcome(
        model=model,
        run=SeedRun(
            seed=seed,
            run=_relative(model, seed),
            status="finished",
            loss=evaluation.nats_per_token,
            bits_per_byte=evaluation.bits_per_byte,
            tokens=rows[-1]["tokens"],
            seconds=rows[-1]["seconds"],
            tokens_per_second=statistics.median(rates) if rates else None,
            peak_memory=peak_memory,
        ),
        scored_tokens=evaluation.tokens,
        device=str(run.meta.get("device")),
        size=size_of(trained),
        samples=samples_of(trained, tokenizer, held.prompt, seed=seed, max_new_tokens=plan.new_tokens) if shown else (),
        attention=attention_over(trained, tokenizer, held.text, name=model, seed=seed) if shown else None,
        sequences=study_sequences(trained, tokenizer, held.dataset, plan.data, name=model, seed=seed),
        costs=costs_by_length(trained) if shown and numeric_data(plan.data) else (),
    )


def _failed(model: str, seed: int, run: Run, reason: str) -> Outcome:
    meta: dict[str, Any] = run.meta
    return Outcome(
        model=model,
        run=SeedRun(seed=seed, run=_relative(model, seed), status="failed", reason=reason, tokens=meta.get("tokens")),
        scored_tokens=0,
        device=str(meta.get("device")),
        size=None,
        samples=(),
        attention=None,
    )


def _relative(model: str, seed: int) -> str:
    return f"{RUNS}/{run_name(model, seed)}"


def _path(folder: Path, model: str, seed: int) -> Path:
    return folder / OUTCOMES / f"{run_name(model, seed)}.json"
