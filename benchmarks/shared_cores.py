"""Two trainings on one machine at once: how much longer does a step take than alone?

    python benchmarks/shared_cores.py [--steps 60] [--rounds 3]

`picolab train` of a small model, as a person would type it, alone, two and four at once; with the short waiting that it asks OpenMP
for, and with the 300,000 spins that GNU's has by itself. The time of a step is read from the runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from picolab.cli.threads import POLICY, SPINS
from picolab.runs.folder import Run

from harness import finish

WAITS = {"as picolab asks": {}, "as OpenMP does by itself": {SPINS: "300000"}}
COMMAND = (
    "train --model softmax-pico --data stories-shipped --tokenizer characters --d-model 64 --context-length 64 --batch-size 8 "
    "--eval-every 0 --sample-every 0 --training.dtype float32 --training.device cpu"
)
PATIENCE = 300
"""Seconds after which a training is stopped; then it did so many steps."""


def milliseconds(out: Path, steps: int, at_once: int, wait: dict[str, str]) -> list[float]:
    """The time of a step in each of the trainings."""
    mine = {name: value for name, value in os.environ.items() if name not in (SPINS, POLICY, "OMP_NUM_THREADS")}
    words = [sys.executable, "-m", "picolab", *COMMAND.split(), "--steps", str(steps)]
    running = [
        subprocess.Popen(
            [*words, "--out", str(out / str(i))], env=mine | wait, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for i in range(at_once)
    ]
    for process in running:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
    found = []
    for i in range(at_once):
        rows = [row for row in Run.open(out / str(i)).metrics() if "train/loss" in row]
        first, last = rows[len(rows) // 4], rows[-1]
        found.append(1000 * (last["seconds"] - first["seconds"]) / (last["step"] - first["step"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for at_once in (1, 2, 4):
            found: dict[str, list[float]] = {name: [] for name in WAITS}
            for number in range(args.rounds):
                for place, (name, wait) in enumerate(WAITS.items()):
                    out = Path(folder) / f"{at_once}-{number}-{place}"
                    found[name] += milliseconds(out, args.steps, at_once, wait)
            rows.append([str(at_once), *(_said(times) for times in found.values())])
    finish(
        "shared_cores",
        "Trainings that share the cores, milliseconds a step",
        ["at once", *WAITS],
        rows,
        [
            f"median (least to most) of {args.rounds} rounds, in turn; {args.steps} steps of softmax-pico 64 wide",
            "each training has as many threads as there are cores",
            "four at once on two cores cannot take less than four times as long as one",
        ],
    )


def _said(times: list[float]) -> str:
    return f"{statistics.median(times):,.1f} ({min(times):,.1f} to {max(times):,.1f})"


if __name__ == "__main__":
    main()
