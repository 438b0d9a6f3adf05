"""`picolab bench`: tables that fit a terminal, a document that says the same, refusals in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from picolab.compare import bench as measuring
from picolab.measure.limits import Sizes

LITTLE = ["--vocab-size", "31", "--batch-size", "2", "--length", "8", "--seconds", "0.001", "--rounds", "1"]
NAMES = ["counted-pico-trainable", "lstm", "ngram"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("picolab.measure.limits.sizes_for", lambda device: Sizes(side=16, megabytes=1))
    monkeypatch.setattr("picolab.measure.memory.give_back_unused", lambda: None)


def test_each_work_has_its_table(picolab: Any) -> None:
    ran = picolab("bench", *NAMES, *LITTLE)
    assert ran.code == 0, ran.err
    titles = [line for line in ran.out.splitlines() if line.endswith("1 round")]
    assert titles == [f"{what}: 2 x 8 tokens, float32, 1 thread, 1 round" for what in ("train", "prefill", "decode")]
    for said in (
        "where a step goes",
        "data  forward  loss  backward  optim.",
        "ms/token",
        "this machine: ",
        "GFLOP/s",
    ):
        assert said in ran.out
    assert sum(line.startswith("ngram ") for line in ran.out.splitlines()) == 3  # it has no stages to split
    assert "ngram: it counts: no forward" in ran.out
    assert ran.out.count("~ fewer than 5 rounds tell nothing apart\n") == 3
    assert "train: 3 models, 1 round, about " in ran.err
    tables = [line for line in ran.out.splitlines() if "  " in line]
    assert max(map(len, tables)) <= 80
    assert "\x1b" not in ran.out + ran.err


def test_twins_are_not_told_apart_and_that_is_said(picolab: Any) -> None:
    # Twins that differ in every round by chance are one in sixty-four, in all three works one in 262,144.
    ran = picolab("bench", "kgram-conv", "kgram-conv", *LITTLE[:-4], "--rounds", "7", "--seconds", "0.05")
    assert ran.code == 0, ran.err
    assert "~ kgram-conv is not told apart from kgram-conv #2\n" in ran.out
    twins = [line for line in ran.out.splitlines() if line.startswith("kgram-conv #2") and " ~ " in line]
    assert twins


def test_the_document_says_what_the_table_says(picolab: Any, tmp_path: Path) -> None:
    ran = picolab("bench", "lstm", "kgram-conv", *LITTLE, "--json", "--out", "bench.json")
    assert ran.code == 0, ran.err
    document = ran.document
    assert json.loads((tmp_path / "bench.json").read_text(encoding="utf-8")) == document
    assert document["format"] == "picolab-bench/1"
    assert document["asked"]["threads"] == 1
    assert document["asked"]["device"] == "cpu"
    assert document["interrupted"] is False
    assert {"dtype", "products", "copy", "read"} == document["limits"].keys()
    assert [(row["model"], row["what"]) for row in document["rows"]] == [
        (model, what) for what in ("train", "prefill", "decode") for model in ("lstm", "kgram-conv")
    ]
    for row in document["rows"]:
        assert sum(row["stages"].values()) == pytest.approx(row["step_seconds"])
        assert row["step_tokens"] / row["step_seconds"] == pytest.approx(row["tokens_per_second"])
        assert row["share_of_products"] == pytest.approx(
            row["flops_per_token"] * row["tokens_per_second"] / document["limits"]["products"]
        )
    assert "machine" in document["machine"]


def test_the_names_of_the_document_are_those_its_description_has() -> None:
    from dataclasses import fields

    from picolab.compare import bench_result

    described = bench_result.__doc__ or ""
    for kind in (bench_result.Bench, bench_result.Row, bench_result.Skipped):
        for field in fields(kind):
            assert f'"{field.name}"' in described


def test_ctrl_c_shows_what_there_is(picolab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    take_turns = measuring._Measuring._take_turns

    def stopped(self: Any, what: str, turns: Any) -> None:
        if what == "prefill":
            raise KeyboardInterrupt
        take_turns(self, what, turns)

    monkeypatch.setattr(measuring._Measuring, "_take_turns", stopped)
    ran = picolab("bench", "lstm", *LITTLE)
    assert ran.code == 130
    assert ran.out.startswith("train: 2 x 8 tokens")
    assert "prefill" not in ran.out
    assert ran.err.endswith("interrupted; what was measured is shown\n")


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["softmx-pico"], "no model or run is called `softmx-pico`", "did you mean `softmax-pico`?"),
        (["lstm", "--batch-size", "0"], "`batch_size` is 0, and 1 is the least", "--batch-size 8"),
        (["mingpt", "--length", "999"], "`length` 999 is beyond the context of `mingpt`, 256 tokens", "--length 256"),
        (["lstm", "--device", "tpu"], "no device is called `tpu`", "auto, cpu, cuda, cuda:1, mps"),
        (["lstm", "--what", "trian"], "no work is called `trian`", "did you mean `train`?"),
        (["lstm", "--rouns", "3"], "no option of `picolab bench` is called `--rouns`", "did you mean `--rounds`?"),
        ([], "no model is given", "picolab bench MODEL ..; `picolab ls` lists presets"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_a_hint(words: list[str], message: str, hint: str, picolab: Any) -> None:
    ran = picolab("bench", *words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"{message}\n\nhint: {hint}\n"


def test_what_does_not_fit_is_said_before_anything_is_built(picolab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("picolab.compare.bench_fits.free_memory", lambda: 500_000_000)
    ran = picolab("bench", "lstm", "llama3-lite", "--json")
    assert ran.code == 2
    assert ran.document["error"]["message"].startswith("train needs at least ")
    assert "for `llama3-lite`: 300,434,432 parameters in 4.81 GB" in ran.document["error"]["message"]
    assert ran.document["error"]["hint"] == "a smaller --batch-size or --length, or fewer models at a time"
