"""A model goes round through every format and comes back; other engines open what is written; what does not fit is refused."""

import json
import random
import resource
from pathlib import Path

import pytest
import torch
import transformers

from picolab.errors import BadInput, BadSetting
from picolab.text.bytes import byte_tokenizer
from picolab.text.characters import character_tokenizer
from picolab.trace.engines.llama_cpp import LlamaCpp
from picolab.weights import convert as module
from picolab.weights import likeness
from picolab.weights.convert import convert
from picolab.weights.draft import drafts
from picolab.weights.formats import open_checkpoint, open_tokenizer
from picolab.weights.gguf import write as gguf_write
from picolab.weights.gguf.header import read_header
from picolab.weights.likeness import compare, unlike
from picolab.zoo import build, settings_of

from reader_files import bpe, pieces, spm, tiny
from trained_story import STORIES, needs_stories
from zoo_twins import TWINS, adversarial, some_tokens

IN_GGUF = [
    name
    for name, (kind, settings) in TWINS.items()
    if kind in ("llama", "qwen3", "gpt2") or settings.get("window") == 0 or (kind == "qwen2" and settings["head_dim"] == 6)
]  # fmt: skip

LETTERS = "abc ca  éà☃🌹\n\t12 'sT<>/|_▁東\u00a0"


def fuzz(count: int = 200) -> list[str]:
    """Texts no tokenizer expects."""
    drawn = random.Random(0)
    made = ["".join(drawn.choice(LETTERS) for _ in range(drawn.randrange(1, 30))) for _ in range(count)]
    return ["the cat sat 12 é☃", " abc  ca\n", "", "<s></s><|endoftext|>", "It's $12345$ (é)\n\n ok", *made]


