"""Torn and hostile files of every kind: refused by name and reason, at once, without making what they claim."""

import random
import resource
import struct
import time

import gguf
import pytest
import torch

from picolab.errors import BadCheckpoint
from picolab.weights.formats import open_checkpoint
from picolab.weights.gguf.header import read_header
from picolab.weights.gguf.write import write_gguf

from reader_files import mutate, samples, spm, tiny

KINDS = (
    "gguf llama", "gguf qwen2", "gguf gpt2", "llama2c model", "llama2c tokenizer", "sentencepiece",
    "hub config.json", "hub model.safetensors", "hub tokenizer.json", "hub picolab_tokenizer.json",
    "hub tokenizer_config.json", "shards config.json", "shards model.safetensors.index.json",
    "shards model-00001-of-00002.safetensors", "pickle",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return samples(tmp_path_factory.mktemp("files"))


def test_every_kind_of_file_is_broken_here(whole):
    assert tuple(whole) == KINDS
    for sample in whole.values():
        sample.open()


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_file_is_refused_or_serves(whole, kind):
    sample = whole[kind]
    content = sample.path.read_bytes()
    rng, refused = random.Random(kind), list[str]()
    slowest, before = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        for _ in range(30):
            sample.path.unlink()  # an opened file is mapped: never written over
            sample.path.write_bytes(mutate(content, rng))
            start = time.perf_counter()
            try:
                sample.open()
            except BadCheckpoint as error:
                refused.append(str(error))
            slowest = max(slowest, time.perf_counter() - start)
    finally:
        sample.path.unlink()
        sample.path.write_bytes(content)
    assert refused and not [said for said in refused if len(said) < 10 or said.endswith(".")]
    assert slowest < 2  # a second, and one for a busy machine
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_anywhere_is_refused(whole, kind):
    sample = whole[kind]
    content = sample.path.read_bytes()
    try:
        left = [int(share * len(content)) for share in (0, 0.01, 0.1, 0.5, 0.9)]
        for length in left if kind.endswith(".json") else (*left, len(content) - 40):  # 32 may be padding
            sample.path.unlink()
            sample.path.write_bytes(content[:length])
            with pytest.raises(BadCheckpoint):
                sample.open()
    finally:
        sample.path.unlink()
        sample.path.write_bytes(content)


# GGUF, byte by byte.


def _string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def _file(path, *, magic=b"GGUF", version=3, tensors=(), keys=(), n_tensors=None, n_keys=None, data=b"\0" * 4096):
    body = b"".join(_string(name) + value for name, value in keys)
    for name, dims, kind, offset in tensors:
        body += _string(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims)
        body += struct.pack("<IQ", kind, offset)
    n_tensors, n_keys = (len(tensors) if n_tensors is None else n_tensors), (len(keys) if n_keys is None else n_keys)
    head = magic + struct.pack("<IQQ", version, n_tensors, n_keys) + body
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)
    return path


