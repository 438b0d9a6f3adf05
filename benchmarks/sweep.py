"""What does a sweep cost beside its bare runs, what do two workers gain, and is any trial lost or repeated when it is killed?

kills      a study of 12 trials; `picolab sweep` killed with SIGKILL at random moments, taken up again, until it is complete
           a worker of two killed at random moments; the sweep goes on by itself
           asked: every trial once in study.json, figures those of an undisturbed study, no trial with an outcome begun again
overhead   the same runs one after another by `train`, in one process, against `sweep`; pictures are counted to the sweep
workers    trials an hour with two workers against one, both single-threaded
tiny       every shipped study in its tiny version, and what --dry-run said it would take

python benchmarks/sweep.py [--only kills] [--times 20] [--seed 0]     parts that are not run keep the figures they had
python benchmarks/sweep.py --small                                   tried at a small size: nothing is written
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from picolab.recipes.studies import SHIPPED, shipped
from picolab.studies.points import grid, settings_of, trials_of
from picolab.studies.read import read_study
from picolab.studies.sweep import sweep
from picolab.train.loop import train

from harness import RESULTS, finish

STUDY: dict[str, Any] = {
    "study": "killed",
    "settings": {
        "model": "softmax-pico", "data": "stories-shipped", "tokenizer": "bytes", "steps": 60, "d_model": 32, "d_ff": 64,
        "n_layers": 1, "context_length": 64, "batch_size": 4, "validation": 0.02, "eval_batches": 4, "sample_tokens": 4,
        "checkpoint_every": 20,
        "dtype": "float32",
    },
    "axes": {"lr": [0.001, 0.004], "weight_decay": [0.0, 0.1]},
    "seeds": 3,
}  # fmt: skip
NOTES = (
    "kills: SIGKILL at moments spread over the study; figures are compared trial by trial, to the last bit",
    "overhead: single-threaded, gathering, pictures and JSON counted to the sweep",
    "workers: two processes against one, starts of processes counted",
    "tiny: with two workers",
)
LONGER = {"steps": 400, "checkpoint_every": 0, "context_length": 128, "d_model": 64}
"""Runs of several seconds: what a person sweeps takes minutes, and a second of overhead must not pass for a hundredth of one."""


def command(*words: str | Path) -> list[str]:
    """A picolab command in a process of its own."""
    return [sys.executable, "-m", "picolab", *map(str, words)]


def losses(folder: Path) -> dict[str, float]:
    """Every trial of a study.json with its loss."""
    content = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    return {trial["name"]: trial["figures"]["loss"] for trial in content["trials"]} if content["complete"] else {}


def begun_again(folder: Path, moments: dict[str, int]) -> list[str]:
    """Runs that were begun more often than when their outcome was first seen."""
    return [name for name, times in begun(folder).items() if name in moments and times > moments[name]]


def begun(folder: Path) -> dict[str, int]:
    """How often each run was begun or gone on with."""
    logs = folder.glob("runs/*/log.txt")
    return {
        log.parent.name: log.read_text(encoding="utf-8").count(" step 0 of ") + log.read_text().count("goes on after")
        for log in logs
    }


def kills(work: Path, times: int, rng: random.Random) -> dict[str, Any]:
    """`times` kills of a whole sweep, and as many of a worker."""
    plan = work / "killed.yaml"
    plan.write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    plain = work / "undisturbed"
    began = time.perf_counter()
    subprocess.run(command("sweep", plan, "--out", plain), check=True, capture_output=True)
    whole = time.perf_counter() - began
    right = losses(plain)
    found: dict[str, Any] = {"trials": len(right), "undisturbed_seconds": round(whole, 1)}
    for kind, extra in (("sweep", ()), ("worker", ("--workers", "2"))):
        hits = studies = wrong = repeated = lost = 0
        while hits < times:
            folder, studies = work / f"{kind}-{studies}", studies + 1
            done: dict[str, int] = {}
            kept: dict[str, bytes] = {}
            while not losses(folder) if (folder / "study.json").exists() else True:
                process = subprocess.Popen(
                    command("sweep", plan, "--out", folder, *extra),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                if hits < times:
                    hits += _hit(process, rng.uniform(0.05, 0.95) * whole, kind, rng)
                process.wait(timeout=1200)
                lost += sum(
                    not (folder / "trials" / name).exists() or (folder / "trials" / name).read_bytes() != content
                    for name, content in kept.items()
                )
                kept = {path.name: path.read_bytes() for path in (folder / "trials").glob("p*.json")}
                repeated += len(begun_again(folder, done))
                done |= {path.stem: begun(folder).get(path.stem, 0) for path in (folder / "trials").glob("p*.json")}
            wrong += losses(folder) != right
        found[kind] = {
            "kills": hits,
            "studies": studies,
            "with_other_figures": wrong,
            "finished_trials_begun_again": repeated,
            "finished_trials_lost": lost,
        }
        print(
            f"{kind}: {hits} kills in {studies} studies, {wrong} with other figures; of finished trials "
            f"{repeated} begun again, {lost} lost",
            flush=True,
        )
    return found


def _hit(process: subprocess.Popen[bytes], wait: float, kind: str, rng: random.Random) -> int:
    """Kill the sweep, or one of its workers, after a while; 1 if something was there to kill."""
    try:
        process.wait(timeout=wait)
        return 0
    except subprocess.TimeoutExpired:
        pass
    victim = process.pid
    if kind == "worker":
        workers = [
            int(pid)
            for pid in subprocess.run(
                # The parent has another child, multiprocessing's resource tracker, which does no work.
                ["pgrep", "-P", str(process.pid), "-f", "spawn_main"],
                capture_output=True,
                text=True,
            ).stdout.split()
        ]
        if not workers:
            return 0
        victim = rng.choice(workers)
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def overhead(work: Path) -> dict[str, Any]:
    """Seconds of the bare runs and of the sweep over them, in this process, one thread."""
    torch.set_num_threads(1)
    study = _longer(work)
    out = work / "bare"
    trials = trials_of(study, grid(study))
    train(settings_of(study, trials[0].point, 99, work / "warm", "warm"))  # data prepared, everything imported
    began = time.perf_counter()
    for trial in trials:
        train(settings_of(study, trial.point, trial.seed, out, trial.run))
    bare = time.perf_counter() - began
    began = time.perf_counter()
    sweep(study, out=work / "swept")
    swept = time.perf_counter() - began
    print(f"overhead: {len(trials)} bare runs {bare:.1f} s, sweep {swept:.1f} s, {swept / bare - 1:+.1%}", flush=True)
    return {"runs": len(trials), "bare_seconds": bare, "sweep_seconds": swept, "overhead": swept / bare - 1}


def two_workers(work: Path) -> dict[str, Any]:
    """Trials an hour by one and by two single-threaded workers, starts included."""
    study = _longer(work)
    torch.set_num_threads(1)
    seconds = {}
    for count in (1, 2):
        began = time.perf_counter()
        result = sweep(study, out=work / f"by-{count}", workers=count)
        seconds[count] = time.perf_counter() - began
        assert result.complete
    gain = seconds[1] / seconds[2]
    print(f"workers: one {seconds[1]:.1f} s, two {seconds[2]:.1f} s, {gain:.2f} x", flush=True)
    return {"one_seconds": seconds[1], "two_seconds": seconds[2], "gain": gain}


def tiny(work: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Wall-clock of every shipped study's tiny version, as a person runs it, with two workers."""
    seconds, foretold = {}, {}
    for name in names:
        asked = subprocess.run(
            command("sweep", name, "--tiny", "--workers", "2", "--dry-run", "--json"), check=True, capture_output=True
        )
        foretold[name] = json.loads(asked.stdout)["seconds"]
        began = time.perf_counter()
        subprocess.run(
            command("sweep", name, "--tiny", "--workers", "2", "--out", work / name), check=True, capture_output=True
        )
        seconds[name] = time.perf_counter() - began
        print(
            f"tiny {name}: {seconds[name]:.1f} s, forecast {foretold[name]:.1f} s, "
            f"{len(shipped(name, tiny=True).seeds)} seeds",
            flush=True,
        )
    print(f"tiny, all together: {sum(seconds.values()):.0f} s", flush=True)
    return {"seconds": seconds, "foretold": foretold, "together": sum(seconds.values())}