def nothing_left(folder: Path, *expected: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(expected)


# Round and round.


@needs_stories
def test_a_llama2c_model_comes_back_from_gguf_byte_for_byte(tmp_path):
    model, tokenizer = open_checkpoint(STORIES / "stories260K.bin")
    convert(model, tokenizer, tmp_path / "model.gguf")
    model, tokenizer = open_checkpoint(tmp_path / "model.gguf")
    made = convert(model, tokenizer, tmp_path / "model.bin")
    assert made.likeness.exact and made.likeness.texts > 50
    assert (tmp_path / "model.bin").read_bytes() == (STORIES / "stories260K.bin").read_bytes()
    assert (tmp_path / "tokenizer.bin").read_bytes() == (STORIES / "tok512.bin").read_bytes()


@pytest.mark.parametrize("name", ["llama plain", "llama plain tied"])
@torch.no_grad()
def test_a_llama_goes_round_through_all_formats_bit_for_bit(name, tmp_path):
    plain = {**settings_of(adversarial(name)), "rope_theta": 10000.0, "norm_eps": 1e-5, "vocab_size": 272}
    torch.manual_seed(0)
    model, tokenizer, now = build("llama", plain).eval(), spm(), tmp_path
    state, tokens = model.state_dict(), some_tokens()
    expected = model(tokens)
    for place in ("a.gguf", "folder", "b.bin", "c.gguf", "d.bin", "other"):
        assert convert(model, tokenizer, now / place).likeness.exact
        model, tokenizer = open_checkpoint(now / place, context_length=plain["context_length"])
        for key, tensor in state.items():
            assert torch.equal(model.state_dict()[key], tensor), (place, key)
        assert torch.equal(model(tokens), expected)
        for text in fuzz(30):
            assert tokenizer.encode(text) == spm().encode(text)
    assert (now / "b.bin").read_bytes() == (now / "d.bin").read_bytes()
    assert (tokenizer.opening, tokenizer.ends) == ((1,), {2})


@pytest.mark.parametrize("name", TWINS)
def test_every_model_has_a_folder_that_is_the_model(name, tmp_path):
    made = convert(adversarial(name), None, tmp_path / "folder")
    assert made.kept and made.likeness.exact and made.likeness.largest == 0
    known = adversarial(name).hugging_face is not None
    assert made.notes[0].startswith("transformers opens it as" if known else "transformers does not know")
    assert {tensor.kind for tensor in made.tensors} == {"F32"}
    written = {file.name for file in (tmp_path / "folder").iterdir()}
    assert written == {"config.json", "generation_config.json", "model.safetensors"}


# Other engines open what is written.


@pytest.mark.parametrize("name", IN_GGUF)
@torch.no_grad()
def test_llama_cpp_computes_the_same_from_what_is_written(name, tmp_path):
    model, tokens = adversarial(name), some_tokens(batch=1)
    assert convert(model, None, tmp_path / "model.gguf").likeness.exact
    found = LlamaCpp.open(tmp_path / "model.gguf", context_length=24).read(tokens[0].tolist())
    expected = model(tokens)[0]
    # llama.cpp looks GELU up in a table of half-precision numbers.
    assert (found - expected).abs().max() < (1e-3 if model.architecture == "gpt2" else 1e-5) * expected.abs().max()


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0"])
@torch.no_grad()
def test_llama_cpp_computes_the_same_from_smaller_types(kind, tmp_path):
    model, tokens = tiny("llama", 300, d_model=64, d_ff=96, n_kv_heads=1), some_tokens(batch=1, time=9)
    made = convert(model, None, tmp_path / "model.gguf", kind=kind.lower())
    assert made.kept and 1e-6 < made.likeness.relative < 3e-2 and not made.likeness.exact
    again, _ = open_checkpoint(tmp_path / "model.gguf")
    expected = again(tokens)[0]
    found = LlamaCpp.open(tmp_path / "model.gguf").read(tokens[0].tolist())
    assert (found - expected).norm() < 2e-2 * expected.norm()


@pytest.mark.parametrize(
    ("make", "architecture"),
    [(spm, "llama"), (spm, "mistral"), (bpe, "llama"), (bpe, "qwen2"), (bpe, "gpt2"), (byte_tokenizer, "gpt2")],
)
def test_llama_cpp_spells_every_text_with_the_same_ids(make, architecture, tmp_path):
    tokenizer = make()
    window = {"window": 0, "n_kv_heads": 2} if architecture == "mistral" else {}
    made = convert(tiny(architecture, tokenizer.vocab_size, **window), tokenizer, tmp_path / "model.gguf")
    engine = LlamaCpp.open(made.path)
    for text in fuzz():
        assert engine.encode(text) == tokenizer.encode(text), repr(text)


@needs_stories
def test_llama_cpp_spells_stories_with_the_same_ids_as_the_trained_vocabulary(tmp_path):
    model, tokenizer = open_checkpoint(STORIES / "stories260K.bin")
    engine = LlamaCpp.open(convert(model, tokenizer, tmp_path / "model.gguf").path)
    for text in [*fuzz(), "Once upon a time, there was a little girl named Lily."]:
        assert engine.encode(text) == tokenizer.encode(text), repr(text)


@pytest.mark.parametrize(
    ("make", "architecture", "settings"),
    [
        (spm, "llama", {}),
        (spm, "mistral", {"n_kv_heads": 2, "window": 4}),
        (bpe, "gpt2", {"d_ff": 48}),
        (bpe, "qwen2", {}),
        (bpe, "qwen3", {}),
        (bpe, "gpt_oss", {"n_kv_heads": 2, "window": 4}),
        (byte_tokenizer, "llama", {}),
    ],
)
@torch.no_grad()
def test_a_folder_goes_through_transformers_and_comes_back(make, architecture, settings, tmp_path):
    tokenizer, tokens = make(), some_tokens(time=8)
    model = tiny(architecture, tokenizer.vocab_size, **settings)
    made = convert(model, tokenizer, tmp_path / "ours")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(made.path, attn_implementation="eager").eval()
    expected = theirs(tokens).logits
    assert (model(tokens) - expected).abs().max() < 1e-5 * expected.abs().max()
    # Beside a qwen2 AutoTokenizer builds Qwen2's own; the notes say so.
    reader = transformers.PreTrainedTokenizerFast if architecture == "qwen2" else transformers.AutoTokenizer
    spoken = reader.from_pretrained(made.path)
    for text in fuzz():
        assert spoken(text, add_special_tokens=False).input_ids == tokenizer.encode(text), repr(text)
    assert spoken("a").input_ids == [*tokenizer.opening, *tokenizer.encode("a")]
    theirs.save_pretrained(tmp_path / "theirs")
    spoken.save_pretrained(tmp_path / "theirs")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    config.pop("picolab", None)  # nothing of ours left
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(config))
    again, words = open_checkpoint(tmp_path / "theirs")
    assert torch.equal(again(tokens), model(tokens))
    assert (words.opening, words.ends) == (tokenizer.opening, tokenizer.ends)
    for text in fuzz(30):
        assert words.encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize(("make", "architecture"), [(spm, "llama"), (bpe, "qwen2"), (bpe, "llama")])