U32, BOOL, STRING, ARRAY = (struct.pack("<I", kind) for kind in (4, 7, 8, 9))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"magic": b"GGML"}, r"byte 0: the file opens with b'GGML'"),
        ({"version": 1}, r"GGUF version 1, and \(2, 3\) are read"),
        ({"version": 0x03000000}, r"GGUF version 3, in the other byte order"),
        ({"n_tensors": 2**63}, r"9,223,372,036,854,775,808 tensors are announced, and [\d,]+ bytes are left"),
        ({"n_keys": 2**40}, r"1,099,511,627,776 keys are announced"),
        ({"keys": [("a", U32 + b"\1\0\0\0")] * 2}, r"the key `a` is there twice"),
        ({"keys": [("a", STRING + struct.pack("<Q", 2**62))]}, r"bytes of text are announced"),
        ({"keys": [("a", STRING + struct.pack("<Q", 2) + b"\xff\xfe")]}, r"is not UTF-8"),
        ({"keys": [("a", ARRAY + U32 + struct.pack("<Q", 2**61))]}, r"numbers of `a` are announced"),
        ({"keys": [("a", ARRAY + STRING + struct.pack("<Q", 2**61))]}, r"texts of `a` are announced"),
        ({"keys": [("a", ARRAY + ARRAY + struct.pack("<Q", 1))]}, r"is an array of arrays"),
        ({"keys": [("a", struct.pack("<I", 99))]}, r"the key `a` is of type 99"),
        ({"keys": [("a", BOOL + b"\7")]}, r"neither true nor false but 7"),
        (
            {"keys": [("general.alignment", U32 + struct.pack("<I", 33))], "tensors": [("a", (4,), 0, 0)]},
            r"not a power of two",
        ),
        ({"tensors": [("a", (4,), 0, 0), ("a", (4,), 0, 32)]}, r"the tensor `a` is there twice"),
        ({"tensors": [("a", (4,), 0, 0), ("b", (4,), 0, 0)]}, r"`a` and `b` lie upon each other"),
        ({"tensors": [("a", (4,), 5, 0)]}, r"tensor `a` is of type 5, which is unknown"),
        ({"tensors": [("a", (2**63, 2**63), 0, 0)]}, r"does not lie in the file's"),
        ({"tensors": [("a", (0, 4), 0, 0)]}, r"of shape \(4, 0\) is not made of F32 blocks"),
        ({"tensors": [("a", (33,), 8, 0)]}, r"is not made of Q8_0 blocks of 32"),
        ({"tensors": [("a", (4,), 0, 2**63)]}, r"does not lie in the file's"),
        ({"tensors": [("a", (4,), 0, 4)]}, r"does not lie in the file's"),
        ({"tensors": [("a", (1, 1, 1, 1, 1), 0, 0)]}, r"tensor `a` has 5 dimensions"),
        ({"tensors": [("a", (), 0, 0)]}, r"tensor `a` has 0 dimensions"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused_with_its_place_and_reason(content, says, tmp_path):
    path = _file(tmp_path / "x.gguf", **content)
    with pytest.raises(BadCheckpoint, match=says) as caught:
        read_header(path)
    assert str(caught.value).startswith(f"`{path}`")


def test_a_type_that_is_known_and_not_read_is_refused_by_name(tmp_path):
    model = tiny("llama", 40, d_model=256, d_ff=256)
    write_gguf(model, None, tmp_path / "x.gguf", kind="Q8_0")
    data = (tmp_path / "x.gguf").read_bytes()
    at = data.index(b"blk.0.attn_v.weight") + len("blk.0.attn_v.weight") + 4 + 16
    kind = gguf.GGMLQuantizationType.IQ4_XS  # smaller, so it still lies in the file
    (tmp_path / "x.gguf").write_bytes(data[:at] + struct.pack("<I", kind) + data[at + 4 :])
    with pytest.raises(BadCheckpoint, match="tensor `blk.0.attn_v.weight` is stored as IQ4_XS, which is not read here"):
        open_checkpoint(tmp_path / "x.gguf")


def test_a_context_of_billions_allocates_nothing(tmp_path):
    model = tiny("llama", 40)
    write_gguf(model, None, tmp_path / "x.gguf")
    data = (tmp_path / "x.gguf").read_bytes()
    at = data.index(b"llama.context_length") + len("llama.context_length") + 4
    (tmp_path / "x.gguf").write_bytes(data[:at] + struct.pack("<I", 2**28) + data[at + 4 :])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loaded, _ = open_checkpoint(tmp_path / "x.gguf")
    tokens = torch.arange(9)[None]
    torch.testing.assert_close(loaded(tokens), model(tokens))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_hidden_size_of_billions_is_refused_before_anything_is_made_of_it(whole):
    sample = whole["shards config.json"]
    content = sample.path.read_text()
    for name in ('"hidden_size": ', '"num_hidden_layers": '):
        sample.path.write_text(content.replace(name, name + "9000000"))
        start = time.perf_counter()
        with pytest.raises(BadCheckpoint):
            sample.open()
        assert time.perf_counter() - start < 2
    sample.path.write_text(content)


def test_a_nan_in_the_settings_is_refused(whole):
    sample = whole["shards config.json"]
    content = sample.path.read_text()
    sample.path.write_text(content.replace('"rms_norm_eps": 1e-05', '"rms_norm_eps": NaN'))
    with pytest.raises(BadCheckpoint, match="gives `norm_eps` as nan"):
        sample.open()
    sample.path.write_text(content)


def test_the_vocabulary_of_another_model_is_refused(tmp_path):
    write_gguf(tiny("llama", 40), None, tmp_path / "x.gguf")
    spm().save(tmp_path / "words")
    with pytest.raises(BadCheckpoint, match="the tokenizer has 272 tokens and .* 40"):
        open_checkpoint(tmp_path / "x.gguf", tmp_path / "words")
