"""`picolab trace`: defaults, every form of output, other engines, and every way to ask wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from picolab.cli import trace_asked
from picolab.errors import MissingExtra
from picolab.recipes import demo_model
from picolab.runs.folder import list_runs
from picolab.runs.settings import resolve
from picolab.text.bytes import byte_tokenizer
from picolab.trace.bundle import read_bundle
from picolab.train.loop import train
from picolab.weights.checkpoint import save_model
from picolab.zoo import build

from trained_story import STORIES, needs_stories

HERE = STORIES.resolve()
TINY = {
    "vocab_size": 257,
    "context_length": 32,
    "d_model": 16,
    "n_layers": 2,
    "n_heads": 2,
    "n_kv_heads": 1,
    "d_ff": 24,
}


@pytest.fixture
def folder(tmp_path):
    """A checkpoint that reads bytes, with weights that are no defaults."""
    torch.manual_seed(3)
    model = build("llama", TINY)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    save_model(model.eval(), byte_tokenizer(), tmp_path / "talker")
    return "talker"


@pytest.fixture
def mute(tmp_path):
    save_model(build("llama", TINY).eval(), None, tmp_path / "mute")
    return "mute"


def test_brief_fits_one_screen_and_normal_eighty_columns(folder, picolab, monkeypatch):
    brief = picolab("trace", "--model", folder, "--prompt", "a cat", "--detail", "brief")
    assert brief.code == 0, brief.err
    assert len(brief.out.splitlines()) <= 26
    assert "\x1b" not in brief.out
    normal = picolab("trace", "--model", folder, "--prompt", "a cat")
    full = picolab("trace", "--model", folder, "--prompt", "a cat", "--detail", "full")
    assert len(brief.out) < len(normal.out) < len(full.out)
    assert max(map(len, normal.out.splitlines())) <= 88
    for words in (
        "picolab/models/llama.py:",
        "blocks.1.attention.probs",
        "mean ",
        "100.0 %",
        "Rows sum to 1",
        "Clipping",
    ):
        assert words in normal.out
    assert "code: " in full.out and "code: " not in normal.out


@needs_stories
def test_a_trained_model_is_not_called_untrained_and_its_choice_is_told(picolab):
    model = str(HERE / "stories260K.gguf")
    ran = picolab("trace", "--model", model, "--prompt", "Once upon a time", "--detail", "brief")
    assert "untrained" not in ran.out
    assert "After `␣time` it is sure of `,`" in ran.out
    assert "Head 6 puts 0.999 of `␣time`'s attention on `␣a`" in ran.out


def test_json_is_one_document_with_everything_the_terminal_says(folder, picolab):
    ran = picolab("trace", "--model", folder, "--prompt", "a cat", "--json", "--out", "bundle")
    told = ran.document["narration"]
    assert ran.document["bundle"] == "bundle"
    assert [word["piece"] for word in told["words"]][1:] == ["a", "␣", "c", "a", "t"]
    steps = [step for section in told["sections"] for step in section["steps"]]
    probs = next(step for step in steps if step["site"] == "blocks.0.attention.probs")
    assert probs["shape"] == [1, 2, 6, 6] and probs["source"]["file"] == "picolab/parts/attention.py"
    assert probs["statistics"]["mean"] == pytest.approx(6 / 21, rel=1e-5)  # of visible pairs


def test_a_bundle_holds_every_tensor_and_its_gradient(folder, picolab):
    ran = picolab("trace", "--model", folder, "--tokens", "5,17,200", "--detail", "brief", "--out", "bundle")
    assert ran.code == 0 and "bundle" in ran.err
    recording = read_bundle(Path("bundle"))
    assert recording.tokens.tolist() == [[5, 17, 200]]
    forward = [site for site in recording.sites if not site.startswith("grad/") and site != "loss"]
    assert {"embed", "blocks.1.mlp.act", "logits"} <= set(forward)
    for site in forward:
        assert recording.gradient(site).shape == recording[site].shape, site


def test_sites_choose_what_is_recorded_and_told(folder, picolab):
    words = [
        "trace",
        "--model",
        folder,
        "--prompt",
        "a cat",
        "--sites",
        "blocks.*.attention.probs",
        "--sites",
        "logits",
    ]
    told = picolab(*words, "--out", "bundle", "--json").document["narration"]
    seen = {step["site"] for section in told["sections"] for step in section["steps"] if step["site"]}
    asked = {"blocks.0.attention.probs", "blocks.1.attention.probs", "logits"}
    assert seen - {"loss"} == asked  # the loss is told in any case
    assert {site.removeprefix("grad/") for site in read_bundle(Path("bundle")).sites} - {"loss"} == asked


def test_markdown_goes_into_a_file_or_to_the_terminal(folder, picolab):
    words = ["trace", "--model", folder, "--prompt", "a cat"]
    shown = picolab(*words, "--format", "markdown")
    assert shown.out.startswith("# talker, traced\n")
    assert "### Softmax (`blocks.1.attention.probs`)" in shown.out
    kept = picolab(*words, "--markdown", "deep/told.md")
    assert kept.code == 0
    assert Path("deep/told.md").read_text(encoding="utf-8") == shown.out


def test_the_page_is_written(folder, picolab):
    ran = picolab("trace", "--model", folder, "--prompt", "a cat", "--detail", "brief", "--html", "t.html")
    assert ran.code == 0, ran.err
    page = Path("t.html").read_text(encoding="utf-8")
    assert "blocks.1.attention.probs" in page and 'src="http' not in page


def test_a_token_is_followed_from_either_end_and_blocks_are_chosen(folder, picolab):
    words = ["trace", "--model", folder, "--prompt", "a cat", "--json"]
    told = picolab(*words, "--token", "-3", "--layers", "-1").document["narration"]
    assert told["followed"] == 3
    assert [bool(s["steps"]) for s in told["sections"] if s["kind"] == "block"] == [False, True]


def test_no_iterations_is_forward_only(folder, picolab):
    told = picolab("trace", "--model", folder, "--prompt", "a cat", "--iterations", "0", "--json").document["narration"]
    assert [section["kind"] for section in told["sections"]][-2:] == ["head", "loss"]


def test_a_single_token_says_why_there_is_no_way_back(folder, picolab):
    ran = picolab("trace", "--model", folder, "--tokens", "5", "--detail", "brief")
    assert ran.code == 0 and "A single token has none after it" in ran.out and "backward" not in ran.out


@pytest.fixture
def small_demo(monkeypatch):
    """The demo's transformer, hardly trained."""
    small = demo_model.demo_settings().changed(training={"tokens": 2000, "eval_batches": 1, "sample_tokens": 0})
    monkeypatch.setattr(demo_model, "demo_settings", lambda *, seed=0: small)


