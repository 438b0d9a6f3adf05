"""`picolab count`: counts that are kept, go on after Ctrl-C, and end quietly when nobody reads on."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rich.console import Console

from picolab.cli.amounts import COUNTING, READING, AmountDisplay
from picolab.counts.tables import FILE, open_tables


def test_counts_are_told_and_kept_and_found_again(picolab):
    first = picolab("count", "stories-shipped", "--order", "2", "--skip", "1", "--tokenizer", "characters", "--json")
    document = first.document
    assert first.code == 0 and "counting  100%" in first.err and "ETA 0.0 s" in first.err
    assert [table["name"] for table in document["tables"]] == ["n1-s0", "n1-s1", "n2-s0", "n2-s1"]
    source = document["source"]
    assert source["split"] == "train" and len(source["tokens_hash"]) == 32 and source["vocab_size"] == 71
    assert document["tables"][0]["counted"] == source["n_tokens"] and document["peak_memory_bytes"] > 2**20
    assert document["tables"][0]["most_frequent"] == [{"context": ["e"], "target": "␣", "count": 7266}]
    again = picolab("count", "stories-shipped", "--order", "2", "--skip", "1", "--tokenizer", "characters")
    assert again.code == 0 and "counting" not in again.err and f"counts  {document['folder']}" in again.out
    lines = [line for line in again.out.splitlines() if document["folder"] not in line]
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--order", "4"], "order 4 and skip 3 are not counted here"),
        (["--tables", "n1-s0 n1"], "`n1` is no table of counts"),
        (["--top", "-1"], "top -1"),
        (["--threads", "0"], "threads 0"),
        (["--split", "validation"], "no option of `picolab count` is called `--split`"),
    ],
)
def test_what_cannot_be_counted_is_said(picolab, words, says):
    ran = picolab("count", "stories-shipped", *words)
    assert ran.code == 2 and says in ran.err and not ran.out


def test_a_text_shorter_than_a_window_is_refused(picolab, tmp_path):
    (tmp_path / "short.txt").write_text("ab\n\ncd\n\nef", encoding="utf-8")
    ran = picolab("count", "short.txt", "--tokenizer", "bytes", "--order", "3", "--skip", "8")
    assert ran.code == 2 and "fewer than the 12 a window spans" in ran.err


def test_a_folder_with_counts_of_another_text_is_left_alone(picolab, tmp_path):
    assert picolab("count", "stories-shipped", "--out", "mine", "--skip", "0").code == 0
    before = (tmp_path / "mine" / FILE).read_bytes()
    ran = picolab("count", "numeric:counting", "--out", "mine", "--skip", "0")
    assert ran.code == 2 and "the counts in `mine` are of tokens" in ran.err
    assert (tmp_path / "mine" / FILE).read_bytes() == before


def started(tmp_path, *words):
    environment = {**os.environ, "PICOLAB_HOME": str(tmp_path / "home"), "COLUMNS": "80"}
    return subprocess.Popen(
        [sys.executable, "-m", "picolab", "count", *words], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_ctrl_c_keeps_what_is_counted_and_the_same_command_goes_on(tmp_path):
    letters = np.random.default_rng(0).integers(97, 123, 1_200_000, dtype=np.uint8)
    letters[::3001] = ord("\n")
    (tmp_path / "text.txt").write_bytes(letters.tobytes())
    words = ["text.txt", "--tokenizer", "bytes", "--order", "3", "--skip", "8", "--threads", "1"]
    running = started(tmp_path, *words, "--out", "counts")
    file, end = tmp_path / "counts" / FILE, time.monotonic() + 60
    while time.monotonic() < end and not (file.exists() and json.loads(file.read_text())["tables"]):
        time.sleep(0.005)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130 and not out
    assert "counted, which is kept in counts; the same command goes on" in err and "Traceback" not in err
    whole = open_tables(tmp_path / "counts").whole
    assert 0 < len(whole) < 27
    stamps = {name: (tmp_path / "counts" / f"{name}.keys").stat().st_mtime_ns for name in whole}
    again = started(tmp_path, *words, "--out", "counts")
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0 and "going on where it was" in err
    tables = open_tables(tmp_path / "counts")
    assert len(tables) == 27
    assert {name: (tmp_path / "counts" / f"{name}.keys").stat().st_mtime_ns for name in whole} == stamps
    afresh = started(tmp_path, *words[:2], "bytes", "--tables", "n1-s0 n3-s8", "--out", "afresh")
    assert afresh.communicate(timeout=60) and afresh.returncode == 0
    for name, table in open_tables(tmp_path / "afresh").items():
        assert np.array_equal(table.keys, tables[name].keys) and np.array_equal(table.counts, tables[name].counts)


def test_a_reader_that_goes_away_ends_it_cleanly(tmp_path):
    running = started(tmp_path, "stories-shipped", "--json", "--top", "4000")
    with running:
        assert running.stdout.readline() == "{\n"
        running.stdout.close()
        err = running.stderr.read()
    assert running.returncode == 0 and "Traceback" not in err and "Broken" not in err


def test_training_a_counted_preset_shows_the_counting_and_finds_it_done_the_next_time(picolab):
    words = ["train", "--model", "counted-pico", "--data", "stories-shipped", "--tokenizer", "bpe-512", "--steps", "2"]
    small = ["--d-model", "96", "--d-ff", "32", "--context-length", "32", "--batch-size", "2", "--name"]
    ran = picolab(*words, *small, "first")
    assert ran.code == 0 and "counting  100%" in ran.err and "heads look back by" in ran.err
    assert ran.err.index("counting") < ran.err.index("parameters")
    ran = picolab(*words, *small, "second")
    assert ran.code == 0 and "counting" not in ran.err


def test_a_terminal_sees_a_bar_with_rate_and_eta(monkeypatch):
    console = Console(force_terminal=True, width=80, highlight=False, markup=False)
    with console.capture() as captured:
        display = AmountDisplay(console, COUNTING)
        display(0, 4_000_000)
        time.sleep(0.3)
        display(2_000_000, 4_000_000)
        time.sleep(0.2)
        display.close()
    said = captured.get()
    assert "50 %" in said and "M tokens/s  ETA" in said


def test_reading_a_corpus_is_told_in_a_pipe_only_where_it_takes_a_while(monkeypatch):
    console = Console(force_terminal=False, width=80, highlight=False, markup=False)
    clock = iter([0.0, 0.0, 0.5, 0.9, 10.0, 10.0, 12.0, 16.0, 20.0])
    monkeypatch.setattr("picolab.cli.amounts.time.monotonic", lambda: next(clock))
    with console.capture() as captured:
        short = AmountDisplay(console, READING)
        short(0, 2_000)
        short(1_000, 2_000)
        short(2_000, 2_000)
        long = AmountDisplay(console, READING)
        long(0, 20_000_000)
        long(7_000_000, 20_000_000)
        long(10_000_000, 20_000_000)
        long(20_000_000, 20_000_000)
    lines = captured.get().splitlines()
    assert [line.split()[1] for line in lines] == ["50%", "100%"]
    assert lines[0].startswith("reading    50%  10,000,000 of 20,000,000 bytes  1.67 MB/s  ETA 6.0 s")