def _longer(work: Path) -> Any:
    path = work / "longer.yaml"
    path.write_text(yaml.safe_dump({**STUDY, "settings": {**STUDY["settings"], **LONGER}}), encoding="utf-8")
    return read_study(path)


def table(found: dict[str, Any]) -> list[list[str]]:
    """The figures as rows."""
    rows = []
    if "kills" in found:
        for kind, what in (("sweep", "the whole sweep killed"), ("worker", "one of two workers killed")):
            one = found["kills"][kind]
            rows.append(
                [
                    what,
                    f"{one['kills']} times in {one['studies']} studies of {found['kills']['trials']} trials: "
                    f"{one['finished_trials_lost']} finished trials lost, {one['finished_trials_begun_again']} begun again, "
                    f"{one['with_other_figures']} studies with other"
                    "  figures than an undisturbed one",
                ]
            )
    if "overhead" in found:
        one = found["overhead"]
        rows.append(
            [
                "overhead over bare runs",
                f"{one['overhead']:+.1%} ({one['runs']} runs, {one['bare_seconds']:.1f} s bare, {one['sweep_seconds']:.1f} s so)",
            ]
        )
    if "workers" in found:
        one = found["workers"]
        rows.append(
            ["two workers against one", f"{one['gain']:.2f} x ({one['one_seconds']:.1f} s, {one['two_seconds']:.1f} s)"]
        )
    if "tiny" in found:
        foretold = found["tiny"]["foretold"]
        rows += [
            [
                f"{name} --tiny",
                f"{seconds:.0f} s; --dry-run said {foretold[name]:.0f} s ({foretold[name] / seconds:.2f} x)",
            ]
            for name, seconds in found["tiny"]["seconds"].items()
        ]
        rows.append(["all tiny versions", f"{found['tiny']['together']:.0f} s"])
    return rows


