"""One run by several processes: torchrun starts `picolab train`, and what its rows say is told on.

    Settings -> claims/RUN.yaml -> torchrun -> picolab train (rank 0 writes the run) -> metrics.jsonl -> Step events

The launcher holds a lock that this process opened for it, and rank 0 holds the run's own: if this process is killed the run goes
on, and whoever takes up the trial waits for its end instead of beginning it twice.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from picolab.errors import BadInput, Diverged
from picolab.runs import atomic
from picolab.runs.folder import META, Run
from picolab.runs.folder import SETTINGS as RUN_SETTINGS
from picolab.runs.settings import Settings, dump_settings
from picolab.studies.storage import CLAIMS, Storage
from picolab.train.events import Event, Step
from picolab.train.interruptions import Interruptions

LOOK = 0.3
"""Seconds between two looks at the run's rows."""
LAST_WORDS = 3


def run_by_torchrun(
    settings: Settings, storage: Storage, run: str, path: Path, *, processes: int, report: Callable[[Event], None]
) -> Run:
    """The run of a folder, finished or interrupted; `Diverged` where it did."""
    log = storage.folder / CLAIMS / f"{run}.log"
    with Interruptions() as interruptions, _launching(storage.folder / CLAIMS / f"{run}.launch", interruptions) as lock:
        while Run(path).is_being_written() and interruptions.received is None:
            time.sleep(LOOK)
        known = (path / RUN_SETTINGS).exists() and (path / META).exists()
        if (
            lock is not None
            and interruptions.received is None
            and not (known and Run(path).status in ("finished", "diverged"))
        ):
            plan = storage.folder / CLAIMS / f"{run}.yaml"
            atomic.write_text(plan, dump_settings(settings))
            if not known and path.exists():  # killed while the folder was being made: it holds no run
                shutil.rmtree(path)
            words = ["--resume", str(path)] if known else ["--config", str(plan), "--out", str(path)]
            with log.open("w", encoding="utf-8") as file:
                process = subprocess.Popen(
                    [
                        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
                        "-m", "picolab", "train", *words,
                    ],
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "OMP_NUM_THREADS": str(_threads(processes))},
                    start_new_session=True,  # Ctrl-C reaches us, and we pass one signal on, not two
                    pass_fds=(lock,),
                )  # fmt: skip
                _watch(process, settings, path, interruptions, report)
    if not (path / META).exists():
        if interruptions.received is not None:
            raise KeyboardInterrupt
        raise BadInput(
            f"{processes} processes could not begin run `{run}`: {_last_words(log)}", hint=f"`{log}` has all they said"
        )
    found = Run.open(path)
    if found.status == "diverged":
        raise Diverged(str(found.meta.get("says")))
    if interruptions.received is None and found.status != "finished":
        raise BadInput(
            f"{processes} processes ended with run `{run}` {found.status}: {_last_words(log)}",
            hint=f"`{log}` has all they said; the same command goes on",
        )
    return found


def _watch(
    process: subprocess.Popen[bytes],
    settings: Settings,
    path: Path,
    interruptions: Interruptions,
    report: Callable[[Event], None],
) -> None:
    """Until the launcher has ended: tell its steps, pass one signal on."""
    asked, told = False, 0
    while process.poll() is None:
        if interruptions.received is not None and not asked:
            process.terminate()
            asked = True
        rows = [row for row in Run(path).metrics() if "train/loss" in row] if path.is_dir() else []
        if rows and rows[-1]["step"] > told:
            row = rows[-1]
            told = row["step"]
            training = settings.training
            steps = training.steps or round((training.tokens or 0) / row["tokens"] * told)
            report(
                Step(
                    step=told, steps=steps, tokens=row["tokens"], loss=row["train/loss"], lr=row["lr"],
                    grad_norm=row["grad_norm"], seconds=row["seconds"], tokens_per_second=row["tokens_per_second"],
                    eta_seconds=row["seconds"] / told * max(0, steps - told),
                )
            )  # fmt: skip
        time.sleep(LOOK)


@contextmanager
def _launching(path: Path, interruptions: Interruptions) -> Iterator[int | None]:
    """The right to launch a run, as a descriptor that the launcher inherits; None where a signal came while we waited."""
    try:
        import fcntl
    except ImportError as error:
        raise BadInput(
            "`processes` needs a Unix system", hint="leave it out: then each trial is one process"
        ) from error
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        held = False
        while not held and interruptions.received is None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
            except BlockingIOError:
                time.sleep(LOOK)
        yield descriptor if held else None
    finally:
        os.close(descriptor)


def _threads(processes: int) -> int:
    import torch

    return max(1, torch.get_num_threads() // processes)


def _last_words(log: Path) -> str:
    """What the processes said last, without torchrun's own lines."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    said = [
        line for line in lines if line and "hint:" not in line and not line.startswith(("[", "E1", "W1", "====", "---"))
    ]
    return next((line.rstrip(".") for line in said if line), "nothing")[:200]
