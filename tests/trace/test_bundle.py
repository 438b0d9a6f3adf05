"""A bundle is believed as far as it can be checked: what is wrong is one clear sentence, soon, and nothing outside is touched."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
import time

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from picolab.errors import BadData, BadInput
from picolab.trace.bundle import FORMAT, TENSORS, TRACE, read_bundle, write_bundle
from picolab.trace.record import record

from zoo_twins import adversarial, some_tokens

ENTRY = {
    "site": "embed",
    "phase": "prefill",
    "step": 0,
    "positions": [0, 1, 2],
    "dims": "batch time d_model",
    "file": "0.npy",
}
GOOD = {"format": FORMAT, "engine": "e 1", "dtype": "float32", "tokens": [[5, 17, 200]], "entries": [ENTRY]}


def _bundle(folder, trace=None, array=None, **changes):
    folder.mkdir(exist_ok=True)
    np.save(folder / "0.npy", np.arange(12, dtype=np.float32).reshape(1, 3, 4) if array is None else array)
    trace = {**GOOD, "entries": [{**ENTRY, **changes}]} if trace is None else trace
    (folder / TRACE).write_text(trace if isinstance(trace, str) else json.dumps(trace), encoding="utf-8")
    return folder


def _refused(folder, match):
    start = time.perf_counter()
    with pytest.raises(BadData, match=match) as error:
        read_bundle(folder)
    assert time.perf_counter() - start < 1
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_five_arrays_of_an_engine_are_read_as_they_are(tmp_path):
    foreign = {"site": "layer0/q", "file": "q.npy"}
    folder = _bundle(tmp_path / "b", {**GOOD, "entries": [ENTRY, foreign]})
    np.save(folder / "q.npy", np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)))
    recording = read_bundle(folder)
    assert torch.equal(recording["embed"], torch.arange(12.0).view(1, 3, 4))
    assert torch.equal(recording["layer0/q"], torch.arange(6, dtype=torch.float64).view(2, 3))
    assert recording.entry("layer0/q").dims is None and recording.tokens.tolist() == [[5, 17, 200]]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", ">f4"])
def test_plain_numbers_of_any_type_are_read(tmp_path, dtype):
    array = np.arange(12).reshape(1, 3, 4).astype(dtype)
    assert read_bundle(_bundle(tmp_path / "b", array=array))["embed"].tolist() == array.tolist()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(tmp_path, version):
    folder = _bundle(tmp_path / "b")
    (folder / "0.npy").write_bytes(_says(version=version))
    assert torch.equal(read_bundle(folder)["embed"], torch.zeros(1, 3, 4))


def test_numbers_that_are_not_finite_are_numbers_and_one_number_is_an_array(tmp_path):
    array = np.full((1, 3, 4), np.nan, np.float32)
    assert read_bundle(_bundle(tmp_path / "b", array=array))["embed"].isnan().all()
    bare = {"site": "loss", "phase": "loss", "file": "0.npy"}
    one = read_bundle(_bundle(tmp_path / "c", {**GOOD, "entries": [bare]}, array=np.float32(1.5)))
    assert one["loss"].shape == () and float(one["loss"]) == 1.5


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"format": "picolab-tr', "is not JSON"),
        ("", "is not JSON"),
        ("[1]", "holds a list"),
        ("[" * 100_000, "is not JSON"),
        ('{"tokens": ' + "9" * 5000 + "}", "is not JSON"),
        ('{"format": "picolab-trace/2"}', "says its format is 'picolab-trace/2'"),
        ("{}", "says its format is None"),
        (json.dumps({**GOOD, "entries": []}), "lists no entries"),
        (json.dumps({**GOOD, "entries": {"0": ENTRY}}), "lists no entries"),
        (json.dumps({**GOOD, "entries": ["0.npy"]}), "entry 0 of .* is a str"),
        (json.dumps({**GOOD, "config": [1]}), "`config` of .* is a list"),
        *[
            (json.dumps({**GOOD, "tokens": tokens}), "are not rows of token ids")
            for tokens in ([], [[]], [5], [[5], [5, 6]], [[True]], [[-1, 2, 3]], [[10**30, 1, 2]], [[1.0]], None, "5")
        ],
        (json.dumps({**GOOD, "entries": [ENTRY, ENTRY]}), "entries 0 and 1 of .* are both `embed` in prefill 0"),
    ],
)
def test_a_trace_that_is_none_is_refused(tmp_path, text, match):
    _refused(_bundle(tmp_path / "b", text), match)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"site": ""}, "lacks a `site` or a `file`"),
        ({"site": "x" * 301}, "lacks a `site`"),
        ({"file": None}, "lacks a `site` or a `file`"),
        ({"phase": "training"}, "is of phase 'training'"),
        ({"phase": []}, r"is of phase \[\]"),
        ({"step": -1}, "step -1"),
        ({"step": True}, "step True"),
        ({"dims": "batch time"}, "are 2 axes and the array has shape"),
        ({"dims": "batch time width"}, "has an axis `width`"),
        ({"dims": "batch time time"}, "name an axis twice"),
        ({"dims": ["batch"]}, "`dims` is a list"),
        ({"dims": "time batch d_model"}, "where time is 3"),
        ({"positions": [0, 1]}, "where time is 2"),
        ({"positions": [0, 1, 3]}, "covers position 3 and the bundle has 3 tokens"),
        ({"positions": [0, 1, 10**30]}, "covers position"),
        ({"positions": [0, 1, -2]}, "are not token positions"),
        ({"positions": "012"}, "are not token positions"),
        ({"file": "1.npy"}, "1.npy` is missing"),
        ({"file": "/etc/hostname"}, "is outside the bundle"),
        ({"file": "../secret.npy"}, "is outside the bundle"),
        ({"file": "x\0.npy"}, "cannot be opened"),
        ({"file": "x" * 5000}, "cannot be opened"),
        ({"file": "."}, "is no plain file"),
        ({"file": "link.npy"}, "is outside the bundle"),
        ({"file": "loop.npy"}, "cannot be opened"),
        ({"file": "pipe.npy"}, "is no plain file"),
        ({"file": TRACE}, "is no array"),
    ],
)
def test_an_entry_that_does_not_fit_its_array_is_refused(tmp_path, changes, match):
    np.save(tmp_path / "secret.npy", np.zeros((1, 3, 4), np.float32))
    folder = _bundle(tmp_path / "b", **changes)
    (folder / "link.npy").symlink_to(tmp_path / "secret.npy")
    (folder / "loop.npy").symlink_to("loop.npy")
    os.mkfifo(folder / "pipe.npy")
    _refused(folder, match)


@pytest.mark.parametrize("name", [TRACE, TENSORS])
def test_the_bundles_own_files_lie_in_it_too(tmp_path, name):
    folder = _bundle(tmp_path / "b")
    save_file({"x": torch.zeros(1)}, folder / TENSORS)
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    _refused(folder, "is outside the bundle")


def _npy(header: bytes, body: bytes = b"", version=(1, 0)) -> bytes:
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header + body


def _says(shape="(1, 3, 4)", descr="'<f4'", body=b"\0" * 48, version=(1, 0)):
    return _npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode(), body, version)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("/tmp/this-must-never-exist",)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is no array"),
        (pickle.dumps(Evil()), "is no array"),
        (_says(descr="'|O'", body=pickle.dumps(np.array([1]))), "does not hold plain numbers"),
        (_says(descr="'<U4'"), "does not hold plain numbers"),
        (_says(descr="[('a', '<f4')]"), "is no array: it does not hold plain numbers"),
        (_says(descr="'<c8'"), "does not hold plain numbers"),
        (_says(descr="'nonsense'"), "is no array"),
        (_says(body=b"\0" * 47), "holds 47 bytes"),
        (_says(body=b"\0" * 49), "holds 49 bytes"),
        (_says(shape="(1, 3, 4000000000000)"), "holds 48 bytes"),
        (_says(shape="(4294967296, 4294967296, 4294967296)"), "holds 48 bytes"),
        (_says(shape="(-1, -3, 4)"), "its shape is"),
        (_says(shape="(1.0, 3, 4)"), "its shape is"),
        (_says(shape="12"), "is no array"),
        (_says(shape="(1, 0, 4)", body=b""), "holds no number"),
        (_npy(b"{" * 9000), "is no array"),
        (_npy(b"[" * 60000, version=(2, 0)), "is no array"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "is no array"),
        (_says(version=(9, 9)), "is no array: it begins with"),
    ],
)
def test_a_file_that_is_no_honest_array_is_refused(tmp_path, data, match):
    folder = _bundle(tmp_path / "b")
    (folder / "0.npy").write_bytes(data)
    _refused(folder, match)
    assert not os.path.exists("/tmp/this-must-never-exist")


def test_tensors_that_are_torn_or_no_plain_numbers_are_refused(tmp_path):
    folder = _bundle(tmp_path / "b", file="a")
    for value, match in (
        (torch.zeros(1, 3, 4, dtype=torch.bool), "is of type BOOL"),
        (torch.zeros(1, 3), "are 3 axes"),
    ):
        save_file({"a": value}, folder / TENSORS)
        _refused(folder, match)
    save_file({"a": torch.zeros(1, 3, 4)}, folder / TENSORS)
    assert read_bundle(folder)["embed"].shape == (1, 3, 4)
    whole = (folder / TENSORS).read_bytes()
    for data in (whole[:-1], whole[:20], b"", b"\xff" * 64, struct.pack("<Q", 2**62) + whole[8:]):
        (folder / TENSORS).write_bytes(data)
        _refused(folder, "cannot be read")


def test_a_folder_that_is_none_is_no_bundle(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / ("x" * 400)):
        _refused(path, "is no trace bundle")
    (tmp_path / "file").write_text("")
    _refused(tmp_path / "file", "is no trace bundle")
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / TRACE)
    _refused(tmp_path / "b", "is no plain file")


def test_an_array_that_vanishes_before_it_is_read_is_named(tmp_path):
    recording = read_bundle(_bundle(tmp_path / "b"))
    (tmp_path / "b" / "0.npy").unlink()
    with pytest.raises(BadData, match=r"0.npy` can no longer be read"):
        _ = recording["embed"]


LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9)
KEYS = st.sampled_from([*GOOD, *ENTRY, "x"])
ANYTHING = st.recursive(
    LEAVES | st.sampled_from(["0.npy", "embed", "..", "/"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=12,
)


@settings(max_examples=250, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_trace_however_strange_does_more_than_be_refused(tmp_path, data):
    entry = {**ENTRY, **data.draw(st.dictionaries(st.sampled_from([*ENTRY]), ANYTHING, max_size=3))}
    trace = {**GOOD, "entries": [entry, *data.draw(st.lists(ANYTHING, max_size=2))]}
    trace |= data.draw(st.dictionaries(st.sampled_from([*GOOD]), ANYTHING, max_size=2))
    text = json.dumps(trace)
    cut = data.draw(st.sampled_from([len(text), len(text) // 2, len(text) - 3]))
    folder = _bundle(tmp_path / "b", text[:cut])
    try:
        recording = read_bundle(folder)
        assert recording["embed" if "embed" in recording else recording.sites[0]].numel()
    except BadData:
        pass


@settings(max_examples=250, deadline=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_array_however_torn_does_more_than_be_refused(tmp_path, data):
    folder = _bundle(tmp_path / "b")
    whole = bytearray((folder / "0.npy").read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (folder / "0.npy").write_bytes(whole[: data.draw(st.integers(len(whole) - 60, len(whole)))])
    with contextlib.suppress(BadData):
        assert read_bundle(folder)["embed"].shape == (1, 3, 4)


@pytest.mark.parametrize("form", ["npy", "safetensors"])
def test_what_is_written_is_read_again(tmp_path, form):
    model = adversarial("llama").to(torch.bfloat16)
    with torch.no_grad(), record(model) as recording:
        model(some_tokens(1, 5))
    again = read_bundle(write_bundle(recording, tmp_path / "b", form=form))
    for entry in recording.entries:
        assert torch.equal(again[entry.site].float(), entry.value.float())
        assert again.entry(entry.site).dims == entry.dims
    assert again.config["architecture"] == "llama" and again.dtype == "bfloat16" and again.engine == recording.engine


def test_the_latest_bundle_in_a_folder_is_the_one_that_is_read(tmp_path):
    model = adversarial("llama")
    for form, length in (("safetensors", 5), ("npy", 6), ("safetensors", 7)):
        with torch.no_grad(), record(model, "embed") as recording:
            model(some_tokens(1, length))
        assert read_bundle(write_bundle(recording, tmp_path / "b", form=form))["embed"].shape[1] == length


def test_a_recording_without_values_is_not_written_and_the_folder_stays_as_it_was(tmp_path):
    model = adversarial("llama")
    with torch.no_grad(), record(model, keep="statistics") as few, record(model) as whole:
        model(some_tokens(1, 5))
    folder = write_bundle(whole, tmp_path / "b")
    with pytest.raises(
        BadInput, match=r"of 54 of 54 entries, such as `embed`, only statistics were kept, and a bundle holds values"
    ):
        write_bundle(few, folder)
    assert read_bundle(folder).sites == whole.sites
    with record(model) as empty:
        pass
    with pytest.raises(BadInput, match="the recording is empty"):
        write_bundle(empty, folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        write_bundle(whole, tmp_path / "file")


def test_an_array_is_not_read_before_it_is_asked_for(tmp_path, monkeypatch):
    folder = _bundle(tmp_path / "b")
    monkeypatch.setattr(np, "load", lambda *a, **k: pytest.fail("read"))
    assert read_bundle(folder).sites == ["embed"]
