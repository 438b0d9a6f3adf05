"""transformers opens what is saved here and gives the same ids."""

from __future__ import annotations

import json

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from text.kinds import ANY_TEXT, COMPACT, GPT2, KINDS, corpus_of, fuzz, needs_gpt2, tokenizer_of


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Each tokenizer as AutoTokenizer opens it, once."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("saved")
            tokenizer_of(name).save(folder)
            made[name] = transformers.AutoTokenizer.from_pretrained(folder)
        return made[name]

    return get


@pytest.mark.parametrize("name", [*KINDS, *COMPACT])
def test_ids_and_text_are_the_same_there(name, opened):
    ours, theirs = tokenizer_of(name), opened(name)
    for document in corpus_of(name)[:2]:
        ids = ours.encode(document)
        assert theirs(document)["input_ids"] == ids
        assert theirs.decode([*ids, ours.eot], skip_special_tokens=True) == document
    assert theirs.eos_token_id == theirs.bos_token_id == ours.eot
    assert theirs.pad_token_id == (ours.eot if ours.pad is None else ours.pad)


@pytest.mark.parametrize("name", ANY_TEXT)
@fuzz
@given(text=st.lists(st.text(max_size=12) | st.just("<|endoftext|>")).map("".join))
def test_any_text_has_the_same_ids_there(name, text, opened):
    assert opened(name)(text)["input_ids"] == tokenizer_of(name).encode(text)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2", "gpt_oss", "picolab-lstm"])
@pytest.mark.parametrize("name", ["bytes", "characters", "integers", "bpe-400"])
def test_the_architecture_beside_it_does_not_change_the_ids(architecture, name, tmp_path):
    """AutoTokenizer looks at config.json too, and some architectures have a tokenizer class of their own.

    Beside `qwen2` transformers 5 distrusts what tokenizer_config.json names and builds a Qwen2Tokenizer, whose own pattern and
    normalisation take the place of those in tokenizer.json. The class we name opens the folder as it was meant.
    """
    tokenizer = tokenizer_of(name)
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": architecture}))
    opener = transformers.PreTrainedTokenizerFast if architecture == "qwen2" else transformers.AutoTokenizer
    theirs = opener.from_pretrained(tmp_path)
    assert theirs(corpus_of(name))["input_ids"] == tokenizer.encode_batch(corpus_of(name))


@pytest.mark.parametrize(("name", "text"), [("characters", "The Ω"), ("integers", "2 4 5000")])
def test_what_the_vocabulary_lacks_is_an_error_there_too(name, text, opened):
    with pytest.raises(Exception, match=r"(?i)unk"):
        opened(name)(text)


def test_a_token_a_compact_vocabulary_lacks_is_outside_the_model_there(opened):
    name = "bpe-400 compact"
    assert max(opened(name)("The#")["input_ids"]) >= tokenizer_of(name).vocab_size


@needs_gpt2
@fuzz
@given(text=st.text(max_size=60))
def test_gpt2_is_transformers_gpt2(text):
    theirs = _gpt2_of_transformers()
    assert tokenizer_of("gpt2").encode(text) == theirs(text, split_special_tokens=True)["input_ids"]


def _gpt2_of_transformers(made=[]):  # noqa: B006  (made once)
    if not made:
        made.append(transformers.GPT2Tokenizer(vocab=str(GPT2 / "encoder.json"), merges=str(GPT2 / "vocab.bpe")))
    return made[0]
