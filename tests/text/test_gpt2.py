"""GPT-2's vocabulary, and where it is looked for."""

from __future__ import annotations

import json
import shutil

import pytest

from picolab.errors import BadCheckpoint, BadData
from picolab.text import gpt2
from picolab.text.gpt2 import HINT, gpt2_tokenizer
from text.kinds import GPT2, needs_gpt2, tokenizer_of


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No variable is set and nothing lies beside the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PICOLAB_GPT2", raising=False)
    monkeypatch.delenv("PICOLAB_SHARED", raising=False)


@needs_gpt2
def test_the_well_known_ids():
    tokenizer = tokenizer_of("gpt2")
    assert (tokenizer.vocab_size, tokenizer.eot, tokenizer.pad) == (50257, 50256, None)
    assert tokenizer.encode("Hello world") == [15496, 995]
    assert tokenizer.encode("Once upon a time") == [7454, 2402, 257, 640]
    assert tokenizer.token_name(995) == "␣world"


@needs_gpt2
@pytest.mark.parametrize("way", ["folder", "PICOLAB_GPT2", "PICOLAB_SHARED", "beside"])
def test_each_place_is_looked_in(way, monkeypatch, tmp_path):
    monkeypatch.setattr(gpt2, "_from_hub", lambda: pytest.fail("the hub was asked"))
    if way == "beside":
        (tmp_path / "shared" / "data").mkdir(parents=True)
        (tmp_path / "project").mkdir()
        shutil.copytree(GPT2, tmp_path / "shared" / "data" / "gpt2")
        monkeypatch.chdir(tmp_path / "project")
    elif way != "folder":
        monkeypatch.setenv(way, str(GPT2 if way == "PICOLAB_GPT2" else GPT2.parent.parent))
    tokenizer = gpt2_tokenizer(GPT2 if way == "folder" else None)
    assert tokenizer.fingerprint == tokenizer_of("gpt2").fingerprint


@needs_gpt2
def test_hugging_faces_names_are_read_too(tmp_path):
    shutil.copy(GPT2 / "encoder.json", tmp_path / "vocab.json")
    shutil.copy(GPT2 / "vocab.bpe", tmp_path / "merges.txt")
    assert gpt2_tokenizer(tmp_path).fingerprint == tokenizer_of("gpt2").fingerprint


def test_a_folder_given_that_does_not_serve_is_an_error(tmp_path):
    with pytest.raises(BadData) as caught:
        gpt2_tokenizer(tmp_path)
    assert str(caught.value) == (
        f"the folder given for GPT-2's vocabulary, `{tmp_path}`, does not hold encoder.json and vocab.bpe"
    )
    assert caught.value.hint == HINT


def test_a_variable_that_does_not_serve_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PICOLAB_GPT2", str(tmp_path / "none"))
    with pytest.raises(BadData, match="^the folder of the variable PICOLAB_GPT2, "):
        gpt2_tokenizer()


def test_without_files_and_without_network_one_hears_what_to_set(monkeypatch):
    import huggingface_hub

    def offline(repository, name):
        raise huggingface_hub.errors.LocalEntryNotFoundError("cannot find the requested files\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(BadData) as caught:
        gpt2_tokenizer()
    assert str(caught.value) == (
        "GPT-2's vocabulary is not on this machine and the hub does not answer: cannot find the requested files"
    )
    assert (
        caught.value.hint
        == "give the folder of encoder.json and vocab.bpe with `--gpt2-dir` or the variable PICOLAB_GPT2"
    )


@needs_gpt2
def test_files_from_the_hub_are_the_same(monkeypatch):
    import huggingface_hub

    local = {"vocab.json": GPT2 / "encoder.json", "merges.txt": GPT2 / "vocab.bpe"}
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, name: str(local[name]))
    assert gpt2_tokenizer().fingerprint == tokenizer_of("gpt2").fingerprint


@needs_gpt2
@pytest.mark.parametrize("name", ["encoder.json", "vocab.bpe"])
def test_a_file_cut_short_is_refused(name, tmp_path):
    shutil.copytree(GPT2, tmp_path, dirs_exist_ok=True)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(BadCheckpoint, match=r"cannot be read|has 50,257 tokens, and vocab\.bpe has 25,\d+ pairs"):
        gpt2_tokenizer(tmp_path)


def test_a_foreign_vocabulary_is_refused(tmp_path):
    (tmp_path / "encoder.json").write_text(json.dumps({"a": 0, "b": 1}))
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\na b\n")
    with pytest.raises(BadCheckpoint, match=r"encoder\.json` has 2 tokens, and vocab\.bpe has 1 pairs$"):
        gpt2_tokenizer(tmp_path)
    (tmp_path / "encoder.json").write_text("[1, 2]")
    with pytest.raises(BadCheckpoint):
        gpt2_tokenizer(tmp_path)
