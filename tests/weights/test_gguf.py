"""GGUF: the trained story model is llama2.c's bit for bit; what we write, we and others open; unknown names are refused."""

import inspect
import re
import unicodedata

import gguf
import numpy as np
import pytest
import regex
import torch
import transformers
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from picolab.errors import BadCheckpoint, BadInput, BadSetting, UnknownName
from picolab.parts.rope import RopeScaling
from picolab.text.bytes import byte_tokenizer
from picolab.text.characters import character_tokenizer
from picolab.text.integers import range_tokenizer
from picolab.text.spelling import CHARACTER_TO_BYTE
from picolab.weights.formats import open_checkpoint
from picolab.weights.gguf.header import read_header
from picolab.weights.gguf.names import SPELLINGS, named
from picolab.weights.gguf.read import model_of
from picolab.weights.gguf.read_vocabulary import PRE, byte_level, tokenizer_of
from picolab.weights.gguf.tensors import QUANTISED, tensor_of
from picolab.weights.gguf.write import write_gguf
from picolab.weights.llama2c import open_llama2c, read_llama2c_tokenizer
from picolab.weights.row_order import to_halves, to_pairs
from picolab.zoo import ARCHITECTURES, build, settings_of

from reader_files import bpe, spm, tiny
from trained_story import STORIES, greedy, needs_stories, reference
from zoo_twins import ODD_YARN, TWINS, adversarial, some_tokens

HELD = [
    name
    for name, (kind, settings) in TWINS.items()
    if kind in ("llama", "qwen3", "gpt2") or (kind == "qwen2" and settings.get("head_dim") == 6)
]


@needs_stories
def test_the_trained_model_is_llama2cs_bit_for_bit_and_writes_the_same_story():
    model, tokenizer = open_checkpoint(STORIES / "stories260K.gguf")
    other = open_llama2c(STORIES / "stories260K.bin").state_dict()
    assert model.state_dict().keys() == other.keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other[name]), name
    told = reference()
    assert greedy(model, len(told["greedy_ids"])) == told["greedy_ids"]
    assert tokenizer.decode(told["greedy_ids"]) == told["text"]
    assert tokenizer.fingerprint == read_llama2c_tokenizer(STORIES / "tok512.bin").fingerprint


@needs_stories
def test_a_context_that_is_only_advice_may_be_read_past():
    header = read_header(STORIES / "stories260K.gguf")
    assert header.integer("llama.context_length") == 128
    assert model_of(header).config.context_length == 512
    assert model_of(header, context_length=77).config.context_length == 77


def test_the_two_row_orders_undo_each_other_and_pairs_are_halves_shuffled():
    rows = torch.arange(24.0).reshape(12, 2)
    assert torch.equal(to_halves(to_pairs(rows, 2), 2), rows)
    assert to_pairs(torch.arange(12.0), 2).tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]


@pytest.mark.parametrize("name", HELD)
@torch.no_grad()
def test_what_is_written_is_read_bit_for_bit(name, tmp_path):
    model, tokens = adversarial(name), some_tokens()
    kinds = write_gguf(model, None, tmp_path / "model.gguf")
    loaded, tokenizer = open_checkpoint(tmp_path / "model.gguf", context_length=None)
    assert set(kinds.values()) == {"F32"} and tokenizer is None
    state = loaded.state_dict()
    for key, tensor in model.state_dict().items():
        assert torch.equal(state[key], tensor), key
    torch.testing.assert_close(loaded(tokens), model(tokens), rtol=1e-6, atol=1e-5)
    same = {
        key: value
        for key, value in settings_of(model).items()
        if key not in ("context_length", "attention_bias", "rope_scaling")
    }
    assert same.items() <= settings_of(loaded).items()


OPENED_BY_TRANSFORMERS = ["llama", "llama tied", "llama plain", "llama plain tied", "qwen2 plain"]
"""transformers reads no head_dim of a qwen2, no d_ff of a gpt2 and no rope scaling from a GGUF file."""


