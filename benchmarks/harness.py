"""How a claim is measured: every arm in a process of its own, all arms in turn, warm, median of several.

    A B C A B C A B C ...        so that a machine that drifts drifts for all of them

A worker is a generator: what it yields first is its setting up; every `next` after that does one unit of work.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

Worker = Callable[[], Iterator[None]]

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Columns and rows."""


@dataclass(frozen=True)
class Timing:
    """Seconds a unit of work took (median) and peak memory of the process while it worked, in MB."""

    seconds: float
    peak_mb: float


def serve(worker: Iterator[None]) -> None:
    """The worker's side: one unit of work for every line read, then its peak memory."""
    next(worker)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "forget":
            _forget_peak()
            print("ok", flush=True)
            continue
        start = time.perf_counter()
        next(worker)
        print(time.perf_counter() - start, flush=True)
    print(_peak_mb(), flush=True)


def measure(script: str, arms: Sequence[Sequence[str]], *, rounds: int = 7, warm_up: int = 3) -> list[Timing | None]:
    """Run `script --worker ARM...` for each arm, interleaved; None for an arm that does not run here."""
    workers: list[subprocess.Popen[str]] = []
    ready: list[bool] = []
    for arm in arms:  # one after the other: compiling is heavy, and nobody is timed while a neighbour does it
        command = [sys.executable, script, "--worker", *arm]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        workers.append(worker)
        ready.append(worker.stdout.readline().strip() == "ready")
        if ready[-1]:
            for _ in range(warm_up):
                _ask(worker, "work")
            _ask(worker, "forget")
    seconds: list[list[float]] = [[] for _ in arms]
    for _ in range(rounds):
        for worker, good, times in zip(workers, ready, seconds, strict=True):
            if good:
                times.append(float(_ask(worker, "work")))
    timings: list[Timing | None] = []
    for worker, good, times in zip(workers, ready, seconds, strict=True):
        worker.stdin.close()
        last = worker.stdout.read().split()
        worker.wait()
        timings.append(Timing(statistics.median(times), float(last[-1])) if good else None)
    return timings


def _ask(worker: subprocess.Popen[str], word: str) -> str:
    worker.stdin.write(word + "\n")
    return worker.stdout.readline()


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    return {
        "date": datetime.date.today().isoformat(),
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def matrix_rate(dtype: str) -> float:
    """FLOP/s of a square matrix product: what the machine can do at best."""
    import torch

    from picolab.measure import limits

    return limits.matrix_rate(getattr(torch, dtype))


def copy_rate() -> float:
    """Bytes/s read and written by a plain copy."""
    from picolab.measure import limits

    return limits.copy_rate()


def finish(name: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    """Print the table and keep it for docs/benchmarks.md."""
    finish_tables(name, title, {"": (columns, rows)}, notes)


def _said(words: Sequence[str]) -> Iterator[str]:
    """A command's words as anybody may type them: shared data by its variable, and not where this run was kept."""
    shared = os.environ.get("PICOLAB_SHARED", str(Path(__file__).resolve().parents[2] / "shared"))
    for before, word in zip(("", *words), words, strict=False):
        if "--out" not in (before, word):
            yield word.replace(shared, "$PICOLAB_SHARED")


def finish_tables(name: str, title: str, tables: Mapping[str, Table], notes: Sequence[str]) -> None:
    """The same for several tables under one title, each with a name of its own."""
    result: dict[str, object] = {"name": name, "title": title, "machine": machine()}
    result["command"] = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *_said(sys.argv[1:])])
    made = [
        {"name": name, "columns": list(columns), "rows": [list(row) for row in rows]}
        for name, (columns, rows) in tables.items()
    ]
    if len(made) == 1:  # the table is the result
        result |= {"columns": made[0]["columns"], "rows": made[0]["rows"]}
    else:
        result["tables"] = made
    result["notes"] = list(notes)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if "--json" in sys.argv:
        print(json.dumps(result, indent=1, ensure_ascii=False))
    else:
        print(render(result))


def render(result: dict) -> str:
    """One result as Markdown."""
    m = result["machine"]
    lines = [f"## {result['title']}", ""]
    for table in result.get("tables", [result]):
        if table is not result:
            lines += [f"### {table['name']}", ""]
        lines += ["| " + " | ".join(table["columns"]) + " |", "|" + "---|" * len(table["columns"])]
        lines += ["| " + " | ".join(row) + " |" for row in table["rows"]]
        lines += [""]
    lines += [f"* {note}" for note in result["notes"]]
    lines += [
        f"* measured {m['date']} on {m['cores']} cores of {m['processor']}, Python {m['python']}: `{result['command']}`"
    ]
    return "\n".join(lines) + "\n"


def worker_arguments() -> list[str] | None:
    """The arm this process is to serve, or None in the process that measures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker", nargs="+")
    parser.add_argument("--json", action="store_true")
    return parser.parse_known_args()[0].worker


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _forget_peak() -> None:
    """Let the kernel count the peak anew from here (Linux)."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
