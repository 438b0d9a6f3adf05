"""Two processes train the model that one process trains."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny import tiny_settings, tiny_task

from picolab.errors import BadInput, BadSetting
from picolab.runs.folder import Run
from picolab.train.distributed import pick_device
from picolab.train.loop import train

PROGRAM = Path(__file__).with_name("tiny.py")


def torchrun(folder: Path, *words: str) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*launcher, str(PROGRAM), str(folder), "model.dropout=0.0", *words]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny_settings(tmp_path_factory.mktemp("runs") / "alone", **{"model.dropout": 0.0}), task_of=tiny_task)


def assert_close(one: Run, other: Run) -> None:
    rows, others = one.metrics(), other.metrics()
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    for row, too in zip(rows, others, strict=True):
        for name in ("tokens", "train/loss", "val/loss", "grad_norm", "lr"):
            assert row.get(name) == pytest.approx(too.get(name), abs=1e-5), (row["step"], name)
    a, b = one.last(), other.last()
    assert a is not None and b is not None
    mine, theirs = (load_file(last.path / "model.safetensors") for last in (a, b))
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert (mine[name] - theirs[name]).abs().max() < 1e-5, name


@pytest.mark.parametrize("words", [("strategy=ddp",), ("strategy=fsdp",), ("strategy=ddp", "accumulate=2")])
def test_two_processes_have_the_losses_of_one(tmp_path: Path, alone: Run, words: tuple[str, ...]) -> None:
    done = subprocess.run(torchrun(tmp_path / "run", *words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = Run.open(tmp_path / "run")
    assert run.meta["processes"] == 2
    assert_close(run, alone)


def test_shards_are_put_together_and_taken_apart_again(tmp_path: Path, alone: Run) -> None:
    """Half way on two processes with shards, the rest on one."""
    done = subprocess.run(
        torchrun(tmp_path / "run", "strategy=fsdp", "steps=8", "warmup=3"), capture_output=True, check=False
    )
    assert done.returncode == 0
    run = Run.open(tmp_path / "run")
    again = subprocess.run(
        torchrun(run.path, "--resume", "strategy=fsdp", "steps=10"), capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    train(run.settings.changed(training={"steps": 12}), resume=run, task_of=tiny_task)
    halved = tiny_settings(tmp_path / "one", **{"model.dropout": 0.0, "steps": 8})
    one = train(halved, task_of=tiny_task)
    for steps in (10, 12):
        train(one.settings.changed(training={"steps": steps}), resume=one, task_of=tiny_task)
    assert_close(run, one)


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


def test_rows_that_cannot_be_shared_are_refused(tmp_path: Path) -> None:
    done = subprocess.run(torchrun(tmp_path / "run", "batch_size=3"), capture_output=True, text=True, check=False)
    assert "`training.batch_size` 3 cannot be shared by 2 processes" in done.stderr


@pytest.mark.parametrize(("device", "kind"), [("tpu-9", BadSetting), ("cuda:99", BadInput), ("meta", BadInput)])
def test_a_device_that_is_not_here_is_refused(device: str, kind: type[BadInput]) -> None:
    with pytest.raises(kind):
        pick_device(device)


def test_a_device_is_found() -> None:
    assert pick_device("cpu").type == "cpu" and pick_device("auto").type in ("cpu", "cuda")
