"""What `--tokenizer` may say."""

from __future__ import annotations

import pytest

from picolab.errors import BadCheckpoint, BadSetting, UnknownName
from picolab.text.build import SPECS, build_tokenizer
from text.kinds import GPT2, NUMBERS, STORY, needs_gpt2, tokenizer_of


@needs_gpt2
@pytest.mark.parametrize("spec", SPECS)
def test_every_spec_that_is_listed_is_built(spec):
    tokenizer = build_tokenizer(spec, NUMBERS, gpt2_dir=GPT2)
    assert spec.startswith(tokenizer.kind)
    assert tokenizer.decode(tokenizer.encode("2 4 6 8")) == "2 4 6 8"


def test_documents_may_be_a_list_or_what_makes_one():
    assert build_tokenizer("characters", lambda: iter(STORY)).fingerprint == tokenizer_of("characters").fingerprint


def test_a_range_may_begin_below_zero():
    assert build_tokenizer("integers--5--3").encode("-5 -4 -3") == [0, 1, 2]


def test_a_folder_or_file_is_a_spec(tmp_path, monkeypatch):
    tokenizer = tokenizer_of("bpe-400")
    tokenizer.save(tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    for spec in ("saved", "./saved", "saved/tokenizer.json", str(tmp_path / "saved")):
        assert build_tokenizer(spec).fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("byte", "did you mean `bytes`?"), ("bpe-", "did you mean `bpe-2048`?"), ("gpt-2", "did you mean `gpt2`?")],
)
def test_an_unknown_name_is_refused_with_the_nearest(spec, hint):
    with pytest.raises(UnknownName) as caught:
        build_tokenizer(spec, STORY)
    assert (str(caught.value), caught.value.hint) == (f"no tokenizer is called `{spec}`", hint)


def test_a_path_to_nothing_is_refused():
    with pytest.raises(BadCheckpoint, match=r"^there is no `nowhere/tokenizer\.json`$"):
        build_tokenizer("nowhere/tokenizer.json")


@pytest.mark.parametrize("spec", ["characters", "integers", "bpe-300"])
def test_a_vocabulary_made_from_a_corpus_needs_one(spec):
    with pytest.raises(BadSetting) as caught:
        build_tokenizer(spec)
    assert str(caught.value) == f"the tokenizer `{spec}` needs a corpus, and there is none"
