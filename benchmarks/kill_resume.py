"""Can a run be stopped at any moment and end as if it had not been? Interrupt, terminate and kill it at random; compare the bits.

    undisturbed   train ------------------------------------> weights, optimizer, rows
    disturbed     train --x   resume ----x   resume ---------> the same?          x: SIGINT, SIGTERM or SIGKILL

Runs the command a person runs, in processes of its own. Many checkpoints, so that many signals arrive while one is written.

    python benchmarks/kill_resume.py [--times 50] [--seed 0] [--steps 60]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from picolab.runs.folder import META, WEIGHTS, Run
from picolab.train.checkpoints import load_state

from harness import finish

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
CLOCKS = ("seconds", "tokens_per_second")
MOST_A_RUN = 6
"""Signals one run may get before it is left in peace."""


@dataclass
class Trial:
    """One disturbed run: what hit it, after which step, and how it ended."""

    hits: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)

    @property
    def ends(self) -> str:
        return "OTHER " + ", ".join(self.differs) if self.differs else "the same bits"


def command(folder: Path, steps: int, *, resume: bool) -> list[str]:
    """A small transformer on the shipped stories: a second or two of training, a checkpoint every third step."""
    picolab = [sys.executable, "-m", "picolab", "train"]
    if resume:
        return [*picolab, "--resume", str(folder)]
    settings = {
        "model": "softmax-pico", "data": "stories", "tokenizer": "bytes", "steps": steps, "batch-size": 4, "context-length": 64,
        "d-model": 32, "d-ff": 64, "dropout": 0.1, "dtype": "float32", "checkpoint-every": 3, "eval-every": 7, "eval-batches": 2,
        "sample-every": 11, "sample-tokens": 8, "out": folder,
    }  # fmt: skip
    return [*picolab, *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]


def start(folder: Path, steps: int, *, resume: bool) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = command(folder, steps, resume=resume)
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)


def finish_run(folder: Path, steps: int, *, resume: bool) -> None:
    with start(folder, steps, resume=resume) as process:
        _, said = process.communicate()
    if process.returncode:
        sys.exit(f"the command failed with {process.returncode}:\n{said.decode()}")


def disturb(folder: Path, steps: int, random_: random.Random, *, seconds: float, resume: bool) -> str | None:
    """Start or resume the run and hit it at a random moment of its training; None where it had ended before."""
    number = random_.choice(SIGNALS)
    log = folder / "log.txt"
    before = log.stat().st_size if log.exists() else 0
    with start(folder, steps, resume=resume) as process:
        # Training has begun when the run says so in its log.
        while process.poll() is None and (not log.exists() or log.stat().st_size == before):
            time.sleep(0.001)
        time.sleep(random_.uniform(0, seconds))
        process.send_signal(number)
        _, said = process.communicate()
    run = Run(folder)
    if run.status == "finished":
        return None
    expected = {signal.SIGKILL: (-9, "killed")}.get(number, (130, "interrupted"))
    if (process.returncode, run.status) != expected:
        sys.exit(f"{number.name} ended with {process.returncode} and status {run.status}:\n{said.decode()}")
    rows = run.metrics()
    return f"{number.name[3:]}@{rows[-1]['step'] if rows else '-'}"


def differences(run: Run, other: Run) -> list[str]:
    """What is not the same bits in two finished runs."""
    found = []
    if rows(run) != rows(other):
        found.append("rows")
    if run.samples != other.samples:
        found.append("samples")
    a, b = run.last(), other.last()
    if a is None or b is None or a.step != b.step:
        return [*found, "last checkpoint"]
    if (a.path / WEIGHTS).read_bytes() != (b.path / WEIGHTS).read_bytes():
        found.append("weights")
    mine, theirs = load_state(a), load_state(b)
    same = mine.optimizer.keys() == theirs.optimizer.keys() and all(
        torch.equal(value, theirs.optimizer[name][key])
        for name, state in mine.optimizer.items()
        for key, value in state.items()
    )
    if not same:
        found.append("optimizer")
    mine.progress.seconds = theirs.progress.seconds = 0.0
    if mine.progress != theirs.progress:
        found.append("progress")
    return found


def rows(run: Run) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in run.metrics()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50, help="signals in all")
    parser.add_argument("--seed", type=int, default=0, help="decides signals and moments")
    parser.add_argument("--steps", type=int, default=60, help="steps of a run")
    given, _ = parser.parse_known_args()
    random_ = random.Random(given.seed)
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "undisturbed"
        finish_run(whole, given.steps, resume=False)
        seconds = Run(whole).metrics()[-1]["seconds"]
        while sum(len(trial.hits) for trial in trials) < given.times:
            trial, folder = Trial(), Path(scratch) / f"run-{len(trials)}"
            trials.append(trial)
            for _ in range(min(MOST_A_RUN, given.times - sum(len(trial.hits) for trial in trials))):
                resume = (folder / META).exists()
                last = Run(folder).last() if resume else None
                left = seconds * (1 - (last.step if last else 0) / given.steps)
                if (hit := disturb(folder, given.steps, random_, seconds=left, resume=resume)) is None:
                    break
                trial.hits.append(hit)
            finish_run(folder, given.steps, resume=True)
            trial.differs = differences(Run(folder), Run(whole))
            print(f"run {len(trials)}: {trial.ends}  {' '.join(trial.hits)}", file=sys.stderr, flush=True)
    kinds = Counter(hit.partition("@")[0] for trial in trials for hit in trial.hits)
    bad = sum(bool(trial.differs) for trial in trials)
    struck = ", ".join(f"{count} SIG{name}" for name, count in sorted(kinds.items()))
    finish(
        "kill_resume",
        "Stopped at random moments, and gone on: the same bits?",
        ["run", "signals, each with the last step in metrics.jsonl after it struck", "ends with"],
        [
            [str(number), " ".join(trial.hits) or "none came in time", trial.ends]
            for number, trial in enumerate(trials, start=1)
        ],
        [
            f"{sum(kinds.values())} signals ({struck}) in {len(trials)} runs of {given.steps} steps: "
            f"{len(trials) - bad} ended with the bits of an undisturbed run, {bad} did not",
            "compared: every row but for its clock, samples, weights, optimizer, progress; float32, one CPU thread",
        ],
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
