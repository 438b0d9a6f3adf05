"""llama.cpp shows what picolab shows, at every site, in prefill and decode, from the same GGUF file."""

from __future__ import annotations

import gc
import sys

import gguf
import llama_cpp
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from picolab.errors import BadCheckpoint, BadInput, MissingExtra
from picolab.parts.feedforward import gelu
from picolab.text.bytes import byte_tokenizer
from picolab.trace.engines import ggml, llama_library
from picolab.trace.engines import llama_cpp as llama_cpp_engine
from picolab.trace.engines.engine import Engine
from picolab.trace.engines.here import Here
from picolab.trace.engines.llama_cpp import LlamaCpp
from picolab.weights.formats import open_checkpoint
from picolab.weights.gguf.write import write_gguf

from reader_files import bpe, spm, tiny
from trained_story import STORIES, needs_stories, reference
from zoo_twins import TWINS, adversarial

HELD = [
    name
    for name, (kind, settings) in TWINS.items()
    if kind in ("llama", "qwen3", "gpt2") or (kind == "qwen2" and settings.get("head_dim") == 6)
]
ROTARY = [name for name in HELD if not name.startswith("gpt2")]
GPT2 = [name for name in HELD if name.startswith("gpt2")]


@pytest.fixture
def opened(tmp_path):
    def opened(model, tokenizer=None, *, kind="F32", **how) -> LlamaCpp:
        write_gguf(model, tokenizer, tmp_path / "model.gguf", kind=kind)
        return LlamaCpp.open(tmp_path / "model.gguf", **how)

    return opened


@pytest.mark.parametrize("name", ROTARY)
def test_every_site_and_every_logit_is_picolabs(name, opened, compare, pieces):
    apart = compare(Here(adversarial(name)), opened(adversarial(name)), pieces)
    assert apart.logits < 1e-5
    assert not apart.only_first and not apart.only_second
    assert apart.worst < 2e-5, max(apart.sites, key=apart.sites.get)


def look_up(model):
    """Let a GPT-2 compute GELU as llama.cpp does: from a table with an entry for every number of half precision."""

    def looked_up(x: Tensor) -> Tensor:
        value = gelu(x.half().float()).half().float()
        return torch.where(x <= -10, 0.0, torch.where(x >= 10, x, value))

    for block in model.blocks:
        block.mlp.activation = looked_up


@pytest.mark.parametrize("name", GPT2)
def test_of_gpt2_nothing_differs_but_the_table_of_gelu(name, opened, compare, pieces):
    model, engine = adversarial(name), opened(adversarial(name))
    apart = compare(Here(model), engine, pieces)
    assert not apart.only_first and not apart.only_second
    assert 1e-5 < apart.logits < 1e-3 and apart.worst < 2e-3
    assert apart.sites["blocks.0.mlp.up"] < 1e-5 < 1e-4 < apart.sites["blocks.0.mlp.act"]
    look_up(model)
    with_table = compare(Here(model), engine, pieces)
    # Not nothing: a number that lies between two of half precision may be rounded to either.
    assert with_table.logits < min(5e-5, apart.logits / 5) and with_table.worst < 5e-4


def test_another_model_is_found_to_be_another(opened, compare, pieces):
    apart = compare(Here(adversarial("llama")), opened(adversarial("llama", seed=1)), pieces)
    assert apart.logits > 0.1 and min(apart.sites.values()) > 0.1


