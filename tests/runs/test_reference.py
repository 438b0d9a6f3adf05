"""One word to a model: presets, runs, checkpoints, and a clear no to everything else."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from picolab.errors import BadCheckpoint, BadInput, UnknownName
from picolab.models.lstm import LSTM, Config
from picolab.runs.folder import create_run
from picolab.runs.reference import open_reference
from picolab.runs.settings import resolve
from picolab.text.bytes import byte_tokenizer
from picolab.weights.checkpoint import save_model

TOKENIZER = byte_tokenizer()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def a_model(seed: int, vocab_size: int = TOKENIZER.vocab_size) -> LSTM:
    torch.manual_seed(seed)
    return LSTM(Config(vocab_size=vocab_size, context_length=16))


def a_run(name: str, *models: LSTM):
    run = create_run(resolve("lstm", None, {"name": name}))

    def fill(folder, model):
        save_model(model, TOKENIZER, folder)
        torch.save({}, folder / "training_state.pt")

    for step, model in enumerate(models, start=1):
        run.add_checkpoint(step, partial(fill, model=model))
    return run


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_preset_has_the_weights_of_its_seed_and_reads_bytes():
    opened = open_reference("softmax-pico", seed=3)
    assert opened.tokenizer is not None and opened.tokenizer.kind == "bytes"
    assert opened.model.config.vocab_size == opened.tokenizer.vocab_size
    assert not opened.model.training
    assert opened.notes == ("`softmax-pico` is a preset: its weights are random, and so is what it writes",)
    assert same(opened.model, open_reference("softmax-pico", seed=3).model)
    assert not same(opened.model, open_reference("softmax-pico", seed=4).model)


def test_a_preset_takes_settings_of_its_own():
    opened = open_reference("softmax-pico", vocab_size=50257)
    assert opened.model.config.vocab_size == 50257
    assert sum(p.numel() for p in opened.model.parameters()) == 6_861_440
    with pytest.raises(BadInput, match="`softmax-pico` has no tokenizer"):
        opened.reading()
    with pytest.raises(UnknownName):
        open_reference("softmax-pico", n_blocks=3)


def test_a_run_is_its_newest_checkpoint():
    old, new = a_model(0), a_model(1)
    run = a_run("first", old, new)
    for reference in (run.path, str(run.path), run.path.name, "last", "runs/last"):
        opened = open_reference(reference)
        assert same(opened.model, new)
        assert opened.reading().fingerprint == TOKENIZER.fingerprint
        assert opened.source == str(run.path / "checkpoints" / "step-0000002")


def test_a_checkpoint_folder_is_itself():
    run = a_run("first", a_model(0), a_model(1))
    assert same(open_reference(run.path / "checkpoints" / "step-0000001").model, a_model(0))


def test_a_preset_wins_over_a_folder_of_its_name_which_can_still_be_written():
    save_model(a_model(7), TOKENIZER, Path("lstm"))
    assert open_reference("lstm").source == "lstm"
    assert open_reference("lstm").notes
    assert same(open_reference("./lstm").model, a_model(7))


def test_a_saved_model_may_be_read_with_another_tokenizer_but_not_with_a_larger_one(tmp_path):
    save_model(a_model(0), None, tmp_path / "bare")
    with pytest.raises(BadInput, match="has no tokenizer"):
        open_reference(tmp_path / "bare").reading()
    assert open_reference(tmp_path / "bare", tokenizer="bytes").reading().kind == "bytes"
    save_model(a_model(0, vocab_size=100), None, tmp_path / "small")
    with pytest.raises(BadInput, match="the tokenizer has 257 tokens and the model 100"):
        open_reference(tmp_path / "small", tokenizer="bytes")


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("lstn", UnknownName, "no model or run is called `lstn`"),
        ("model.gguf", UnknownName, "no model or run is called `model.gguf`"),
        ("weights.pt", BadInput, "`weights.pt` is a pickle that can run code, which is not opened here"),
        ("last", BadInput, "there is no run in `runs`"),
        (".", BadCheckpoint, "`.` is neither a run nor a checkpoint"),
    ],
)
def test_what_is_no_model_is_refused_by_name(reference, error, message):
    with pytest.raises(error) as caught:
        open_reference(reference)
    assert str(caught.value) == message
    assert caught.value.hint


def test_a_run_that_saved_nothing_yet_says_so():
    run = a_run("empty")
    with pytest.raises(BadCheckpoint) as caught:
        open_reference("last")
    assert str(caught.value) == f"`{run.path}` has no checkpoint yet"
    assert caught.value.hint == f"picolab train --resume {run.path}"


def test_the_settings_of_a_saved_model_cannot_be_changed():
    a_run("first", a_model(0))
    with pytest.raises(BadInput, match="is a saved model, whose `n_layers` cannot be changed"):
        open_reference("last", n_layers=3)
