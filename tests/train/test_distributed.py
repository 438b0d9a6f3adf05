"""Several processes train the model that one process trains."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import several as several_runs
from safetensors.torch import load_file
from tiny import tiny_settings, tiny_task

from picolab.errors import BadInput, BadSetting
from picolab.runs.folder import Run
from picolab.train.distributed import pick_device
from picolab.train.loop import train
from picolab.train.track import FOLDER

from processes import start

PROGRAM = Path(__file__).with_name("tiny.py")


SEVERAL = Path(__file__).with_name("several.py")


def launched(processes: int, program: Path, *words: str) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*launcher, str(program), *words]


def torchrun(folder: Path, *words: str) -> list[str]:
    return launched(2, PROGRAM, str(folder), "model.dropout=0.0", *words)


def listed(folder: Path, processes: int, runs: list[dict[str, Any]]) -> str:
    """The file of runs to be trained one after the other with one start of so many processes."""
    file = folder / f"runs-{processes}.json"
    file.write_text(json.dumps(runs), encoding="utf-8")
    return str(file)


def several(processes: int, folder: Path, runs: list[dict[str, Any]]) -> None:
    """Train these runs with so many processes, told what torchrun would tell them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(processes)}
    file = listed(folder, processes, runs)
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    started = [start(several_runs.main, file, environment=meeting | rank) for rank in ranks]
    ended = [program.end() for program in started]
    assert [code for code, _ in ended] == [0] * processes, ended


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny_settings(tmp_path_factory.mktemp("runs") / "alone", **{"model.dropout": 0.0}), task_of=tiny_task)


def assert_close(one: Run, other: Run, *, saved_every: int = 0) -> None:
    """The same rows and weights; who saves more often evaluates more often."""
    rows, others = one.metrics(), other.metrics()
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    if saved_every:
        rows = [
            row if too.get("val/loss") else {**row, "val/loss": None} for row, too in zip(rows, others, strict=True)
        ]
    for row, too in zip(rows, others, strict=True):
        for name in ("tokens", "train/loss", "val/loss", "grad_norm", "lr"):
            assert row.get(name) == pytest.approx(too.get(name), abs=1e-5), (row["step"], name)
    a, b = one.last(), other.last()
    assert a is not None and b is not None
    mine, theirs = (load_file(last.path / "model.safetensors") for last in (a, b))
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert (mine[name] - theirs[name]).abs().max() < 1e-5, name


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of four processes, then of two; one that four begin with shards, two go on with, and one ends."""
    folder = tmp_path_factory.mktemp("shared")

    def run(name: str, **more: Any) -> dict[str, Any]:
        return {"folder": str(folder / name), **more}

    ddp, fsdp, pieces = {"strategy": "ddp"}, {"strategy": "fsdp"}, {"accumulate": 2}
    watched = ddp | {"track": "tensorboard"}
    four = [run("4-ddp", settings=watched), run("4-fsdp", settings=fsdp), run("moved", settings=fsdp, stop_at=5)]
    several(4, folder, four)
    assert Run.open(folder / "moved").meta["processes"] == 4
    two = [
        run("2-ddp-pieces", settings=ddp | pieces),
        run("2-fsdp-pieces", settings=fsdp | pieces),
        run("2-fsdp-recompute", settings=fsdp | {"recompute": True}),
        run("bfloat16", settings=fsdp | {"dtype": "bfloat16"}),
        run("moved", settings=fsdp, resume=True, stop_at=9),
    ]
    several(2, folder, two)
    return folder


NAMES = ("4-ddp", "4-fsdp", "2-ddp-pieces", "2-fsdp-pieces", "2-fsdp-recompute")


@pytest.mark.parametrize("name", NAMES)
def test_several_processes_have_the_losses_of_one(trained: Path, alone: Run, name: str) -> None:
    run = Run.open(trained / name)
    assert run.meta["processes"] == int(name[0]) and run.meta["strategy"] in name
    assert_close(run, alone)


def test_only_the_first_process_writes_event_files(trained: Path) -> None:
    assert len(list((trained / "4-ddp" / FOLDER).iterdir())) == 1


def test_shards_that_are_gathered_in_bfloat16_learn_about_as_well(trained: Path, alone: Run) -> None:
    rows, others = Run.open(trained / "bfloat16").metrics(), alone.metrics()
    losses, exact = ([row["train/loss"] for row in some if "train/loss" in row] for some in (rows, others))
    assert losses == pytest.approx(exact, rel=0.01) and losses != exact


def test_shards_of_four_go_on_as_shards_of_two_and_end_on_one_as_if_never_stopped(trained: Path, alone: Run) -> None:
    run = Run.open(trained / "moved")
    last = run.last()
    assert last is not None and last.step == 9 and run.status == "interrupted" and run.meta["processes"] == 2
    run = train(run.settings, resume=run, task_of=tiny_task)
    assert run.meta["processes"] == 1
    assert_close(run, alone)


def test_when_one_process_dies_all_end_and_the_run_says_how_to_go_on(tmp_path: Path, alone: Run) -> None:
    settings = {"checkpoint_every": 2, "strategy": "fsdp"}
    file = listed(tmp_path, 2, [{"folder": str(tmp_path / "run"), "die_at": 5, "settings": settings}])
    done = subprocess.run(launched(2, SEVERAL, file), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "error: process 0 of 2 waited for another that is gone hint: torchrun says which" in done.stderr
    assert "SIGKILL" in done.stderr
    run = Run.open(tmp_path / "run")
    last = run.last()
    assert run.status == "failed" and last is not None and last.step == 4
    assert_close(train(run.settings, resume=run, task_of=tiny_task), alone, saved_every=2)


def test_a_signal_to_the_launcher_stops_all_at_the_same_step(tmp_path: Path) -> None:
    words = torchrun(tmp_path / "run", "--delay=0.05", "steps=500", "checkpoint_every=100", "eval_every=0")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Step 5"):
                process.send_signal(signal.SIGTERM)
                break
        said = process.stdout.read()
    run = Run.open(tmp_path / "run")
    last = run.last()
    assert run.status == "interrupted" and last is not None and 5 <= last.step < 100
    assert f"Stopped {last.step}" in said


@pytest.mark.parametrize(("device", "kind"), [("tpu-9", BadSetting), ("cuda:99", BadInput), ("meta", BadInput)])
def test_a_device_that_is_not_here_is_refused(device: str, kind: type[BadInput]) -> None:
    with pytest.raises(kind):
        pick_device(device)


def test_a_device_is_found() -> None:
    assert pick_device("cpu").type == "cpu" and pick_device("auto").type in ("cpu", "cuda")