@pytest.mark.parametrize("name", OPENED_BY_TRANSFORMERS)
@torch.no_grad()
def test_transformers_computes_the_same_from_the_file(name, tmp_path):
    pytest.importorskip("accelerate", reason="transformers opens GGUF files with accelerate only")
    model, tokens = adversarial(name), some_tokens(batch=3)
    write_gguf(model, None, tmp_path / "model.gguf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    expected = theirs.eval()(tokens).logits
    assert (model(tokens) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("architecture", SPELLINGS)
def test_every_tensor_has_the_name_the_gguf_package_gives_it(architecture):
    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    theirs = gguf.get_tensor_name_map(arch, 2)
    published = ARCHITECTURES[architecture].model.hugging_face.tensors
    for ours, spelled in SPELLINGS[architecture].tensors.items():
        in_hub = published[ours].replace("{i}", "1")
        assert theirs.get_name(in_hub, try_suffixes=(".weight", ".bias")) == spelled.replace("{i}", "1")


def test_the_rows_are_put_in_halves_as_transformers_puts_them():
    rows = torch.randn(3 * 10, 7)
    theirs = LlamaTensorProcessor()._reverse_permute_weights(rows.numpy(), 6, 3)
    assert np.array_equal(to_halves(rows, 3).numpy(), theirs)


@pytest.mark.parametrize(("kind", "error"), [("F16", 2e-3), ("BF16", 2e-2), ("Q8_0", 3e-2)])
@torch.no_grad()
def test_a_smaller_type_costs_as_much_as_its_rounding(kind, error, tmp_path):
    model, tokens = tiny("llama", 300, d_model=64, d_ff=96, n_kv_heads=1), some_tokens(time=9)
    kinds = write_gguf(model, None, tmp_path / "model.gguf", kind=kind)
    assert kinds["blk.0.attn_q.weight"] == kind and kinds["blk.0.attn_norm.weight"] == "F32"
    loaded, _ = open_checkpoint(tmp_path / "model.gguf")
    expected = model(tokens)
    found = (loaded(tokens) - expected).norm() / expected.norm()
    assert 1e-6 < found < error


def test_rows_that_are_no_blocks_are_written_as_float16_and_it_is_said(tmp_path):
    kinds = write_gguf(tiny("llama", 300), None, tmp_path / "model.gguf", kind="Q8_0")
    assert kinds["blk.0.attn_q.weight"] == "F16"


@torch.no_grad()
def test_bfloat16_may_stay_as_it_is(tmp_path):
    model = tiny("qwen2", 300)
    write_gguf(model, None, tmp_path / "model.gguf", kind="BF16")
    loaded, _ = open_checkpoint(tmp_path / "model.gguf", dtype=torch.bfloat16)
    assert torch.equal(loaded.embedding.weight, model.embedding.weight.bfloat16())
    assert loaded(some_tokens(time=5)).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", sorted(QUANTISED))
def test_every_quantised_type_is_read_as_the_gguf_package_reads_it(kind, tmp_path):
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(0).integers(0, 60, (3, 2 * block_bytes), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tensor("x", raw, raw_dtype=kind)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    found = tensor_of(read_header(tmp_path / "x.gguf"), "x")
    assert found.shape == (3, 2 * block)
    assert np.array_equal(found.numpy(), gguf.dequantize(raw, kind), equal_nan=True)


def test_our_reading_of_a_header_is_the_gguf_packages(tmp_path):
    write_gguf(tiny("llama", spm().vocab_size), spm(), tmp_path / "model.gguf")
    ours, theirs = read_header(tmp_path / "model.gguf"), gguf.GGUFReader(tmp_path / "model.gguf")
    for key, field in theirs.fields.items():
        if not key.startswith("GGUF."):
            found = ours.fields[key]
            assert (found.tolist() if isinstance(found, np.ndarray) else found) == field.contents()
    assert [*ours.tensors] == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        stored = ours.tensors[tensor.name]
        assert (stored.offset, stored.size, stored.kind) == (tensor.data_offset, tensor.n_bytes, tensor.tensor_type)
        assert stored.shape == tuple(reversed(tensor.shape.tolist()))


def test_a_published_llama3_scaling_is_found_again_by_its_rule(tmp_path):
    scaling = RopeScaling(kind="llama3", factor=32.0, original_context_length=8192)
    write_gguf(
        tiny("llama", 300, d_model=128, rope_theta=500000.0, rope_scaling=scaling), None, tmp_path / "model.gguf"
    )
    assert open_checkpoint(tmp_path / "model.gguf")[0].config.rope_scaling == scaling


def test_plain_numbers_are_used_where_they_lie_in_the_mapped_file(tmp_path):
    write_gguf(tiny("qwen2", 300), None, tmp_path / "model.gguf")
    header = read_header(tmp_path / "model.gguf")
    one, other = model_of(header), model_of(header)
    for name, parameter in one.named_parameters():
        assert parameter.data_ptr() == other.get_parameter(name).data_ptr(), name


# The tokenizers.


@pytest.mark.parametrize(("make", "architecture"), [(spm, "llama"), (bpe, "qwen2"), (bpe, "gpt2"), (bpe, "qwen3")])
def test_a_tokenizer_comes_back_with_the_same_ids(make, architecture, tmp_path):
    tokenizer = make()
    write_gguf(tiny(architecture, tokenizer.vocab_size + 3), tokenizer, tmp_path / "model.gguf")
    _, again = open_checkpoint(tmp_path / "model.gguf")
    for text in ("the cat sat 12 é☃", " abc  ca\n", "", "<s></s><|endoftext|>"):
        assert again.encode(text) == tokenizer.encode(text)
        assert again.decode(again.encode(text)) == text
    assert (again.eot, again.opening, tokenizer.vocab_size + 3) == (tokenizer.eot, tokenizer.opening, again.vocab_size)


def test_bytes_have_a_place_in_the_format_too(tmp_path):
    tokenizer = byte_tokenizer()
    write_gguf(tiny("gpt2", 257), tokenizer, tmp_path / "model.gguf")
    _, again = open_checkpoint(tmp_path / "model.gguf")
    assert again.encode("!! né 12") == tokenizer.encode("!! né 12")


def test_a_chat_template_and_the_ends_of_a_text_are_kept(tmp_path):
    tokenizer = bpe()
    tokenizer.chat_template = "{{ messages[0].content }}"
    write_gguf(tiny("qwen2", tokenizer.vocab_size), tokenizer, tmp_path / "model.gguf")
    _, again = open_checkpoint(tmp_path / "model.gguf")
    assert again.chat_template == "{{ messages[0].content }}"
    assert again.ends == {tokenizer.eot}


TEXTS = [
    "Hello, world! It's 12345 o'clock; we'LL see.",
    "  leading, trailing  \n\n\ttabs\r\n and   spaces ",
    "naïve café été 東京 🌹🌹 ½ ①②③ 12 345 6789",
    "$x^2 + y = 3~4|5 <tag> 'S 'T 'Re",
    "e\u0301 combining, ǅ titlecase, \u00a0 nbsp\u3000ideographic",
]


def _words(name, text):
    """The words a rule cuts a text into, as text."""
    inner = byte_level(["a"], [], PRE[name])
    text = inner.normalizer.normalize_str(text) if inner.normalizer else text
    pieces = inner.pre_tokenizer.pre_tokenize_str(text)
    return [bytes(CHARACTER_TO_BYTE[c] for c in piece).decode(errors="replace") for piece, _ in pieces]


LLAMA3_WORDS = inspect.signature(TikTokenConverter).parameters["pattern"].default
PUBLISHED = {"llama-bpe": LLAMA3_WORDS, "qwen2": PRETOKENIZE_REGEX}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", PUBLISHED)
def test_words_are_cut_as_the_published_tokenizers_cut_them(name, text):
    whole = unicodedata.normalize("NFC", text) if name == "qwen2" else text
    assert _words(name, text) == regex.findall(PUBLISHED[name], whole)


@pytest.mark.parametrize(
    ("name", "words"),  # as llama.cpp cuts them
    [
        ("gpt-2", ["It", "'s", " $", "12345", "$", " (", "é", ")", "\n\n", " ok"]),
        ("default", ["It", "'", "s", " ", "$", "123", "45", "$", " ", "(", "é", ")", "\n\n", " ok"]),
    ],
)
def test_words_are_cut_as_llama_cpp_cuts_them(name, words):
    assert _words(name, "It's $12345$ (é)\n\n ok") == words


def test_a_rule_for_words_that_is_in_no_table_is_refused_by_name(tmp_path):
    tokenizer = bpe()
    write_gguf(tiny("qwen2", tokenizer.vocab_size), tokenizer, tmp_path / "model.gguf")
    path = _changed(tmp_path / "model.gguf", b"\x05\0\0\0\0\0\0\0gpt-2", b"\x05\0\0\0\0\0\0\0gpt-9")
    with pytest.raises(UnknownName, match="no GGUF pre-tokenizer read here is called `gpt-9`"):
        tokenizer_of(read_header(path))


def test_a_tokenizer_without_a_place_in_the_format_is_refused(tmp_path):
    for tokenizer in (character_tokenizer(["abc d"]), range_tokenizer(0, 9)):
        with pytest.raises(BadInput, match="GGUF has no words for|no piece with a space"):
            write_gguf(tiny("llama", 300), tokenizer, tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


# What is not computed is refused.


def _changed(path, old, new):
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    return path


def _written(path, more=(), drop=()):
    """A tiny llama's file with keys added and tensors left out."""
    model = tiny("llama", 40)
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {
        "llama.context_length": 9, "llama.embedding_length": 12, "llama.block_count": 2, "llama.attention.head_count": 2,
        "llama.feed_forward_length": 20, "llama.attention.layer_norm_rms_epsilon": 1e-5, **dict(more),
    }.items():  # fmt: skip
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](key, value)
    for ours, theirs in named(SPELLINGS["llama"].tensors, 2).items():
        if theirs not in drop:
            writer.add_tensor(theirs, model.state_dict()[ours].numpy())
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path


def test_missing_keys_take_the_formats_defaults(tmp_path):
    config = open_checkpoint(_written(tmp_path / "x.gguf"))[0].config
    assert (config.n_kv_heads, config.head_dim, config.rope_theta, config.tied) == (2, 6, 10000.0, False)
    assert open_checkpoint(_written(tmp_path / "y.gguf", drop=["output.weight"]))[0].config.tied


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"llama.rope.scaling.type": "linear"}, "`llama.rope.scaling.type` is `linear`, which is not computed here"),
        ({"llama.expert_count": 8}, "`llama.expert_count` is set, which is not computed here"),
        ({"llama.final_logit_softcapping": 30.0}, "`llama.final_logit_softcapping` is set, which is not computed here"),
        ({"llama.rope.dimension_count": 4}, "`llama.rope.dimension_count` is 4 where heads are 6 wide"),
        ({"llama.attention.head_count": 0}, "`llama.attention.head_count` is 0"),
        ({"llama.block_count": 100000}, "`llama.block_count` is 100000"),
        ({"llama.block_count": 3}, "`blk.2.attn_norm.weight` is missing"),
        ({"llama.block_count": 1}, "tensor `blk.1.attn_k.weight` belongs to nothing in a llama"),
        ({"llama.embedding_length": 16}, "has shape (40, 12), the settings ask for (40, 16)"),
        ({"llama.embedding_length": "x"}, "`llama.embedding_length` is 'x', not int"),
        ({"llama.feed_forward_length": 2**31}, "`llama.feed_forward_length` is 2147483648"),
    ],
)
def test_a_setting_that_is_not_computed_or_not_possible_is_refused_by_name(more, says, tmp_path):
    path = _written(tmp_path / "x.gguf", more.items())
    with pytest.raises(BadCheckpoint, match=re.escape(says)):
        open_checkpoint(path)


