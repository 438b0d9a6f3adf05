"""`picolab convert`: a trained run goes into every format; what is said, as a table and as JSON; how refusals end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from picolab.trace.engines.llama_cpp import LlamaCpp
from picolab.weights.formats import open_checkpoint
from picolab.weights.gguf import write as gguf_write
from picolab.weights.gguf.header import read_header

from trained_story import STORIES, needs_stories

TINY = [
    "--model",
    "qwen2-pico",
    "--data",
    "mini_stories",
    "--tokenizer",
    "bpe-300",
    "--d-model",
    "32",
    "--n-heads",
    "4",
]
RUN = [*TINY, "--d-ff", "64", "--context-length", "48", "--eval-batches", "1", "--batch-size", "2", "--steps", "3"]

HERE = STORIES.resolve()
"""The shared folder, seen from wherever a test runs."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of three steps, made once."""
    from picolab.cli.app import main

    folder = tmp_path_factory.mktemp("trained") / "tiny"
    assert main(["train", *RUN, "--out", str(folder)]) == 0
    return str(folder)


@torch.no_grad()
def test_a_run_becomes_a_gguf_file_that_llama_cpp_runs(trained, picolab):
    ran = picolab("convert", trained, "out/tiny.gguf")
    assert (ran.code, ran.err) == (0, "")
    for said in (
        "qwen2 from ", " as GGUF\n", "type  tensors", "F32",
        "every one is the same, bit for bit", "over 96 random tokens the same, bit for bit", "56 texts: the same ids",
        "note: llama.cpp runs it as the architecture `qwen2`", "\nwritten out/tiny.gguf\n",
    ):  # fmt: skip
        assert said in ran.out
    assert max(map(len, ran.out.splitlines())) <= 160
    model, tokenizer = open_checkpoint(Path("out/tiny.gguf"))
    engine = LlamaCpp.open(Path("out/tiny.gguf"))
    ids = [*tokenizer.opening, *tokenizer.encode("The boat came in, and the boy waited.")]
    expected = model(torch.tensor([ids]))[0]
    assert engine.encode("The boat came in, and the boy waited.") == ids[1:]
    assert (engine.read(ids) - expected).abs().max() < 1e-5 * expected.abs().max()
    assert read_header(Path("out/tiny.gguf")).text("general.name") == "tiny"


def test_a_smaller_type_says_what_it_costs(trained, picolab):
    ran = picolab("convert", trained, "tiny.gguf", "--type", "q8_0")
    assert ran.code == 0
    assert "every one is within the rounding of its type" in ran.out
    assert "the largest difference is" in ran.out and "the best token is the same at" in ran.out


def test_json_lists_every_tensor_and_is_alone_on_stdout(trained, picolab):
    document = picolab("convert", trained, "folder", "--json", "--out", "saved.json").document
    assert document == json.loads(Path("saved.json").read_text())
    made = document["made"]
    assert (document["kept"], document["architecture"], made["format"]) == (True, "qwen2", "Hugging Face")
    assert made["likeness"]["exact"] is True and made["likeness"]["strayed"] == []
    sizes = {tensor["name"]: (tensor["kind"], tensor["shape"], tensor["bytes"]) for tensor in made["tensors"]}
    assert sizes["model.embed_tokens.weight"] == ("F32", [300, 32], 300 * 32 * 4)
    assert sorted(os.listdir("folder")) == [
        "config.json", "generation_config.json", "model.safetensors",
        "picolab_tokenizer.json", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    special = json.loads(Path("folder/generation_config.json").read_text())
    assert special == {"bos_token_id": 299, "eos_token_id": 299, "pad_token_id": 299}


@needs_stories
def test_the_trained_model_goes_into_all_formats_and_tells_the_same_story(picolab):
    story = ["--prompt", "Once upon a time", "--max-new-tokens", "40", "--temperature", "0"]
    shutil.copy(HERE / "stories260K.bin", "source.bin")
    shutil.copy(HERE / "tok512.bin", "tok512.bin")
    told = picolab("generate", "--model", "source.bin", *story).out
    for source, target in (("source.bin", "a.gguf"), ("a.gguf", "b"), ("b", "c/model.bin"), ("c/model.bin", "d.gguf")):
        assert picolab("convert", source, target).code == 0
        assert picolab("generate", "--model", target, *story).out == told
    assert Path("c/model.bin").read_bytes() == Path("source.bin").read_bytes()
    assert Path("c/tokenizer.bin").read_bytes() == Path("tok512.bin").read_bytes()


@pytest.mark.parametrize(
    ("words", "says", "hint"),
    [
        (["x.bin"], "a llama2.c file has no words for a tokenizer of kind `bpe`", "--tokenizer none"),
        (["x.bin", "--tokenizer", "none"], "a llama2.c file holds a llama, and the model is a qwen2", "GGUF several"),
        (["x.gguf", "--type", "Q4_K"], "`Q4_K` is no type that is written here", "Q8_0"),
        (["x", "--type", "Q8_0"], "what is written as Hugging Face is F32, not `Q8_0`", "x.gguf has other types"),
        (["x.safetensors"], "`x.safetensors` is no kind of checkpoint that is written here", "x.gguf is"),
        (["x.gguf", "--tokenizer", "characters"], "the tokenizer `characters` needs a corpus", "needs none"),
        (["x.gguf", "--typ", "F16"], "no option of `picolab convert` is called `--typ`", "`--type`"),
        ([], "`picolab convert` needs `DST`", "--help"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence_and_leaves_nothing(words, says, hint, trained, picolab):
    ran = picolab("convert", trained, *words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(says) and hint in ran.err and "Traceback" not in ran.err
    assert os.listdir() == []


def test_what_is_there_is_replaced_only_with_force_and_a_source_never(trained, picolab):
    assert picolab("convert", trained, "x.gguf").code == 0
    before = Path("x.gguf").stat().st_size
    refused = picolab("convert", trained, "x.gguf", "--type", "F16")
    assert (refused.code, refused.err.split("\n")[0]) == (2, "`x.gguf` is there already")
    assert picolab("convert", trained, "x.gguf", "--type", "F16", "--force").code == 0
    assert Path("x.gguf").stat().st_size < before
    itself = picolab("convert", "x.gguf", "x.gguf", "--force")
    assert itself.code == 2 and "which would replace it" in itself.err
    around = picolab("convert", trained, str(Path(trained).parent), "--force")
    assert around.code == 2 and "which would replace it" in around.err


def test_a_file_that_is_not_the_model_is_not_kept_and_ends_with_1(trained, picolab, monkeypatch):
    true = gguf_write._stored
    monkeypatch.setattr(gguf_write, "_stored", lambda name, tensor, kind: true(name, tensor.flip(0), kind))
    ran = picolab("convert", trained, "x.gguf")
    assert ran.code == 1
    assert "differ by more than their type rounds" in ran.out
    assert ran.out.endswith("not the same model: nothing is left of x.gguf\n")
    assert os.listdir() == []


def test_weights_alone_may_be_written(trained, picolab):
    ran = picolab("convert", trained, "x.gguf", "--tokenizer", "none")
    assert ran.code == 0 and "note: there is no tokenizer in it" in ran.out
    assert open_checkpoint(Path("x.gguf"))[1] is None


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_ctrl_c_leaves_nothing_and_says_so(tmp_path):
    source = str(Path(__file__).parents[2] / "src")
    words = [sys.executable, "-m", "picolab", "convert", "mingpt", "big.gguf"]
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not list(tmp_path.glob(".tmp-*")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted: nothing is left of `big.gguf`" in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
