"""A run on disk: whole files or none, one writer, nothing that a kill could spoil."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from picolab.errors import BadCheckpoint, BadInput
from picolab.runs import atomic
from picolab.runs.folder import STATE, WEIGHTS, Run, create_run, find_run, is_whole, list_runs
from picolab.runs.settings import resolve


def fill(folder: Path, *, size: int = 64) -> None:
    """The two files that make a checkpoint whole."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    with zipfile.ZipFile(folder / STATE, "w") as archive:
        archive.writestr("data", bytes(size))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create_run(resolve(overrides={"out": str(tmp_path / "run"), "lr": "0.5"}))


def test_a_run_is_laid_out_as_documented(run: Run) -> None:
    run.append_metrics({"step": 1})
    run.append_sample({"step": 1, "text": "é"})
    run.append_log("hello")
    checkpoint = run.add_checkpoint(500, fill)
    run.mark_last(checkpoint)
    run.mark_best(checkpoint, loss=1.5)
    found = sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file())
    assert found == [
        "checkpoints/best.json",
        "checkpoints/last.json",
        "checkpoints/step-0000500/model.safetensors",
        "checkpoints/step-0000500/training_state.pt",
        "log.txt",
        "meta.json",
        "metrics.jsonl",
        "samples.jsonl",
        "settings.yaml",
    ]
    assert json.loads((run.path / "checkpoints" / "best.json").read_text()) == {
        "checkpoint": "step-0000500",
        "step": 500,
        "val/loss": 1.5,
    }
    assert run.settings.optimizer.lr == 0.5
    assert {"versions", "machine", "git", "command", "created", "status"} <= run.meta.keys()
    assert run.meta["machine"].keys() == {"system", "processor", "cpus", "host"} and run.meta["machine"]["cpus"] > 0
    assert run.samples == [{"step": 1, "text": "é"}]


def test_without_a_folder_a_run_is_named_after_date_model_and_data(tmp_path: Path) -> None:
    settings = resolve("lstm", overrides={"data": "a=0.5,my/dir=0.5"})
    first, second = create_run(settings, root=tmp_path), create_run(settings, root=tmp_path)
    assert first.path.name.endswith("_lstm_a-0.5-my-dir-0.5") and second.path.name == first.path.name + "-2"
    assert [r.path for r in list_runs(tmp_path)] == [first.path, second.path]
    assert find_run("last", root=tmp_path) == second == find_run(second.path.name, root=tmp_path)


def test_a_folder_that_holds_a_run_is_not_taken_again(run: Run) -> None:
    with pytest.raises(BadInput, match="already holds a run") as caught:
        create_run(run.settings.changed(out=str(run.path)))
    assert caught.value.hint is not None and "--resume" in caught.value.hint


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="is not a picolab run"):
        create_run(resolve(overrides={"out": str(tmp_path)}))
    with pytest.raises(BadCheckpoint, match="is not a picolab run"):
        Run.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_of_two_processes_that_want_one_folder_one_gets_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    settings, results = resolve(overrides={"out": str(tmp_path / "run")}), []

    def claim() -> None:
        try:
            results.append(create_run(settings))
        except BadInput as error:
            results.append(error)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(result, Run) for result in results) == 1


def test_what_is_no_run_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no run"):
        find_run("nowhere", root=tmp_path)
    with pytest.raises(BadInput, match="there is no run in"):
        find_run("last", root=tmp_path)


def test_a_run_has_one_writer(run: Run) -> None:
    with run.writing():
        assert run.is_being_written() and run.status == "running"
        with pytest.raises(BadInput, match=f"is being written by process {os.getpid()}"), run.writing():
            pass
    assert not run.is_being_written()


def test_a_killed_writer_leaves_no_lock(run: Run) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from picolab.runs.folder import Run\n"
        "with Run(Path(sys.argv[1])).writing(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(run.path)], check=False).returncode == -9
    assert run.status == "killed"
    (run.path / "checkpoints" / ".tmp-step-0000003-99").mkdir()
    (run.path / ".tmp-meta.json-99").write_text("{")
    with run.writing():
        assert not list(run.path.rglob(".tmp-*")), "what the dead left unfinished is swept away"


def test_a_torn_last_row_is_passed_over(run: Run) -> None:
    for step in (1, 2):
        run.append_metrics({"step": step})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "train/lo')
    assert run.metrics() == [{"step": 1}, {"step": 2}]
    run.cut_rows(2)
    run.append_metrics({"step": 3})
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]


def test_a_bad_row_in_the_middle_is_an_error(run: Run) -> None:
    (run.path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(BadCheckpoint, match="line 2"):
        run.metrics()


def test_rows_after_a_step_are_forgotten(run: Run) -> None:
    for step in range(5):
        run.append_metrics({"step": step})
        run.append_sample({"step": step})
    run.cut_rows(2)
    assert [row["step"] for row in run.metrics()] == [0, 1, 2] == [row["step"] for row in run.samples]


def test_a_number_that_is_not_finite_is_written_as_null(run: Run) -> None:
    run.append_metrics({"step": 1, "train/loss": float("nan"), "grad_norm": float("inf")})
    assert run.metrics() == [{"step": 1, "train/loss": None, "grad_norm": None}]


@pytest.mark.parametrize("name", [WEIGHTS, STATE])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "one byte short"])
def test_a_torn_checkpoint_is_never_the_newest(run: Run, name: str, damage: str) -> None:
    whole, torn = run.add_checkpoint(1, fill), run.add_checkpoint(2, fill)
    file = torn.path / name
    content = file.read_bytes()
    kept = {"missing": 0, "empty": 0, "half": len(content) // 2, "one byte short": len(content) - 1}[damage]
    file.write_bytes(content[:kept])
    if damage == "missing":
        file.unlink()
    assert run.last() == whole
    assert run.torn() == [torn.path]


def test_a_checkpoint_that_fails_leaves_nothing(run: Run) -> None:
    before = run.add_checkpoint(1, fill)

    def half(folder: Path) -> None:
        (folder / WEIGHTS).write_bytes(b"x" * 1000)
        raise OSError(28, "No space left on device")

    with pytest.raises(BadInput, match=r"step-0000002` cannot be written: no space left on device") as caught:
        run.add_checkpoint(2, half)
    assert caught.value.hint is not None and "make room" in caught.value.hint
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == [before.path.name]


def test_a_crash_before_the_rename_leaves_the_old_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    old = run.meta

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        run.update_meta(status="finished")
    assert run.meta == old
    assert not list(run.path.glob(".tmp-*"))


def test_a_disk_that_is_full_is_told_in_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(BadInput, match=r"meta.json` cannot be written: no space left on device"):
        run.update_meta(status="finished")
    assert run.meta["status"] == "running"


def test_old_checkpoints_go_and_the_best_one_stays(run: Run) -> None:
    for step in range(1, 6):
        checkpoint = run.add_checkpoint(step, fill)
        if step == 2:
            run.mark_best(checkpoint, loss=1.0)
    run.prune(keep=2)
    assert [checkpoint.step for checkpoint in run.checkpoints] == [2, 4, 5]
    best, last = run.best(), run.last()
    assert best is not None and best.step == 2 and last is not None and last.step == 5


def test_a_checkpoint_is_replaced_whole(run: Run) -> None:
    run.add_checkpoint(1, fill)
    again = run.add_checkpoint(1, lambda folder: fill(folder, size=9))
    assert is_whole(again.path) and (again.path / WEIGHTS).stat().st_size < 120