def test_an_architecture_we_do_not_know_is_refused_by_name(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "mamba")
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    with pytest.raises(BadCheckpoint, match="no GGUF architecture read here is called `mamba`"):
        open_checkpoint(tmp_path / "x.gguf")


def test_a_qwen2_whose_heads_are_not_d_model_wide_has_no_place_in_the_format(tmp_path):
    with pytest.raises(BadInput, match="heads 10 wide"):
        write_gguf(adversarial("qwen2"), None, tmp_path / "x.gguf")


def test_a_window_has_no_place_in_the_format_but_one_that_is_never_reached_is_none(tmp_path):
    windowed = adversarial("mistral")
    with pytest.raises(BadInput, match="a window of 5 tokens in a context of 24"):
        write_gguf(windowed, None, tmp_path / "x.gguf")
    model = adversarial("mistral without window")
    write_gguf(model, None, tmp_path / "x.gguf")
    loaded, _ = open_checkpoint(tmp_path / "x.gguf")
    assert loaded.architecture == "llama"
    torch.testing.assert_close(loaded(some_tokens()), model(some_tokens()))


def test_a_yarn_that_llama_cpp_would_compute_otherwise_is_refused(tmp_path):
    with pytest.raises(BadSetting, match="`beta_fast` 32 and `beta_slow` 1, not 5.3 and 0.7"):
        write_gguf(build("qwen2", {**TWINS["qwen2 plain"][1], "rope_scaling": ODD_YARN}), None, tmp_path / "x.gguf")
    assert not list(tmp_path.iterdir())


def test_a_file_without_words_says_so(tmp_path):
    write_gguf(adversarial("llama plain"), None, tmp_path / "x.gguf")
    fields = gguf.GGUFReader(tmp_path / "x.gguf").fields
    assert fields["tokenizer.ggml.model"].contents() == "no_vocab"
