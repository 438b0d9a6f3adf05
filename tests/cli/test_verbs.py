"""The verbs on real, tiny work: what they print, what they leave, how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

NUMBERS = "numeric:counting:numbers=16:documents=300"
TINY = ["--data", NUMBERS, "--context-length", "32", "--hidden", "16", "--d-embed", "8", "--eval-batches", "2"]


@pytest.fixture
def trained(picolab):
    """A run of five steps, in `runs/`."""
    ran = picolab("train", "--model", "kgram-embed", *TINY, "--steps", "5", "--name", "tiny")
    assert ran.code == 0, ran.err
    return ran


def test_a_run_is_trained_told_and_used(trained, picolab):
    run = next(line.split()[1] for line in trained.out.splitlines() if line.startswith("run "))
    assert Path(run, "checkpoints", "step-0000005", "model.safetensors").exists()
    assert trained.out.startswith("finished: all 5 steps are done")
    for said in ("training loss ", "validation loss ", "nats a token", "\nsample\n", f"picolab generate --model {run}"):
        assert said in trained.out
    for said in ("of memory, measured over", "writing to runs/", "step 5/5  loss "):
        assert said in trained.err
    text = picolab("generate", "--model", "last", "--prompt", "2 3", "--max-new-tokens", "4", "--temperature", "0")
    assert text.code == 0
    assert text.out.startswith("2 3 ")
    assert "\n[" in text.err and "tokens; " in text.err


def test_what_was_trained_goes_on_and_ends_where_one_run_would(trained, picolab):
    resumed = picolab("train", "--resume", "last", "--steps", "9", "--json").document
    assert (resumed["step"], resumed["reason"]) == (9, "finished")
    assert resumed["run"].endswith("_tiny")
    assert len(picolab("ls", "runs", "--json").document) == 1


def test_json_alone_is_on_stdout(trained, picolab):
    for words in (
        ["train", "--model", "ngram", *TINY[:4], "--steps", "3"],
        ["generate", "--model", "last", "--n", "2", "--prompt", "2"],
        ["data", NUMBERS],
        ["ls", "presets"],
        ["report", "last"],
    ):
        ran = picolab(*words, "--json")
        assert ran.code == 0, ran.err
        json.loads(ran.out)


def test_the_seed_decides_the_text(trained, picolab):
    def text(*more):
        return picolab("generate", "--model", "last", "--prompt", "2", "--max-new-tokens", "20", *more).out

    assert text("--seed", "1") == text("--seed", "1") != text("--seed", "2")
    document = picolab(
        "generate", "--model", "last", "--prompt", "2", "--max-new-tokens", "20", "--seed", "1", "--json"
    )
    (written,) = document.document["texts"]
    assert written["prompt"] + written["text"] + "\n" == text("--seed", "1")


def test_several_texts_are_numbered_and_saved(trained, picolab):
    ran = picolab("generate", "--model", "last", "--prompt", "2", "--n", "3", "--out", "texts.txt")
    assert [line.split(":")[0] for line in ran.out.splitlines() if line.startswith("---")] == [
        "--- 1 of 3", "--- 2 of 3", "--- 3 of 3",
    ]  # fmt: skip
    assert len(Path("texts.txt").read_text().splitlines()) == 3


def test_a_prompt_that_cannot_be_read_is_refused_before_anything_is_shown(trained, picolab):
    ran = picolab("generate", "--model", "last", "--prompt", "The")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("`The` is not among the") == 1


def test_a_run_is_not_overwritten(picolab):
    words = ["train", "--model", "ngram", *TINY[:4], "--steps", "2", "--out", "here"]
    assert picolab(*words).code == 0
    ran = picolab(*words)
    assert ran.code == 2
    assert ran.err.startswith("`here` already holds a run")


def test_a_configuration_file_repeats_a_run_and_flags_win_over_it(trained, picolab):
    run = next(line.split()[1] for line in trained.out.splitlines() if line.startswith("run "))
    again = picolab("train", "--config", f"{run}/settings.yaml", "--name", "again", "--json").document
    assert again["train/loss"] == pytest.approx(float(trained.out.split("training loss")[1].split()[0]), abs=1e-3)
    longer = picolab("train", "--config", f"{run}/settings.yaml", "--name", "longer", "--steps", "6", "--json").document
    assert longer["step"] == 6


def test_a_corpus_is_described_with_the_shares_that_result(picolab):
    ran = picolab("data", f"{NUMBERS}=0.5,mini_stories=0.5", "--tokenizer", "bytes", "--tokens", "20000", "--json")
    document = ran.document
    assert sum(source["share_of_tokens"] for source in document["drawn"]) == pytest.approx(1)
    assert [source["weight"] for source in document["sources"]] == [0.5, 0.5]
    assert len(document["first_batch"]) == 4
    told = picolab("data", f"{NUMBERS}=0.5,mini_stories=0.5", "--tokenizer", "bytes", "--tokens", "20000").out
    assert "mini_stories" in told and "share of tokens" in told and "first batch, 4 rows" in told


def test_a_folder_of_texts_is_data(picolab, tmp_path):
    (tmp_path / "texts" / "deep").mkdir(parents=True)
    for number in range(40):
        (tmp_path / "texts" / "deep" / f"{number}.txt").write_text(f"The boat number {number} came in at noon.\n" * 3)
    ran = picolab("data", "--input-dir", "texts", "--tokenizer", "bytes", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["name"] == "input"


def test_what_is_listed_can_be_asked_for(picolab):
    names = {row["name"] for row in picolab("ls", "presets", "--json").document}
    assert {"ngram", "lstm", "softmax-pico"} <= names
    settings = {row["name"]: row["default"] for row in picolab("ls", "settings", "--json").document}
    assert settings["optimizer.lr"] == 0.001
    assert "stories" in {row["name"] for row in picolab("ls", "data", "--json").document}
    assert "bpe-2048" in {row["name"] for row in picolab("ls", "tokenizers", "--json").document}
    assert "softmax-pico" in picolab("ls").out


def test_models_are_compared_and_the_page_is_built_again(picolab):
    words = ["compare", "kgram-embed", *TINY, "--tokens", "3000", "--seeds", "2", "--out", "it"]
    ran = picolab(*words)
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0].startswith(f"{NUMBERS}, 3,000 tokens a run; validation loss in nats a token, lower is better")
    assert {line.split()[0] for line in lines[2:4]} == {"ngram", "kgram-embed"}
    assert "above floor" in lines[1]
    assert "predicts best" in ran.out
    assert "4/4  ngram, seed 1: loss " in ran.err
    again = picolab(*words, "--json")
    assert "on disk already" in again.err
    assert [row["model"] for row in again.document["rows"]]
    page = Path(again.document["report"])
    page.unlink()
    assert picolab("report", "it").out.strip() == str(page)
    assert page.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare"], "no model was given to compare"),
        (["compare", "lstm", "--seeds", "x"], "`--seeds` is `x`, not a number or a list"),
        (["compare", "lstm", "--seeds", "0"], "`--seeds` is 0, and at least one run a model is needed"),
        (["compare", "lstn"], "no preset is called `lstn`"),
        (["train", "--data", "storys"], "no file, folder or corpus is called `storys`"),
        (["train", "--resume", "last"], "there is no run in `runs`"),
        (["train", "--config", "none.yaml"], "there is no settings file `none.yaml`"),
        (["report", "nowhere"], "there is no run `nowhere`"),
        (["train", "--steps", "0"], "`training.steps` is '0', and it should be greater than or equal to 1"),
    ],
)
def test_a_wrong_request_leaves_nothing_behind(words, message, picolab, tmp_path):
    ran = picolab(*words)
    assert (ran.code, ran.err.splitlines()[0]) == (2, message)
    assert not (tmp_path / "runs").exists()


def test_an_interrupted_training_says_how_to_go_on_and_does(tmp_path, process):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1"}
    environment["PICOLAB_HOME"] = str(tmp_path / "home")
    words = ["train", "--model", "kgram-embed", *TINY, "--steps", "1000000", "--warmup", "1", "--out", "long", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "picolab", *words],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as training:  # fmt: skip
        assert training.stdout is not None and training.stderr is not None
        for line in training.stderr:
            if line.startswith("step ") and "loss" in line and "validation" not in line:
                break
        training.send_signal(signal.SIGINT)
        document = json.loads(training.stdout.read())
        assert training.wait(timeout=60) == 130
    assert document["reason"] == "interrupted"
    assert document["next"][0] == "picolab train --resume long"
    ran = process("train", "--resume", "long", "--steps", str(document["step"] + 2), "--json")
    assert ran.code == 0, ran.err
    ended = ran.document
    assert (ended["reason"], ended["step"]) == ("finished", document["step"] + 2)


def test_a_recipe_is_a_whole_comparison_with_its_findings(picolab):
    words = ["compare", "zero", "--recipe", "counted-attention", "--fast", "--seeds", "1", "--tokens", "1000"]
    small = ["--context-length", "32", "--d-model", "96", "--d-ff", "16"]
    ran = picolab(*words, *small, "--out", "c")
    assert ran.code == 0 and "gain recovered" in ran.out and "Learning attention gains" in ran.out
    assert "report  c/report.html" in ran.out and max(map(len, ran.out.splitlines()[:6])) <= 160
    again = picolab(*words, *small, "--out", "c", "--json")
    assert again.document["gain"]["none"] == "zero" and again.document["findings"] and "on disk already" in again.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--recipe", "counted-atention"], "no recipe is called `counted-atention`"),
        (["lstm", "--tiny"], "`--tiny` is the small form of a recipe"),
        (["lstm", "--recipe", "counted-attention"], "no arm of this recipe is called `lstm`"),
        (["--recipe", "counted-attention", "--frozen", "true"], "is what the arms of this recipe differ in"),
        (["x=lstm:hiden=3"], "no setting of lstm is called `hiden`"),
    ],
)
def test_a_recipe_or_arm_that_is_none_is_refused(picolab, words, says):
    ran = picolab("compare", *words)
    assert ran.code == 2 and says in ran.err
