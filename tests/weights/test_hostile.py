"""Torn and hostile files of every kind: refused by name and reason, at once, without making what they claim."""

import json
import os
import pickle
import random
import re
import resource
import shutil
import struct
import time

import gguf
import pytest
import torch
from safetensors.torch import save_file

from picolab.errors import BadCheckpoint
from picolab.weights.formats import open_checkpoint
from picolab.weights.gguf.header import read_header
from picolab.weights.gguf.write import write_gguf
from picolab.weights.shards import read_tensors

from reader_files import mutate, samples, spm, tiny

KINDS = (
    "gguf llama", "gguf qwen2", "gguf gpt2", "llama2c model", "llama2c tokenizer", "sentencepiece",
    "hub config.json", "hub model.safetensors", "hub tokenizer.json", "hub picolab_tokenizer.json",
    "hub tokenizer_config.json", "experts config.json", "experts model.safetensors", "shards config.json",
    "shards model.safetensors.index.json",
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


# safetensors, likewise.


def _safetensors(path, entries, *, data=96, length=None):
    """A file with a header made of these pairs, each name as often as it is given."""
    header = entries
    if not isinstance(entries, bytes):
        header = ("{" + ",".join(f"{json.dumps(name)}:{json.dumps(said)}" for name, said in entries) + "}").encode()
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + b"\0" * data)
    return path


def _entry(name="a", dtype="F32", shape=(3, 4), offsets=(0, 48)):
    return name, {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([_entry(), _entry()], r"byte 72: `a` is there twice"),
        ([_entry(), _entry("b")], r"byte 135: the tensors `a` and `b` lie upon each other"),
        ([_entry(), _entry("b", offsets=(44, 92))], r"byte 180: the tensors `a` and `b` lie upon each other"),
        ([_entry(shape=(-3, 4))], r"byte 9: tensor `a` has the shape \[-3, 4\]"),
        ([_entry(shape=(2**70,))], r"byte 9: tensor `a` has the shape"),
        ([_entry(shape=(2**62, 2**62))], r"byte 9: tensor `a` of shape .* does not fill 48 bytes"),
        ([_entry(shape=[2**62] * 100_000)], r"byte 9: tensor `a` has the shape"),
        ([_entry(shape=("x",))], r"byte 9: tensor `a` has the shape \['x'\]"),
        ([_entry(offsets=(0, 2**50))], r"byte 9: tensor `a` lies at \[0, 1125899906842624\] of the 96 bytes"),
        ([_entry(offsets=(-48, 0))], r"byte 9: tensor `a` lies at \[-48, 0\]"),
        ([_entry(offsets=(48, 0))], r"byte 9: tensor `a` lies at \[48, 0\]"),
        ([_entry(offsets=(0, 96))], r"byte 9: tensor `a` of shape \[3, 4\] does not fill 96 bytes"),
        ([_entry(dtype="F99")], r"byte 9: tensor `a` is of type 'F99', which is unknown"),
        ([_entry(dtype=["F32"])], r"byte 9: tensor `a` is of type .* which is unknown"),
        ([("a", [])], r"byte 9: tensor `a` is '\[\]', not a description"),
        (b"[]", r"byte 8: the header is a list, not names with tensors"),
        (b'{"a": 1', r"byte 15: the header is not JSON"),
        (b'{"\xff": 1}', r"byte 10: the header is not UTF-8"),
        (b"[" * 100_000, r"byte 8: the header is not JSON"),
        (b'{"a": ' * 100_000, r"byte 8: the header is not JSON"),
        (b"9" * 100_000, r"byte 8: the header is not JSON"),
    ],
)  # fmt: skip
def test_safetensors_that_make_no_sense_are_refused_with_their_place_and_reason(entries, says, tmp_path):
    path = _safetensors(tmp_path / "model.safetensors", entries)
    start = time.perf_counter()
    with pytest.raises(BadCheckpoint, match=says) as caught:
        read_tensors(tmp_path)
    assert time.perf_counter() - start < 1
    assert str(caught.value).startswith(f"`{path}`, byte ") and len(str(caught.value)) < 400


@pytest.mark.parametrize("length", [97, 2**31, 2**63, 2**64 - 1])
def test_a_header_longer_than_its_file_is_refused_before_it_is_read(length, tmp_path):
    _safetensors(tmp_path / "model.safetensors", b"", length=length)
    with pytest.raises(BadCheckpoint, match=rf"byte 0: a header of {length:,} bytes is announced, and 96 are left"):
        read_tensors(tmp_path)


def test_our_reading_of_a_good_header_lets_every_type_of_the_library_pass(tmp_path):
    kinds = (torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.bool, torch.float8_e4m3fn, torch.complex64)
    tensors = {str(kind): torch.zeros(3, 5).to(kind) for kind in kinds} | {
        'é\n"': torch.zeros(()),
        "none": torch.zeros(0),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found, _ = read_tensors(tmp_path)
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in found.items()} == {
        name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()
    }


# Pickles, and files that lead to other files.


class Hostile:
    """What a pickle may hold: a call that is made when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("write", [torch.save, lambda what, path: path.write_bytes(pickle.dumps(what))])
def test_code_in_a_pickle_is_never_run(name, write, whole, tmp_path):
    shutil.copy(whole["shards config.json"].path, tmp_path)
    write({"a": Hostile(tmp_path / "ran")}, tmp_path / name)
    with pytest.raises(BadCheckpoint, match=re.escape(f"`{tmp_path / name}`")):
        open_checkpoint(tmp_path)
    if name.endswith(".bin"):  # by an index too, under a name of its own
        (tmp_path / name).rename(tmp_path / "other.bin")
        index = tmp_path / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"a": "other.bin"}}))
        with pytest.raises(BadCheckpoint, match="other.bin"):
            open_checkpoint(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("leads_to", "says"),
    [
        ("model.safetensors.index.json", "model.safetensors.index.json`, byte 0"),
        ("../model.safetensors", "outside its folder"),
        ("/etc/passwd", "outside its folder"),
        ("nothing.safetensors", "there is no `"),
        (".", "cannot be read|outside its folder"),
    ],
)
def test_an_index_that_leads_to_itself_or_away_is_refused(leads_to, says, whole, tmp_path):
    shutil.copy(whole["shards config.json"].path, tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": leads_to}}))
    with pytest.raises(BadCheckpoint, match=says):
        open_checkpoint(tmp_path)


def test_a_link_that_leads_to_itself_is_refused(whole, tmp_path):
    shutil.copy(whole["shards config.json"].path, tmp_path)
    for name in ("model.safetensors", "x.gguf", "x.bin"):
        (tmp_path / name).symlink_to(tmp_path / name)
    for path in (tmp_path, tmp_path / "x.gguf", tmp_path / "x.bin"):
        with pytest.raises(BadCheckpoint):
            open_checkpoint(path)


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