class Rounding(TorchFunctionMode):
    """What a matrix is multiplied with, as llama.cpp rounds it before a matrix in Q8_0: 32 numbers to eight bits and a scale."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.linear:
            blocks = args[0].unflatten(-1, (-1, 32))
            scale = blocks.abs().amax(-1, keepdim=True) / 127
            args = ((torch.round(blocks * (1 / scale)) * scale.half().float()).flatten(-2), *args[1:])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_with_quantised_weights_nothing_differs_but_the_rounding_of_what_they_multiply(architecture, tmp_path, compare):
    heads = {} if architecture == "gpt2" else {"n_kv_heads": 1}
    model = tiny(architecture, 300, d_model=64, d_ff=96, **heads)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0 if parameter.ndim > 1 else 1.0)
    assert write_gguf(model, None, tmp_path / "x.gguf", kind="Q8_0")["blk.0.ffn_up.weight"] == "Q8_0"
    ours, theirs = Here(open_checkpoint(tmp_path / "x.gguf")[0]), LlamaCpp.open(tmp_path / "x.gguf")
    apart = compare(ours, theirs, [[3, 1, 4, 1, 5], [9, 2], [6]])
    assert 1e-4 < apart.logits < 2e-2 and not apart.only_first
    if architecture == "gpt2":
        look_up(ours.model)
    found = []
    for token in range(5):  # a number that lies between two of eight bits may be rounded to either: not in every text
        with Rounding():
            found.append(compare(ours, theirs, [[token, 1, 4], [9]]).logits)
    assert sorted(found)[2] < 1e-5


@needs_stories
def test_the_trained_model_tells_its_story():
    engine, told = LlamaCpp.open(STORIES / "stories260K.gguf", context_length=512), reference()
    expected = told["greedy_ids"]
    logits = engine.read(expected[:1])
    found = [expected[0]]
    for _ in range(1, len(expected)):
        found.append(int(logits[-1].argmax()))
        logits = engine.read(found[-1:])
    assert found == expected and engine.decode(found) == told["text"]


def test_memory_grows_with_the_text_and_forgets_nothing(opened):
    model = tiny("llama", 300, context_length=700)
    engine, tokens = opened(model), torch.randint(0, 300, (600,), generator=torch.Generator().manual_seed(0)).tolist()
    whole = Here(model).read(tokens)
    pieces = [tokens[:40], tokens[40:250], tokens[250:251], tokens[251:259], tokens[259:560], tokens[560:]]
    for _ in range(2):  # the second time in the memory that is there
        logits = torch.cat([engine.read(piece) for piece in pieces])
        assert (logits - whole).abs().max() < 1e-5 * whole.abs().max()
        engine.forget()


def test_watching_changes_nothing(opened, seen, pieces):
    engine = opened(adversarial("qwen3"))
    plain = torch.cat([engine.read(piece) for piece in pieces])
    watched, _ = seen(engine, pieces)
    assert (plain - watched).abs().max() < 1e-6 * plain.abs().max()
    engine.forget()
    assert torch.equal(torch.cat([engine.read(piece) for piece in pieces]), plain)


def test_only_what_is_wanted_is_told(opened, pieces):
    engine, told = opened(adversarial("qwen3")), []
    wanted = {"blocks.0.mlp.up", "blocks.1.attention.scores", "blocks.2.mlp.act", "logits"}
    with engine.watching(lambda site, value: told.append(site), lambda site: site in wanted):
        engine.read(pieces[0])
    assert told == ["blocks.0.mlp.up", "blocks.1.attention.scores", "blocks.2.mlp.act", "logits"]


def test_what_goes_wrong_in_a_listener_comes_out_and_the_text_begins_anew(opened, pieces):
    engine = opened(adversarial("llama"))
    expected = engine.read(pieces[0])

    def see(site, value):
        raise ArithmeticError("no")

    with engine.watching(see, lambda site: site.endswith("probs")), pytest.raises(ArithmeticError):
        engine.read(pieces[1])
    assert torch.equal(engine.read(pieces[0]), expected)


def test_it_is_an_engine_with_its_version_and_lets_go_of_its_memory(opened):
    engine = opened(adversarial("gpt2"))
    assert isinstance(engine, Engine)
    assert engine.name == f"llama.cpp (llama-cpp-python {llama_cpp.__version__})"
    assert (engine.vocab_size, engine.context_length) == (43, 24)
    engine.read([1])
    model, context = engine._model._freed, engine._context.free
    del engine
    gc.collect()
    assert not model.alive and not context.alive


@pytest.mark.parametrize(
    ("make", "architecture"), [(spm, "llama"), (bpe, "qwen2"), (bpe, "gpt2"), (byte_tokenizer, "qwen3")]
)
def test_its_tokenizer_is_the_one_in_the_file(make, architecture, opened):
    tokenizer = make()
    engine = opened(tiny(architecture, tokenizer.vocab_size + 3), tokenizer)
    for text in ("the cat sat, 12", " abc  ca", "", "<s></s><|endoftext|>", "é☃\0né"):
        assert engine.encode(text) == tokenizer.encode(text)
        assert engine.decode([tokenizer.eot, *engine.encode(text)]) == text
    with pytest.raises(BadInput, match="UTF-8"):
        engine.encode("\ud800")
    with pytest.raises(BadInput, match="outside the model's vocabulary"):
        engine.decode([tokenizer.vocab_size + 3])


# What cannot be done.


def test_an_architecture_gguf_has_no_name_for_is_refused_before_anything_is_written(opened, tmp_path):
    with pytest.raises(BadInput, match="`nanochat`"):
        opened(adversarial("nanochat"))
    assert not list(tmp_path.iterdir())


def _with_change(path, architecture="llama", **changes):
    """A small file whose tensors are there and whose header says something else."""
    writer = gguf.GGUFWriter(path, architecture)
    fields = {"context_length": 9, "embedding_length": 12, "block_count": 1, "feed_forward_length": 20, **changes}
    for key, value in fields.items():
        writer.add_uint32(f"{architecture}.{key}", value)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path


def test_a_file_llama_cpp_refuses_is_refused_with_its_reason(tmp_path):
    with pytest.raises(BadCheckpoint, match=r"llama\.cpp cannot open .*unknown model architecture: 'ours'"):
        LlamaCpp.open(_with_change(tmp_path / "x.gguf", "ours"))
    with pytest.raises(BadCheckpoint, match=r"llama\.cpp cannot open .*key not found in model: llama\.attention"):
        LlamaCpp.open(_with_change(tmp_path / "y.gguf"))


def test_a_torn_file_is_refused(tmp_path):
    write_gguf(adversarial("llama"), None, tmp_path / "x.gguf")
    whole = (tmp_path / "x.gguf").read_bytes()
    (tmp_path / "x.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadCheckpoint):
        LlamaCpp.open(tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("tokens", "says"),
    [([], "no token"), ([43], "outside the model's vocabulary of 43"), ([-1], "outside"), ([1] * 25, "25 positions")],
)
def test_tokens_that_cannot_be_read_are_refused(tokens, says, opened):
    with pytest.raises(BadInput, match=says):
        opened(adversarial("llama")).read(tokens)


def test_learned_positions_cannot_be_read_past_and_rotary_ones_can(opened):
    with pytest.raises(BadInput, match="a context of 25 where the model has 24 positions"):
        opened(adversarial("gpt2"), context_length=25)
    assert opened(adversarial("llama"), context_length=25).read([1] * 25).shape == (25, 43)


def test_a_text_without_a_tokenizer_is_refused(opened):
    with pytest.raises(BadInput, match="no tokenizer"):
        opened(adversarial("llama")).encode("the cat")


def test_nothing_is_printed(opened, capfd, seen, pieces):
    seen(opened(adversarial("llama")), pieces)
    assert capfd.readouterr() == ("", "")


def test_a_library_whose_tensors_are_laid_out_otherwise_is_refused(monkeypatch):
    monkeypatch.setattr(ggml, "OBJECT_SIZE", 40)
    with pytest.raises(BadInput, match="laid out in a way that is not known here"):
        llama_library.Library()


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    write_gguf(adversarial("llama"), None, tmp_path / "x.gguf")
    monkeypatch.setattr(llama_cpp_engine, "library", llama_library.Library)  # not the one that is open already
    for name in ("llama_cpp", "llama_cpp.llama_cpp"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra) as error:
        LlamaCpp.open(tmp_path / "x.gguf")
    assert error.value.hint == "pip install 'picolab[reference]'"