def test_where_nothing_was_trained_the_demos_transformer_is_and_then_it_is_the_newest(picolab, small_demo):
    first = picolab("trace", "--detail", "brief")
    assert first.code == 0, first.err
    assert "nothing was trained here yet" in first.err
    (run,) = list_runs()
    assert f"`{run.path}` was trained just now" in " ".join(first.out.split())
    again = picolab("trace", "--json")
    assert len(list_runs()) == 1
    told = again.document["narration"]
    assert told["notes"][0] == f"No model was named: this is the newest trained run, `{run.path}`."
    assert len(told["words"]) == trace_asked.MOST_BY_DEFAULT + 1


def test_a_run_that_only_counted_is_not_the_one_to_trace(picolab, small_demo):
    settings = {"data": "stories-shipped", "tokenizer": "characters", "steps": "1", "context_length": "32"}
    train(resolve(preset="ngram", overrides=settings))
    assert trace_asked.newest_trained() is None
    run = train(demo_model.demo_settings())
    train(resolve(preset="ngram", overrides={**settings, "name": "later"}))
    assert trace_asked.newest_trained().path == run.path


@pytest.mark.parametrize("engine", ["transformers", "llama.cpp"])
def test_another_engine_computes_the_same_and_leaves_the_same_bundle(engine, folder, picolab):
    for name, out in (("picolab", "ours"), (engine, "theirs")):
        ran = picolab("trace", "--model", folder, "--prompt", "a cat", "--engine", name, "--out", out, "--json")
        assert ran.code == 0, ran.err
    told = ran.document["narration"]
    assert told["engine"].startswith(engine) and "computed this pass" in " ".join(told["notes"])
    steps = [step for section in told["sections"] for step in section["steps"]]
    assert all(step["source"] is None for step in steps if step["site"])
    ours, theirs = read_bundle(Path("ours")), read_bundle(Path("theirs"))
    shared = [site for site in theirs.sites if site in ours]
    assert {"blocks.1.attention.q_rope", "blocks.0.attention.probs", "blocks.1.mlp.act", "logits"} <= set(shared)
    for site in shared:
        assert torch.allclose(ours[site], theirs[site], atol=1e-4), site


