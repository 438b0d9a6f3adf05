"""A tokenizer on disk."""

from __future__ import annotations

import json

import pytest

from picolab.errors import BadCheckpoint, BadData
from picolab.text.tokenizer import Tokenizer
from text.kinds import KINDS, corpus_of, tokenizer_of


@pytest.fixture
def folder(tmp_path):
    tokenizer_of("bpe-400").save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", KINDS)
def test_saved_is_loaded(name, tmp_path):
    tokenizer = tokenizer_of(name)
    tokenizer.save(tmp_path / "new" / "folder")
    again = Tokenizer.load(tmp_path / "new" / "folder")
    assert (again.kind, again.eot, again.pad, again.vocab_size) == (
        tokenizer.kind,
        tokenizer.eot,
        tokenizer.pad,
        tokenizer.vocab_size,
    )
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode_batch(corpus_of(name)) == tokenizer.encode_batch(corpus_of(name))
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == [
        "picolab_tokenizer.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_a_folder_and_its_tokenizer_json_are_one(folder):
    assert Tokenizer.load(folder / "tokenizer.json").fingerprint == Tokenizer.load(folder).fingerprint


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_torn_vocabulary_is_refused(folder, kept):
    path = folder / "tokenizer.json"
    content = path.read_text(encoding="utf-8")
    path.write_text(content[: int(len(content) * kept)], encoding="utf-8")
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.json` is no tokenizer: ") as caught:
        Tokenizer.load(folder)
    assert caught.value.hint == "the file is torn or foreign"


def test_what_is_not_text_is_refused(folder):
    (folder / "tokenizer.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.json` cannot be read: "):
        Tokenizer.load(folder)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(BadCheckpoint) as caught:
        Tokenizer.load(tmp_path)
    assert str(caught.value) == f"there is no `{tmp_path / 'tokenizer.json'}`"
    assert caught.value.hint == "a folder with a tokenizer.json is meant"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eot": 5000}, "does not belong to the tokenizer.json beside it"),
        ({"eot": None}, "does not belong to the tokenizer.json beside it"),
        ({"pad": 5000}, "does not belong to the tokenizer.json beside it"),
        ({"keep": [3, 2, 1]}, "does not belong to the tokenizer.json beside it"),
        ({"keep": list(range(5000))}, "does not belong to the tokenizer.json beside it"),
        ({"keep": [0, 1]}, "does not belong to the tokenizer.json beside it"),
        ({"kind": 7}, "does not belong to the tokenizer.json beside it"),
    ],
)
def test_our_own_file_is_checked_against_the_vocabulary(folder, change, message):
    path = folder / "picolab_tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadCheckpoint) as caught:
        Tokenizer.load(folder)
    assert str(caught.value) == f"`{path}` {message}"


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not JSON"), ("[]", "holds a list, not settings"), ("{}", "does not say 'kind'")]
)
def test_our_own_file_torn_is_refused(folder, content, message):
    (folder / "picolab_tokenizer.json").write_text(content)
    with pytest.raises(BadCheckpoint) as caught:
        Tokenizer.load(folder)
    assert message in str(caught.value)


@pytest.mark.parametrize("eos", ["<|endoftext|>", {"content": "<|endoftext|>"}, None])
def test_a_folder_of_other_people_names_its_end_of_text(folder, eos):
    (folder / "picolab_tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos, "pad_token": eos}))
    tokenizer = Tokenizer.load(folder)
    assert (tokenizer.kind, tokenizer.eot, tokenizer.pad, tokenizer.keep) == ("bpe", 399, None, None)
    assert tokenizer.fingerprint == tokenizer_of("bpe-400").fingerprint


def test_a_folder_without_an_end_of_text_is_refused(folder):
    (folder / "picolab_tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    with pytest.raises(BadData, match=r"tokenizer\.json` has no end-of-text token `</s>`$"):
        Tokenizer.load(folder)


def test_words_without_our_own_file_are_refused(tmp_path):
    tokenizer_of("integers").save(tmp_path)
    (tmp_path / "picolab_tokenizer.json").unlink()
    with pytest.raises(BadData, match=r"is a word vocabulary without its picolab_tokenizer\.json$"):
        Tokenizer.load(tmp_path)
