"""A checkpoint is known by what is in it; its tokenizer is in it, beside it, or given."""

import re

import pytest
import torch

from picolab.errors import BadCheckpoint
from picolab.weights.checkpoint import save_model
from picolab.weights.formats import checkpoint_kind, open_checkpoint, open_tokenizer
from picolab.weights.gguf.write import write_gguf

from reader_files import pieces, spm, tiny, write_llama2c, write_llama2c_tokenizer, write_sentencepiece

TOKENS = torch.tensor([[3, 200, 7, 261]])


@pytest.fixture
def model():
    return tiny("llama", spm().vocab_size, n_kv_heads=1, tied=True)


def test_the_same_model_in_three_formats_is_the_same_model(model, tmp_path):
    save_model(model, spm(), tmp_path / "folder")
    write_gguf(model, spm(), tmp_path / "file")  # what it is stands in the file, not in its name
    write_llama2c(model, tmp_path / "model.bin")
    write_llama2c_tokenizer(pieces(), tmp_path / "tokenizer.bin")
    kinds = []
    for name in ("folder", "file", "model.bin"):
        kinds.append(checkpoint_kind(tmp_path / name))
        loaded, tokenizer = open_checkpoint(tmp_path / name)
        torch.testing.assert_close(loaded(TOKENS), model(TOKENS))
        assert not loaded.training and loaded.head.weight is loaded.embedding.weight
        assert tokenizer.encode("ab ca é") == spm().encode("ab ca é") and tokenizer.opening == (1,)
    assert kinds == ["huggingface", "gguf", "llama2c"]


@pytest.mark.parametrize("kind", ["folder", "tokenizer.json", "tokenizer.model", "words.gguf", "tokenizer.bin"])
def test_a_tokenizer_may_be_given_in_any_form(kind, model, tmp_path):
    spm().save(tmp_path / "folder")
    write_sentencepiece(pieces(), tmp_path / "tokenizer.model")
    write_gguf(model, spm(), tmp_path / "words.gguf")
    write_llama2c_tokenizer(pieces(), tmp_path / "tokenizer.bin")
    where = tmp_path / ("folder/tokenizer.json" if kind == "tokenizer.json" else kind)
    assert open_tokenizer(where).encode("abc ca") == spm().encode("abc ca")


def test_a_vocabulary_beside_the_model_is_its_own_only_if_it_has_as_many_tokens(model, tmp_path):
    write_llama2c(tiny("llama", 300, tied=True), tmp_path / "model.bin")
    write_llama2c_tokenizer(pieces(), tmp_path / "tokenizer.bin")
    assert open_checkpoint(tmp_path / "model.bin")[1] is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_kept_in_the_type_asked_for(dtype, model, tmp_path):
    save_model(model, None, tmp_path / "folder")
    write_gguf(model, None, tmp_path / "model.gguf")
    write_llama2c(model, tmp_path / "model.bin")
    for name in ("folder", "model.gguf", "model.bin"):
        loaded, _ = open_checkpoint(tmp_path / name, dtype=dtype)
        assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
        assert loaded(TOKENS).dtype == dtype


def test_what_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no model at all, however long the text may be")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.safetensors").write_bytes(b"\0" * 99)
    for name, says in {
        "notes.txt": "gives `dim` as",
        "empty": "is no checkpoint",
        "nowhere": "cannot be read: No such file",
        "a.safetensors": "is one file of a checkpoint",
    }.items():
        with pytest.raises(BadCheckpoint, match=re.escape(says)):
            open_checkpoint(tmp_path / name)
