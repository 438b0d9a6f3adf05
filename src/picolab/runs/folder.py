"""A run on disk: what one training leaves behind, readable by anyone, at any moment, with no torch.

    runs/<date>_<name>/   settings.yaml  meta.json  metrics.jsonl  samples.jsonl  log.txt
        checkpoints/      step-0000500/{model.safetensors config.json tokenizer.json .. training_state.pt}
                          last.json  best.json
        plots/  report.html

One process writes a run at a time: it holds `.lock`, which the operating system lets go of when the process ends, however it
ends. Files appear whole (runs/atomic.py), rows are appended (runs/rows.py).
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from picolab.errors import BadCheckpoint, BadInput
from picolab.runs import atomic, machine, rows
from picolab.runs.settings import Settings, dump_settings, load_settings

FORMAT = "picolab-run/1"
SETTINGS, META, METRICS, SAMPLES, LOG, LOCK = (
    "settings.yaml", "meta.json", "metrics.jsonl", "samples.jsonl", "log.txt", ".lock",
)  # fmt: skip
WEIGHTS, STATE = "model.safetensors", "training_state.pt"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint folder and the step it was taken after."""

    path: Path
    step: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run's folder. Reading needs nothing; writing is for the holder of `writing()`."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """The run in a folder, or a sentence on why it is none."""
        path = Path(path)
        if not path.is_dir():
            raise BadInput(f"there is no run `{path}`", hint="`picolab ls runs` lists them; `last` is the newest")
        if not (path / SETTINGS).exists() or not (path / META).exists():
            raise BadCheckpoint(f"`{path}` is not a picolab run", hint=f"a run has {SETTINGS} and {META}")
        if (found := Run(path).meta.get("format")) != FORMAT:
            raise BadCheckpoint(f"`{path}` has format `{found}`", hint=f"this picolab reads {FORMAT}")
        return cls(path)

    @property
    def settings(self) -> Settings:
        return load_settings(self.path / SETTINGS)

    @property
    def meta(self) -> dict[str, Any]:
        """Versions, machine, command, data, `status`."""
        return _read_json(self.path / META)

    @property
    def status(self) -> str:
        """running, finished, interrupted, diverged, failed; or killed, where the writer is gone without a word."""
        status = str(self.meta.get("status"))
        return "killed" if status == "running" and not self.is_being_written() else status

    @property
    def samples(self) -> list[dict[str, Any]]:
        """Texts the model wrote on the way: step, prompt, text."""
        return rows.read(self.path / SAMPLES)

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Whole checkpoints, oldest first; what is torn is not among them."""
        found = []
        for folder in sorted((self.path / "checkpoints").glob("step-*")):
            if folder.name[5:].isdigit() and is_whole(folder):
                found.append(Checkpoint(folder, int(folder.name[5:])))
        return found

    def metrics(self) -> list[dict[str, Any]]:
        """One row a step: step tokens seconds train/loss val/loss val/bits_per_byte lr grad_norm tokens_per_second."""
        return rows.read(self.path / METRICS)

    def last(self) -> Checkpoint | None:
        """The newest whole checkpoint; None before the first. `last.json` says the same to other programs."""
        return checkpoints[-1] if (checkpoints := self.checkpoints) else None

    def best(self) -> Checkpoint | None:
        """The checkpoint with the lowest validation loss; None where nothing was evaluated or it is gone."""
        pointer = self.path / "checkpoints" / "best.json"
        if not pointer.exists():
            return None
        folder = self.path / "checkpoints" / str(_read_json(pointer).get("checkpoint"))
        return next((checkpoint for checkpoint in self.checkpoints if checkpoint.path == folder), None)

    def torn(self) -> list[Path]:
        """Checkpoint folders that are not whole: copied badly, or damaged after they were written."""
        return [folder for folder in sorted((self.path / "checkpoints").glob("step-*")) if not is_whole(folder)]

    def is_being_written(self) -> bool:
        """Whether a living process holds the run."""
        if not (self.path / LOCK).exists():
            return False
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except (Timeout, PermissionError):  # a run that is not ours to write: its own word counts
            return True
        lock.release()
        return False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the run for this process; what dead ones left unfinished is swept away first."""
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=1, poll_interval=0.05)  # longer than somebody's `is_being_written`
        except Timeout as error:
            raise BadInput(
                f"`{self.path}` is being written by process {self.meta.get('process', '?')}",
                hint="wait for it, stop it, or train into another folder with --out",
            ) from error
        try:
            for folder in (self.path, self.path / "checkpoints"):
                atomic.sweep(folder)
            yield
        finally:
            lock.release()

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        rows.append(self.path / METRICS, row)

    def append_sample(self, row: Mapping[str, Any]) -> None:
        rows.append(self.path / SAMPLES, row)

    def append_log(self, line: str) -> None:
        """One line for people, with the time."""
        path = self.path / LOG
        with atomic.reported(path), path.open("a", encoding="utf-8") as file:
            file.write(f"{_now()} {line}\n")

    def cut_rows(self, step: int) -> None:
        """Forget metrics and samples after a step: the run goes on from there."""
        rows.cut(self.path / METRICS, step)
        rows.cut(self.path / SAMPLES, step)

    def update_meta(self, **facts: Any) -> None:
        atomic.write_json(self.path / META, self.meta | facts)

    def write_settings(self, settings: Settings) -> None:
        atomic.write_text(self.path / SETTINGS, dump_settings(settings))

    def add_checkpoint(self, step: int, fill: Callable[[Path], None]) -> Checkpoint:
        """Make a checkpoint of what `fill` writes into a folder."""
        path = self.path / "checkpoints" / f"step-{step:07d}"
        with atomic.new_folder(path) as folder:
            fill(folder)
        return Checkpoint(path, step)

    def mark_last(self, checkpoint: Checkpoint) -> None:
        self._point("last", checkpoint.path, step=checkpoint.step)

    def mark_best(self, checkpoint: Checkpoint, *, loss: float) -> None:
        self._point("best", checkpoint.path, step=checkpoint.step, **{"val/loss": loss})

    def prune(self, keep: int) -> None:
        """Remove all checkpoints but the newest `keep` and the best one."""
        best = self.best()
        for checkpoint in self.checkpoints[:-keep]:
            if checkpoint != best:
                atomic.remove_folder(checkpoint.path)

    def _point(self, name: str, checkpoint: Path, **facts: Any) -> None:
        atomic.write_json(self.path / "checkpoints" / f"{name}.json", {"checkpoint": checkpoint.name, **facts})