def merged(rows: list[list[str]]) -> list[list[str]]:
    """These rows, and those of parts that were measured before and not now."""
    path = RESULTS / "sweep.json"
    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    known = {row[0] for row in rows}
    return [*(row for row in before if row[0] not in known), *rows]


def main() -> int:
    """Run what was asked for and print one JSON document at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("kills", "overhead", "workers", "tiny"))
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="one kill, short runs, two studies; nothing is written")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    asked = parser.parse_args()
    names = SHIPPED
    if asked.small:
        asked.times, names = 1, ("sampling", "architectures")
        LONGER["steps"] = 60
        STUDY["settings"] |= {"steps": 20, "checkpoint_every": 5}
        STUDY["seeds"] = 1
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        parts: dict[str, Any] = {
            "kills": lambda: kills(work, asked.times, random.Random(asked.seed)),
            "overhead": lambda: overhead(work),
            "workers": lambda: two_workers(work),
            "tiny": lambda: tiny(work, names),
        }
        found = {name: part() for name, part in parts.items() if asked.only in (None, name)}
    rows = table(found)
    if asked.small:
        print("\n".join(": ".join(row) for row in rows))
    else:
        finish("sweep", "Studies: killed, paid for, shared", ["what", "found"], merged(rows), NOTES)
    bad = [found["kills"][kind] for kind in ("sweep", "worker") if "kills" in found]
    return int(
        any(
            one["with_other_figures"] or one["finished_trials_begun_again"] or one["finished_trials_lost"]
            for one in bad
        )
    )


if __name__ == "__main__":
    sys.exit(main())