def test_a_model_only_transformers_can_open_is_told_as_far_as_it_goes(tmp_path, picolab):
    transformers = pytest.importorskip("transformers", reason="the reference extra is not installed")
    config = transformers.GPTNeoXConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=32,
    )  # fmt: skip
    transformers.GPTNeoXForCausalLM(config).save_pretrained(tmp_path / "foreign")
    ran = picolab("trace", "--model", "foreign", "--tokens", "5,17,20", "--engine", "transformers", "--json")
    assert ran.code == 0, ran.err
    kinds = [section["kind"] for section in ran.document["narration"]["sections"]]
    assert kinds == ["tokens", "embedding", "block", "block", "head", "loss"]


def test_an_engine_that_is_not_installed_names_the_extra(folder, picolab, monkeypatch):
    def absent():
        raise MissingExtra("running a model in transformers", "reference")

    monkeypatch.setattr("picolab.trace.engines.transformers._library", absent)
    ran = picolab("trace", "--model", folder, "--prompt", "a", "--engine", "transformers")
    assert ran.code == 2
    assert "pip install 'picolab[reference]'" in ran.err


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["--prompt", ""], "the prompt '' has no token", "a text of a word or more"),
        (["--prompt", "long " * 20], "101 positions are more than the model's context of 32", "shorten"),
        (["--tokens", "5,900"], "token 900 is outside the model's vocabulary of 257", None),
        (["--tokens", "five"], "`--tokens five` are no token ids", "5,17,200"),
        (["--prompt", "a", "--tokens", "5"], "`--prompt` and `--tokens` both say", "one of them"),
        (["--sites", "blocks.*.atention.probs"], "no site of this model matches", "`blocks.0.attention.probs`"),
        (["--sites", "zzz"], "no site of this model matches `zzz`", "`embed`"),
        (["--detail", "breif"], "no detail is called `breif`", "did you mean `brief`?"),
        (["--engine", "lama.cpp"], "no engine is called `lama.cpp`", "did you mean `llama.cpp`?"),
        (["--format", "pdf"], "no format is called `pdf`", "markdown"),
        (["--layers", "0,9"], "there is no block 9 in 2", "0 to 1"),
        (["--layers", "first"], "`--layers first` are no numbers of blocks", "0,1,-1"),
        (["--token", "40"], "there is no token 40", "-1 for the last"),
        (["--iterations", "-1"], "-1 iterations are fewer than none", "forward pass only"),
        (["--lr", "0"], "a learning rate of 0 is not positive", "0.001"),
        (["--out", "talker"], "`talker` exists and is no trace bundle", "new or empty"),
    ],
)
def test_a_bad_request_is_one_sentence(words, message, hint, folder, picolab):
    text = [] if {"--prompt", "--tokens"} & set(words) else ["--prompt", "a cat"]
    ran = picolab("trace", "--model", folder, *text, *words)
    assert ran.code == 2 and ran.out == ""
    assert ran.err.startswith(message) and "Traceback" not in ran.err
    assert hint is None or hint in ran.err


def test_a_model_without_words_needs_ids(mute, picolab):
    ran = picolab("trace", "--model", mute, "--prompt", "a")
    assert ran.code == 2 and "has no tokenizer" in ran.err and "--tokens 5,17,200" in ran.err
    assert picolab("trace", "--model", mute, "--tokens", "5,6", "--detail", "brief").code == 0


@pytest.mark.parametrize(
    ("model", "engine", "message"),
    [
        ("ngram", "picolab", "a model that counts (`ngram`)"),
        ("lstm", "transformers", "transformers has no architecture for a `lstm`"),
        ("nowhere", "picolab", "no model or run is called `nowhere`"),
        ("nowhere", "transformers", "no model or run is called `nowhere`"),
    ],
)
def test_a_model_that_cannot_be_traced_says_why(model, engine, message, picolab):
    ran = picolab("trace", "--model", model, "--prompt", "a", "--engine", engine)
    assert ran.code == 2 and ran.err.startswith(message)


def test_json_of_a_bad_request_is_json(folder, picolab):
    ran = picolab("trace", "--model", folder, "--prompt", "", "--json")
    assert json.loads(ran.out)["error"]["message"] == "the prompt '' has no token"