def create_run(settings: Settings, *, root: Path = Path("runs")) -> Run:
    """A new folder for a run: `settings.out`, or `<root>/<date>_<name>` with a number where that is taken."""
    if settings.out is not None:
        path = Path(settings.out)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise _taken(path)
        with atomic.reported(path):
            path.mkdir(parents=True, exist_ok=True)
    else:
        path = _fresh(root, f"{datetime.now().astimezone():%Y-%m-%d}_{_file_name(name_of(settings))}")
    run = Run(path)
    try:
        # Of two processes that both found the folder empty, one makes this folder and owns the run.
        with atomic.reported(path):
            (path / "checkpoints").mkdir()
            (path / "plots").mkdir()
    except BadInput as error:
        raise _taken(path) if isinstance(error.__cause__, FileExistsError) else error from None
    atomic.write_json(
        path / META,
        {"format": FORMAT, "status": "running", "created": _now(), "process": os.getpid(), **machine.describe()},
    )
    run.write_settings(settings)
    return run


def _taken(path: Path) -> BadInput:
    if (path / META).exists() and (path / SETTINGS).exists():
        return BadInput(
            f"`{path}` already holds a run", hint=f"go on with it: --resume {path}; or choose another --out"
        )
    return BadInput(f"`{path}` exists and is not a picolab run", hint="choose a new or empty folder with --out")


def name_of(settings: Settings) -> str:
    """What a run is called where nobody named it."""
    return settings.name or f"{settings.model.preset}_{settings.data.spec}"


def find_run(reference: str | Path, *, root: Path = Path("runs")) -> Run:
    """A run by its folder, by its name under `root`, or the newest one by `last`."""
    if (Path(reference) / SETTINGS).exists():
        return Run.open(reference)
    if str(reference) in ("last", str(root / "last")):
        if not (runs := list_runs(root)):
            raise BadInput(f"there is no run in `{root}`", hint="make one: picolab train --model lstm --data stories")
        return runs[-1]
    return Run.open(root / reference if (root / reference).is_dir() else reference)


def list_runs(root: Path = Path("runs")) -> list[Run]:
    """All runs of a folder, oldest first."""
    runs = [Run(meta.parent) for meta in root.glob(f"*/{META}") if (meta.parent / SETTINGS).exists()]
    return sorted(runs, key=lambda run: (str(run.meta.get("created")), run.path.name))


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint's two large files end where they say they end; reads a few bytes of each."""
    return _whole_safetensors(checkpoint / WEIGHTS) and _whole_zip(checkpoint / STATE)


def _whole_safetensors(path: Path) -> bool:
    """The header opens the file, with its own length and the offsets of every tensor."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                return False
            header = json.loads(file.read(length))
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
        return bool(path.stat().st_size == 8 + length + max(ends, default=0))
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError):
        return False


def _whole_zip(path: Path) -> bool:
    """torch.save writes a zip, whose table of contents comes last."""
    try:
        return zipfile.is_zipfile(path)
    except OSError:
        return False


def _fresh(root: Path, name: str) -> Path:
    with atomic.reported(root):
        root.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10_000):
            path = root / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    raise BadInput(f"`{root}` has 9999 runs called `{name}`", hint="give this one a --name")


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text)[:80].strip("-.") or "run"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"`{path}` cannot be read", hint="it is torn or was edited by hand") from error
    if not isinstance(content, dict):
        raise BadCheckpoint(f"`{path}` holds a {type(content).__name__}, not facts", hint="was it edited by hand?")
    return content


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
