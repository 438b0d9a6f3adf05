"""How long a person waits for `picolab --help`, beside Python itself doing nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from harness import finish

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "picolab --help": [sys.executable, "-m", "picolab", "--help"],
    "picolab train --help": [sys.executable, "-m", "picolab", "train", "--help"],
    "python -c 'import torch'": [sys.executable, "-c", "import torch"],
}


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(11):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    rows = [[f"`{name}`", f"{statistics.median(times[1:]):.3f} s"] for name, times in seconds.items()]
    finish("startup", "Starting up", ["command", "median of 10"], rows, [])


if __name__ == "__main__":
    main()
