"""One trial: its run trained, or taken up where it stopped, and its figures read from what the run left on disk.

    Trial -> Settings -> train (judges look on, the pruner may end it) -> metrics.jsonl -> Outcome

Nothing is measured in memory only: whoever has the run's folder can check every figure.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from picolab.compare.outcome import take_up_or_train
from picolab.errors import BadSetting, Diverged, PicolabError
from picolab.runs.folder import META, Run
from picolab.runs.settings import Settings
from picolab.studies.judges import judge_of, sampled_figures
from picolab.studies.launch import run_by_torchrun
from picolab.studies.outcome import Outcome, Status
from picolab.studies.points import RUNS, Trial, sampler_of, settings_of
from picolab.studies.pruning import median_says_stop
from picolab.studies.storage import Storage
from picolab.studies.study import Study
from picolab.train.events import Evaluated, Event
from picolab.train.setup import next_token_task
from picolab.train.task import Task

LAST = 0.1
"""Share of a run's steps whose losses make its training loss, where no judge measured it."""


class Pruned(PicolabError):
    """A run ended early because others did better."""


def run_trial(study: Study, storage: Storage, trial: Trial, *, report: Callable[[Event], None]) -> Outcome | None:
    """Train, judge and record; None where the training was interrupted, which a later call goes on with."""
    settings = settings_of(study, trial.point, trial.seed, storage.folder, trial.run)
    path = storage.folder / RUNS / trial.run
    started = datetime.now(UTC)
    status: Status = "finished"
    reason: str | None = None
    try:
        run = _trained(study, storage, trial, settings, path, report)
        if run.status == "interrupted":
            return None
    except Pruned as error:
        run, status, reason = Run(path), "pruned", str(error)
        run.update_meta(status="pruned")
    except (Diverged, BadSetting) as error:  # a search may draw sizes that do not go together
        run, status, reason = Run(path), "failed", str(error)
    rows = run.metrics()
    meta = run.meta if (path / META).exists() else {}
    figures = figures_of(rows, meta) if status == "finished" else {}
    if status == "finished" and "sampling" in study.judges:
        figures |= sampled_figures(run, sampler_of(study, trial.point), held_out_loss=figures["loss"])
    outcome = Outcome(
        name=trial.name,
        number=trial.number,
        point=dict(trial.point),
        seed=trial.seed,
        run=f"{RUNS}/{trial.run}",
        status=status,
        reason=reason,
        figures=figures,
        course=course_of(rows),
        device=str(meta.get("device", "")),
        started=started.isoformat(timespec="seconds"),
        seconds=round((datetime.now(UTC) - started).total_seconds(), 3),
        process=os.getpid(),
        data=data_of(meta) if status == "finished" else {},
    )
    storage.keep(outcome)
    return outcome


def _trained(
    study: Study, storage: Storage, trial: Trial, settings: Settings, path: Path, report: Callable[[Event], None]
) -> Run:
    if study.processes > 1:
        return run_by_torchrun(settings, storage, trial.run, path, processes=study.processes, report=report)
    watched = _watched(study, storage, trial, report)
    return take_up_or_train(settings, path, nullcontext(), watched, task_of=task_of(study))


def task_of(study: Study) -> Callable[[Settings], Task]:
    """The usual task, with the study's judges looking on at every evaluation."""

    def judged(settings: Settings) -> Task:
        return replace(next_token_task(settings), judge=judge_of(study, settings))

    return judged


def figures_of(rows: Sequence[dict[str, Any]], meta: dict[str, Any]) -> dict[str, float]:
    """The last figures of a finished run, from its metrics and what it says of itself."""
    evaluated = [row for row in rows if row.get("val/loss") is not None]
    last = evaluated[-1]
    best = min((row for row in evaluated if row["step"] > 0), key=lambda row: row["val/loss"], default=last)
    figures: dict[str, float] = {"loss": last["val/loss"], "best_loss": best["val/loss"], "best_step": best["step"]}
    if last.get("val/bits_per_byte") is not None:
        figures["bits_per_byte"] = last["val/bits_per_byte"]
    losses = [row["train/loss"] for row in rows if row.get("train/loss") is not None]
    if "train/whole" in last:
        figures["train_loss"] = last["train/whole"]
        figures["gap"] = last["val/loss"] - last["train/whole"]
    elif losses:
        figures["train_loss"] = statistics.fmean(losses[-max(1, round(len(losses) * LAST)) :])
    figures |= {name.partition("/")[2]: last[name] for name in last if name.startswith("samples/")}
    rates = [row["tokens_per_second"] for row in rows if row.get("tokens_per_second")]
    if rates:
        figures["tokens_per_second"] = statistics.median(rates)
    figures |= {"seconds": rows[-1]["seconds"], "tokens": rows[-1]["tokens"], "steps": rows[-1]["step"]}
    parameters = meta.get("parameters", {}).get("total")
    if parameters:
        figures |= {"parameters": parameters, "flops": 6.0 * parameters * rows[-1]["tokens"]}
    return figures


def data_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What a run says of its data that a study needs: other machines do not see the run."""
    data = meta.get("data", {})
    floors = {split["name"]: split["floor"] for split in data.get("splits", ())}
    return {
        "vocab_size": data.get("vocab_size"),
        "floor": floors.get("validation"),
        "held_out": bool(data.get("held_out", True)),
    }


def course_of(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[float | None, ...]]:
    """What was measured at each evaluation, column by column."""
    evaluated = [row for row in rows if row.get("val/loss") is not None]
    columns = {"step": "step", "tokens": "tokens", "loss": "val/loss", "train_loss": "train/whole"}
    columns |= {name.partition("/")[2]: name for row in evaluated for name in row if name.startswith("samples/")}
    found = {name: tuple(row.get(key) for row in evaluated) for name, key in columns.items()}
    return {name: column for name, column in found.items() if any(value is not None for value in column)}


def _watched(study: Study, storage: Storage, trial: Trial, report: Callable[[Event], None]) -> Callable[[Event], None]:
    """The listener of a run that others may outdo."""
    losses: list[float] = []

    def watch(event: Event) -> None:
        report(event)
        if study.pruning == "none" or not isinstance(event, Evaluated) or event.step == 0:
            return
        losses.append(event.loss)
        said = median_says_stop(event.step, losses, storage.outcomes(), seed=trial.seed)
        if said is not None:
            mine, median = said
            raise Pruned(
                f"its best loss by step {event.step} was {mine:.3f}, the median of earlier trials {median:.3f}"
            )

    return watch