@torch.no_grad()
def test_transformers_reads_the_model_and_its_tokenizer_out_of_a_gguf_file(make, architecture, tmp_path):
    tokenizer, tokens = make(), some_tokens(time=8)
    model = tiny(architecture, tokenizer.vocab_size, n_kv_heads=1)
    convert(model, tokenizer, tmp_path / "model.gguf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    expected = theirs.eval()(tokens).logits
    assert (model(tokens) - expected).abs().max() < 1e-5 * expected.abs().max()
    spoken = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    for text in fuzz():
        # Its reader of such files makes control tokens of their letters and loses a space that opens a text.
        if "<|" not in text and "</" not in text and "<s" not in text and not text.startswith((" ", "▁")):
            assert spoken(text, add_special_tokens=False).input_ids == tokenizer.encode(text), repr(text)


# What a format cannot hold is refused by name.


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nanochat", "no name for the architecture `nanochat`"),
        ("gpt_oss", "no name for the architecture `gpt_oss`"),
        ("lstm", "no name for the architecture `lstm`"),
        ("mistral", "a window of 5 tokens in a context of 24 has no place in a GGUF llama"),
        ("qwen2", "6 heads 10 wide in a stream of 36 have no place in a GGUF qwen2"),
    ],
)
def test_gguf_refuses_what_llama_cpp_would_compute_otherwise(name, says, tmp_path):
    with pytest.raises(BadInput, match=says):
        convert(adversarial(name), None, tmp_path / "new" / "newer" / "x.gguf")
    nothing_left(tmp_path)


def test_a_window_that_is_never_reached_is_said_and_not_lost(tmp_path):
    torch.manual_seed(0)
    model = build("mistral", {**TWINS["mistral"][1], "window": 24}).eval()
    made = convert(model, None, tmp_path / "x.gguf")
    assert made.likeness.exact
    assert made.notes[:2] == (
        "llama.cpp runs it as the architecture `llama`",
        "its window of 24 tokens is not in the file: it is never reached in its context",
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"head_dim": 10}, "no place for `head_dim` 10: run.c computes with 6"),
        ({"rope_theta": 500000.0}, "no place for `rope_theta` 500000.0: run.c computes with 10000.0"),
        ({"norm_eps": 1e-6}, "no place for `norm_eps` 1e-06: run.c computes with 1e-05"),
        (
            {"rope_scaling": {"kind": "yarn", "factor": 2.0, "original_context_length": 5}},
            "no place for `rope_scaling` yarn",
        ),
    ],
)
def test_llama2c_refuses_settings_it_has_no_place_for(settings, says, tmp_path):
    with pytest.raises(BadInput, match=says):
        convert(tiny("llama", 272, **settings), None, tmp_path / "x.bin")
    nothing_left(tmp_path)


def _opens_otherwise():
    from picolab.text.spm import spm_tokenizer

    return spm_tokenizer(pieces(), eot=2, bos=1, opens=False)


@pytest.mark.parametrize(
    ("tokenizer", "size", "says"),
    [
        (bpe, 272, "no words for a tokenizer of kind `bpe`"),
        (byte_tokenizer, 272, "no words for a tokenizer of kind `bytes`"),
        (lambda: character_tokenizer(["abc"]), 272, "no words for a tokenizer of kind `characters`"),
        (spm, 280, r"rows without a token \(272 tokens and 280 rows\)"),
        (_opens_otherwise, 272, "texts opened by nothing and ended by 2: run.c opens with 1 and ends at 2"),
    ],
)
def test_llama2c_refuses_tokenizers_it_has_no_place_for(tokenizer, size, says, tmp_path):
    with pytest.raises(BadInput, match=says):
        convert(tiny("llama", size), tokenizer(), tmp_path / "x.bin")
    nothing_left(tmp_path)


def test_llama2c_holds_llamas_only(tmp_path):
    with pytest.raises(BadInput, match="a llama2.c file holds a llama, and the model is a qwen2"):
        convert(tiny("qwen2", 272), None, tmp_path / "x.bin")


