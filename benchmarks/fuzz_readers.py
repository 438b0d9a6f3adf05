"""Claim: no broken file makes a reader crash, hang or allocate what a header claims. 20,000 mutated files of every kind.

    python benchmarks/fuzz_readers.py [how many] [seed] [--json]

A file is refused with BadCheckpoint, or opens and serves. Anything else is a crash and is kept for a look; longer than a second
is a hang; the process may never grow by more than 512 MB.
"""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from picolab.errors import BadCheckpoint

from harness import finish
from reader_files import mutate, samples

HANG = 1.0  # seconds
GROWTH = 512 << 20  # bytes
OUTCOMES = ("refused", "served", "crashed", "hung")


def main(count: int, seed: int) -> int:
    """Break files, open them, count what happens; 1 if anything but a refusal or a service did."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as name:
        whole = samples(Path(name))
        content = {kind: sample.path.read_bytes() for kind, sample in whole.items()}
        for sample in whole.values():
            sample.open()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        _limit_memory()
        rng = random.Random(seed)
        seen: Counter[tuple[str, str]] = Counter()
        slowest: Counter[str] = Counter()
        for number in range(count):
            kind = rng.choice(list(whole))
            broken = mutate(content[kind], rng)
            result, seconds = _open(whole[kind], broken)
            hangs = seconds > HANG
            if result not in ("served", "refused") or hangs:
                kept = Path(tempfile.gettempdir()) / f"picolab-broken-{seed}-{number}"
                kept.write_bytes(broken)
                print(f"{kind}: {result} in {seconds:.2f} s, kept as {kept}", file=sys.stderr, flush=True)
            seen[kind, "hung" if hangs else result if result in ("served", "refused") else "crashed"] += 1
            slowest[kind] = max(slowest[kind], seconds)
            _replace(whole[kind].path, content[kind])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = [
        [
            kind,
            *(f"{seen[kind, column]:,}" for column in OUTCOMES),
            f"{1000 * slowest[kind]:.0f} ms",
        ]
        for kind in whole
    ]
    totals = {column: sum(seen[kind, column] for kind in whole) for column in OUTCOMES}
    rows.append(["all", *(f"{totals[column]:,}" for column in OUTCOMES), f"{1000 * max(slowest.values()):.0f} ms"])
    finish(
        "fuzz_readers",
        f"Broken files: {count:,} of {len(whole)} kinds, each with one to four mutations",
        ["file", *OUTCOMES, "slowest"],
        rows,
        [
            f"seed {seed}; refused: one error that names the file and the reason; served: opened, encoded a text and ran",
            f"hung is longer than {HANG:g} s; an allocation beyond {GROWTH >> 20} MB of address space more would be a crash",
            f"memory of the process: {before:.0f} MB with every whole file opened once, {peak:.0f} MB at its peak",
        ],
    )
    return int(bool(totals["crashed"] or totals["hung"]))


def _open(sample, broken: bytes) -> tuple[str, float]:
    _replace(sample.path, broken)
    start = time.perf_counter()
    try:
        sample.open()
        result = "served"
    except BadCheckpoint:
        result = "refused"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  (a panic of a library is no Exception)
        result = f"{type(error).__name__}: {error}"
    return result, time.perf_counter() - start


def _replace(path: Path, content: bytes) -> None:
    path.unlink()  # an opened file is mapped: never written over
    path.write_bytes(content)


def _limit_memory() -> None:
    """An allocation beyond this fails, and counts as a crash."""
    if sys.platform != "linux":
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + GROWTH
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdecimal()]
    sys.exit(main(*(numbers + [20_000, 0][len(numbers) :])))
