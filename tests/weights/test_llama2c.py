"""llama2.c's files: the trained one writes its reference story; a twin written as llama2.c writes is the twin again."""

import re
import struct

import pytest
import torch

from picolab.errors import BadCheckpoint
from picolab.weights.llama2c import open_llama2c, read_llama2c_tokenizer

from reader_files import pieces, spm, write_llama2c, write_llama2c_tokenizer
from trained_story import STORIES, greedy, needs_stories, reference
from zoo_twins import adversarial, some_tokens


@needs_stories
def test_the_trained_model_writes_its_reference_story_token_by_token():
    expected = reference()["greedy_ids"]
    assert greedy(open_llama2c(STORIES / "stories260K.bin"), len(expected)) == expected


@needs_stories
@torch.no_grad()
def test_the_trained_models_best_logits_are_the_references():
    told = reference()
    logits = open_llama2c(STORIES / "stories260K.bin")(torch.tensor([told["greedy_ids"]]))[0]
    for row in told["logits_top5"]:
        best = logits[row["pos"]].topk(5)
        assert best.indices.tolist() == [token for token, _ in row["top5"]]
        torch.testing.assert_close(best.values, torch.tensor([v for _, v in row["top5"]]), atol=1e-4, rtol=0)


@needs_stories
def test_its_vocabulary_spells_and_cuts_the_story():
    told, tokenizer = reference(), read_llama2c_tokenizer(STORIES / "tok512.bin")
    assert tokenizer.decode(told["greedy_ids"]) == told["text"]
    assert [*tokenizer.opening, *tokenizer.encode(told["text"])] == told["greedy_ids"]
    assert (tokenizer.eot, tokenizer.vocab_size) == (2, 512)


@pytest.fixture
def twin():
    return adversarial("llama plain")


@pytest.mark.parametrize("name", ["llama plain", "llama plain tied"])
@torch.no_grad()
def test_a_model_written_as_llama2c_writes_is_read_bit_for_bit(name, tmp_path):
    model = adversarial(name)
    write_llama2c(model, tmp_path / "model.bin")
    loaded = open_llama2c(tmp_path / "model.bin")
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    assert (loaded.head.weight is loaded.embedding.weight) == model.config.tied
    # llama2.c has one theta and one epsilon, the twin has others.
    assert (loaded.config.rope_theta, loaded.config.norm_eps) == (10000.0, 1e-5)
    assert torch.isfinite(loaded(some_tokens())).all()


def test_the_weights_lie_in_the_file_and_changing_them_does_not_change_it(twin, tmp_path):
    write_llama2c(twin, tmp_path / "model.bin")
    before = (tmp_path / "model.bin").read_bytes()
    loaded = open_llama2c(tmp_path / "model.bin")
    with torch.no_grad():
        loaded.embedding.weight.zero_()
    assert (tmp_path / "model.bin").read_bytes() == before


def _broken(twin, tmp_path, change):
    write_llama2c(twin, tmp_path / "model.bin")
    (tmp_path / "model.bin").write_bytes(change((tmp_path / "model.bin").read_bytes()))
    return tmp_path / "model.bin"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:-1], "bytes where its header makes it"),
        (lambda data: data + b"\0", "bytes where its header makes it"),
        (lambda data: data[:20], "20 bytes, less than a header"),
        (lambda data: b"", "0 bytes, less than a header"),
        (lambda data: struct.pack("<i", -36) + data[4:], "`dim` as -36"),
        (lambda data: data[:8] + struct.pack("<i", 2**31 - 1) + data[12:], "`n_layers` as 2147483647"),
        (lambda data: data[:12] + struct.pack("<i", 5) + data[16:], "36 lanes among 5 heads"),
        (lambda data: struct.pack("<I", 0x616B3432) + data[4:], "of version"),
    ],
)
def test_a_file_that_is_not_as_long_as_it_says_is_refused(twin, tmp_path, change, says):
    path = _broken(twin, tmp_path, change)
    with pytest.raises(BadCheckpoint, match=re.escape(f"`{path}`")) as caught:
        open_llama2c(path)
    assert says in str(caught.value)


def test_a_vocabulary_written_as_llama2c_writes_gives_the_same_ids(tmp_path):
    write_llama2c_tokenizer(pieces(), tmp_path / "tokenizer.bin")
    loaded = read_llama2c_tokenizer(tmp_path / "tokenizer.bin")
    assert loaded.fingerprint == spm().fingerprint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:-1], "is UTF-8|are left|ends inside"),
        (lambda data: data[:8] + struct.pack("<i", 2**30) + data[12:], "byte 4: token 0 has 1073741824 bytes"),
        (lambda data: data[:8] + struct.pack("<i", -1) + data[12:], "token 0 has -1 bytes"),
        (lambda data: data[:30], "does not hold the 256 bytes|ends inside"),
    ],
)
def test_a_torn_vocabulary_is_refused(tmp_path, change, says):
    path = tmp_path / "tokenizer.bin"
    write_llama2c_tokenizer(pieces(), path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BadCheckpoint, match=says):
        read_llama2c_tokenizer(path)