def test_a_number_too_large_for_float16_is_refused_and_not_made_infinite(tmp_path):
    model = tiny("llama", 40)
    with torch.no_grad():
        model.blocks[1].mlp.up_proj.weight[3, 2] = 70000.0
    with pytest.raises(BadInput, match=r"`blk.1.ffn_up.weight` holds 70000, and F16 ends at 65504"):
        convert(model, None, tmp_path / "x.gguf", kind="F16")
    nothing_left(tmp_path)
    assert convert(model, None, tmp_path / "x.gguf", kind="BF16").kept


@pytest.mark.parametrize(("place", "kind"), [("x.gguf", "Q3"), ("folder", "Q8_0"), ("x.bin", "F16")])
def test_a_type_the_format_does_not_have_is_refused(place, kind, tmp_path):
    with pytest.raises(BadSetting, match=f"`{kind}`"):
        convert(tiny("llama", 40), None, tmp_path / place, kind=kind)


def test_an_ending_of_a_text_that_no_name_gives_away_is_kept_in_gguf(tmp_path):
    tokenizer = bpe()
    tokenizer.inner.add_special_tokens(["<over>"])
    tokenizer = type(tokenizer)(tokenizer.inner, kind="bpe", eot=tokenizer.eot, ends=[272], opening=())
    made = convert(tiny("qwen2", 273), tokenizer, tmp_path / "x.gguf")
    assert made.kept
    assert open_tokenizer(made.path).ends == {tokenizer.eot, 272}


# Where it may be written.


def test_what_is_there_is_replaced_only_when_told_to(tmp_path):
    model = tiny("llama", 40)
    for place in ("x.gguf", "x.bin", "folder"):
        first = convert(model, None, tmp_path / place)
        with pytest.raises(BadInput, match="is there already"):
            convert(model, None, first.path)
        assert convert(tiny("llama", 50), None, first.path, force=True).kept
        assert open_checkpoint(first.path)[0].config.vocab_size == 50
    nothing_left(tmp_path, "x.gguf", "x.bin", "folder")


def test_a_folder_that_holds_more_than_a_checkpoint_is_never_replaced(tmp_path):
    model = tiny("llama", 40)
    convert(model, None, tmp_path / "folder")
    (tmp_path / "folder" / "thesis.tex").write_text("three years")
    with pytest.raises(BadInput, match="holds more than a checkpoint: `thesis.tex`"):
        convert(model, None, tmp_path / "folder", force=True)
    (tmp_path / "dir.gguf").mkdir()
    with pytest.raises(BadInput, match="is a folder, and a file is to be written"):
        convert(model, None, tmp_path / "dir.gguf", force=True)
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "three years"


def test_a_source_is_never_replaced(tmp_path):
    model = tiny("llama", 40)
    convert(model, None, tmp_path / "all" / "x.gguf")
    for place in ("all/x.gguf", "all"):
        with pytest.raises(BadInput, match="is or lies in"):
            convert(model, None, tmp_path / place, force=True, sources=[tmp_path / "all" / "x.gguf"])


def test_another_models_vocabulary_beside_a_llama2c_file_is_not_replaced(tmp_path):
    model = tiny("llama", 272)
    convert(model, spm(), tmp_path / "x.bin")
    assert convert(model, spm(), tmp_path / "y.bin").kept  # the same vocabulary may stay
    (tmp_path / "tokenizer.bin").write_bytes(b"another")
    with pytest.raises(BadInput, match="tokenizer.bin` is there already, with another vocabulary"):
        convert(model, spm(), tmp_path / "z.bin")
    nothing_left(tmp_path, "x.bin", "y.bin", "tokenizer.bin")
    assert (tmp_path / "tokenizer.bin").read_bytes() == b"another"


def test_a_name_that_says_no_format_is_refused_and_a_version_number_is_no_ending(tmp_path):
    model = tiny("llama", 40)
    with pytest.raises(BadInput, match="no kind of checkpoint that is written here"):
        convert(model, None, tmp_path / "model.safetensors")
    assert convert(model, None, tmp_path / "Qwen2.5-0.5B").format == "Hugging Face"


# Whole or not at all.


@pytest.mark.parametrize("place", ["x.gguf", "x.bin", "folder"])
def test_a_full_disk_leaves_what_was_there(place, tmp_path):
    convert(tiny("llama", 40), None, tmp_path / place)
    before = open_checkpoint(tmp_path / place)[0].state_dict()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(BadInput, match="cannot be written: (.*file too large|the disk took only a part)") as caught:
            convert(tiny("llama", 4000), None, tmp_path / place, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "as it was" in caught.value.hint
    nothing_left(tmp_path, place)
    for name, tensor in open_checkpoint(tmp_path / place)[0].state_dict().items():
        assert torch.equal(tensor, before[name])


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    written = []

    def interrupted(self, tensor, *rest, **more):
        written.append(tensor)
        if len(written) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(gguf_write.GGUFWriter, "write_tensor_data", interrupted)
    with pytest.raises(KeyboardInterrupt, match="interrupted: nothing is left of"):
        convert(tiny("llama", 40), None, tmp_path / "x.gguf")
    nothing_left(tmp_path)


def test_a_folder_that_cannot_take_its_name_gives_the_old_one_back(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("old")
    with pytest.raises(BadInput, match="cannot be written"), drafts([tmp_path / "folder"]):
        pass  # nothing was made that could take the name
    assert (tmp_path / "folder" / "old").read_text() == "old"
    nothing_left(tmp_path, "folder")


# The comparison can fail.


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
def test_rows_in_the_wrong_order_are_found_and_nothing_is_left(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_write, "to_pairs", lambda weight, n_heads: weight)
    made = convert(tiny("llama", 40, d_model=64, d_ff=32), None, tmp_path / "x.gguf", kind=kind)
    assert not made.kept
    assert "blocks.0.attention.q_proj.weight" in made.likeness.strayed
    assert all("q_proj" in name or "k_proj" in name for name in made.likeness.strayed)
    nothing_left(tmp_path)


def test_another_vocabulary_is_found_and_nothing_is_left(tmp_path, monkeypatch):
    tokenizer = bpe()
    monkeypatch.setattr(module, "write_gguf", lambda model, _, path, **more: gguf_write.write_gguf(model, spm(), path))
    made = convert(tiny("qwen2", tokenizer.vocab_size), tokenizer, tmp_path / "x.gguf")
    assert not made.kept and "opening" in made.likeness.unlike
    nothing_left(tmp_path)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0"])
def test_the_rounding_of_a_type_is_allowed_and_twice_as_much_is_not(kind, tmp_path):
    model = tiny("llama", 64, d_model=64, d_ff=96)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 3 * torch.rand_like(parameter))  # no number is special
    made = convert(model, None, tmp_path / "x.gguf", kind=kind)
    assert made.kept
    again, _ = open_checkpoint(made.path)
    name = "blocks.1.mlp.up_proj.weight"
    stored = {tensor: kind if tensor == name else "F32" for tensor in model.state_dict()}
    with torch.no_grad():
        weight, rounded = model.get_parameter(name), again.get_parameter(name)
        assert likeness._within(weight, rounded, kind)
        share = (weight - rounded).abs() / likeness._rounding(weight, kind)
        worst = share.argmax()
        assert 0.5 < share.max() <= 1
        rounded.view(-1)[worst] += (rounded - weight).view(-1)[worst]
    assert name in compare(model, again, stored, rounded=True).strayed


def test_a_token_that_is_spelled_otherwise_is_named():
    difference, _ = unlike(byte_tokenizer(), bpe())
    assert difference is not None
    assert unlike(bpe(), bpe()) == (None, likeness.DRAWN + len(likeness.TEXTS))


def test_a_logit_that_is_no_number_is_not_faithful():
    model = tiny("llama", 40)
    again = tiny("llama", 40)
    with torch.no_grad():
        again.final_norm.weight[0] = float("nan")
    assert not compare(model, again, {}, rounded=True).faithful


# What is said about it.


def test_tensors_are_listed_with_their_types_and_sizes(tmp_path):
    made = convert(tiny("llama", 40, d_model=64, d_ff=20), None, tmp_path / "x.gguf", kind="Q8_0", name="mine")
    kinds = {tensor.name: tensor.kind for tensor in made.tensors}
    assert (kinds["blk.0.attn_norm.weight"], kinds["blk.0.attn_q.weight"]) == ("F32", "Q8_0")
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert "2 tensors are F16: their rows are no multiple of the 32 numbers of a Q8_0 block" in made.notes
    sizes = {tensor.name: tensor.bytes for tensor in made.tensors}
    assert sizes["blk.0.attn_q.weight"] == 64 * 64 // 32 * 34
    assert read_header(made.path).text("general.name") == "mine"
