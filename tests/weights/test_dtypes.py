"""Weights kept as float32, bfloat16, float16, int8 or as stored: what each form computes, where its bytes lie, what it refuses."""

import warnings
from pathlib import Path

import gguf
import pytest
import torch
import transformers

import picolab
from picolab.errors import BadCheckpoint, BadInput, UnknownName
from picolab.parts import quantised
from picolab.parts.norm import LayerNorm, RMSNorm
from picolab.parts.quantised import Quantised, kinds_of, to_float
from picolab.parts.rope import Rope, rotate
from picolab.runs.reference import open_reference
from picolab.runs.settings import OptimizerSettings
from picolab.sample.generate import generate
from picolab.sample.pick import Sampler
from picolab.trace.record import record
from picolab.train.optimizers import adamw
from picolab.weights.checkpoint import load_model, save_model
from picolab.weights.formats import open_checkpoint
from picolab.weights.gguf.names import SPELLINGS, named
from picolab.weights.gguf.write import write_gguf
from picolab.weights.kept import FORMS, form_of, keep
from picolab.weights.llama2c_write import write_llama2c
from picolab.weights.plan import plan_checkpoint
from picolab.zoo import ARCHITECTURES, create, settings_of
from raw_blocks import LargestFloats, near, raw_of

from reader_files import tiny
from zoo_twins import TWINS, adversarial, some_tokens

MAPS = Path("/proc/self/maps")
BLOCKS = sorted(
    kind.name for kind in gguf.GGMLQuantizationType if kind.name in ("Q8_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q6_K")
)


@pytest.fixture(scope="module")
def llamas(tmp_path_factory):
    """One llama with rows that are blocks of 32, in every format."""
    folder = tmp_path_factory.mktemp("llamas")
    torch.manual_seed(0)
    model = tiny("llama", 300, d_model=64, d_ff=96, n_heads=4, n_kv_heads=2, context_length=24)
    save_model(model, None, folder / "folder")
    write_llama2c(model, folder / "model.bin")
    for kind in ("F32", "F16", "BF16", "Q8_0"):
        write_gguf(model, None, folder / f"{kind}.gguf", kind=kind)
    save_model(
        keep(tiny("llama", 300, d_model=64, d_ff=96, n_heads=4, n_kv_heads=2, context_length=24), "bfloat16"),
        None,
        folder / "halves",
    )
    return folder


SOURCES = ["folder", "halves", "model.bin", "F32.gguf", "F16.gguf", "BF16.gguf", "Q8_0.gguf"]


def in_steps(model, tokens, first=5):
    """Logits of a prompt and of what follows token by token."""
    cache = model.new_cache(len(tokens), tokens.shape[1])
    parts = (tokens[:, :first], *tokens[:, first:].split(1, 1))
    return torch.cat([model(part, cache=cache) for part in parts], dim=1)


# What each form computes.


@pytest.mark.parametrize("source", SOURCES)
@torch.no_grad()
def test_weights_as_stored_give_the_logits_of_float32(source, llamas):
    tokens = some_tokens(batch=3)
    expected = open_checkpoint(llamas / source)[0](tokens)
    model = open_checkpoint(llamas / source, dtype="stored")[0]
    assert near(model(tokens), expected) and near(in_steps(model, tokens), expected)
    kinds = {
        "halves": ["BF16"],
        "folder": [],
        "model.bin": [],
        "F32.gguf": ["F32"],
    }  # F32: rows in pairs, left as they lie
    assert kinds_of(model) == kinds.get(source, [source.removesuffix(".gguf")])


@pytest.mark.parametrize("kind", BLOCKS)
@torch.no_grad()
def test_blocks_are_read_where_they_lie_as_the_gguf_package_reads_them(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(quantised, "CHUNK", 40_000)
    model, raw = tiny("llama", 60, d_model=256, d_ff=256, n_heads=4, n_kv_heads=2), {}
    for seed, (name, tensor) in enumerate(model.state_dict().items()):
        if tensor.ndim == 2:
            raw[name] = raw_of(kind, *tensor.shape, seed=seed, size=0.0003 if kind == "Q8_0" else 0.003)
            tensor.copy_(torch.from_numpy(gguf.dequantize(raw[name].numpy(), gguf.GGMLQuantizationType[kind])))
    _write_blocks(model, raw, kind, tmp_path / "x.gguf")
    loaded, again = open_checkpoint(tmp_path / "x.gguf", dtype="stored")[0], open_checkpoint(tmp_path / "x.gguf")[0]
    # The file has q and k in adjacent pairs: what was written in halves is read as if they were.
    assert torch.equal(again.embedding.weight, model.embedding.weight)
    assert torch.equal(again.blocks[1].mlp.down_proj.weight, model.blocks[1].mlp.down_proj.weight)
    tokens = some_tokens(batch=2)
    expected = again(tokens)
    assert kinds_of(loaded) == [kind] and expected.std() > 0.01
    assert near(loaded(tokens), expected) and near(in_steps(loaded, tokens), expected)


def _write_blocks(model, raw, kind, path):
    """A GGUF file whose matrices are these bytes."""
    writer, settings = gguf.GGUFWriter(path, "llama"), settings_of(model)
    for ours, theirs in SPELLINGS["llama"].settings.items():
        (writer.add_float32 if isinstance(settings[ours], float) else writer.add_uint32)(
            f"llama.{theirs}", settings[ours]
        )
    for ours, theirs in named(SPELLINGS["llama"].tensors, settings["n_layers"]).items():
        if ours in raw:
            writer.add_tensor(theirs, raw[ours].numpy(), raw_dtype=gguf.GGMLQuantizationType[kind])
        else:
            writer.add_tensor(theirs, model.state_dict()[ours].numpy())
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()


@pytest.mark.parametrize("name", TWINS)
@torch.no_grad()
def test_int8_computes_with_the_rounded_matrices_and_nothing_else(name):
    model, tokens = keep(adversarial(name), "int8"), some_tokens()
    rounded = adversarial(name)
    for key, parameter in rounded.named_parameters():
        kept = model.get_parameter(key)
        parameter.copy_(to_float(kept) if isinstance(kept, Quantised) else kept)
    assert kinds_of(model) == ["int8"] and not any(parameter.requires_grad for parameter in model.parameters())
    assert near(model(tokens), rounded(tokens)) and near(in_steps(model, tokens), rounded(tokens))
    assert not near(model(tokens), adversarial(name)(tokens))


@pytest.mark.parametrize("source", SOURCES)
def test_int8_is_the_same_from_every_source_of_the_same_numbers(source, llamas):
    of_floats = keep(open_checkpoint(llamas / source)[0], "int8")
    for (name, one), other in zip(
        open_checkpoint(llamas / source, dtype="int8")[0].named_parameters(), of_floats.parameters(), strict=True
    ):
        same = (
            torch.equal(to_float(one.data), to_float(other.data))
            if isinstance(one, Quantised)
            else torch.equal(one, other)
        )
        assert same, name


HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", TWINS)
@torch.no_grad()
def test_half_precision_is_as_near_to_the_truth_as_the_reference_of_its_type(name, dtype, tmp_path):
    """The error against float64 is at most 1.3 times that of transformers in the same type, or, where transformers has no such
    model or cannot run it so, of torch's autocast; twice that for a decoder, whose stream autocast keeps in float32."""
    tokens, exact = some_tokens(batch=4), adversarial(name).double()(some_tokens(batch=4))
    save_model(adversarial(name), None, tmp_path)
    model = load_model(tmp_path, dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {HALVES[dtype]}
    whole, steps = model(tokens), in_steps(model, tokens)
    assert whole.dtype == steps.dtype == HALVES[dtype]
    for ours, noise in zip((whole, steps), _noise(name, dtype, tokens, exact, tmp_path), strict=True):
        assert 0.2 * noise < _off(ours, exact) < (2 if TWINS[name][0] in ("counted", "linear") else 1.3) * noise


def _noise(name, dtype, tokens, exact, folder):
    kind = TWINS[name][0]
    if ARCHITECTURES[kind].model.hugging_face is None or (kind == "gpt_oss" and dtype == "float16"):
        with torch.autocast("cpu", dtype=torch.bfloat16), warnings.catch_warnings(action="ignore"):
            off = _off(adversarial(name)(tokens), exact)
        return [off if dtype == "bfloat16" else off / 8] * 2  # three more bits
    more = {"experts_implementation": "eager"} if kind == "gpt_oss" else {}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=HALVES[dtype], attn_implementation="eager", **more
    ).eval()
    past, steps = None, []
    for part in (tokens[:, :5], *tokens[:, 5:].split(1, 1)):
        step = theirs(part, past_key_values=past, use_cache=True)
        past, steps = step.past_key_values, [*steps, step.logits]
    return [_off(theirs(tokens).logits, exact), _off(torch.cat(steps, dim=1), exact)]


def _off(found, exact):
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("dtype", HALVES.values())
@torch.no_grad()
def test_norms_square_and_angles_grow_in_float32(dtype):
    x, eps = 2000 * torch.randn(3, 64), torch.finfo(dtype).eps  # squares are beyond float16
    for norm in (RMSNorm(64, 1e-5), LayerNorm(64, 1e-5)):
        assert (norm(x.to(dtype)).float() - norm(x)).norm() < 2 * eps * norm(x).norm()
    positions, heads = torch.arange(40_000, 40_008)[None], torch.randn(1, 8, 2, 16)
    for length in (1 << 16, 1 << 18):  # from a table, and without one
        turn = Rope(length, 16, 137.0)(positions)
        off = rotate(heads.to(dtype), turn).float() - rotate(heads, turn)
        assert off.norm() < 2 * eps * heads.norm()


# Where the bytes lie.


def _mapped_bytes(model, path):
    """Bytes of the weights, those in memory of their own and those in a mapped file of this folder."""
    ranges = []
    for line in MAPS.read_text().splitlines():
        words = line.split(maxsplit=5)
        if len(words) == 6 and words[5].startswith(str(path)):
            ranges.append([int(end, 16) for end in words[0].split("-")])
    own = mapped = 0
    for parameter in model.parameters():  # a shared one comes once
        fields = [f for f in parameter.fields if f is not None] if isinstance(parameter, Quantised) else [parameter]
        for field in fields:
            in_file = any(start <= field.data_ptr() < end for start, end in ranges)
            size = field.numel() * field.element_size()
            own, mapped = own + size * (not in_file), mapped + size * in_file
    return own, mapped


@pytest.mark.skipif(not MAPS.exists(), reason="only Linux says what lies where")
@pytest.mark.parametrize("dtype", FORMS)
@pytest.mark.parametrize("source", SOURCES)
def test_the_bytes_are_those_of_the_plan_in_memory_and_in_the_file(source, dtype, llamas):
    model, plan = open_checkpoint(llamas / source, dtype=dtype)[0], plan_checkpoint(llamas / source, dtype)
    assert (plan.own_bytes, plan.mapped_bytes) == _mapped_bytes(model, llamas / source)


@pytest.mark.skipif(not MAPS.exists(), reason="only Linux says what lies where")
@pytest.mark.parametrize("dtype", ["float32", "int8", "stored"])
@pytest.mark.parametrize("name", ["gpt2", "qwen3 tied", "lstm", "kgram-conv", "gpt_oss"])
def test_the_plan_knows_every_architecture(name, dtype, tmp_path):
    for stored in ("float32", "bfloat16"):
        save_model(keep(adversarial(name), stored), None, tmp_path / stored)
        model, plan = load_model(tmp_path / stored, dtype=dtype), plan_checkpoint(tmp_path / stored, dtype)
        assert (plan.own_bytes, plan.mapped_bytes) == _mapped_bytes(model, tmp_path / stored)
        assert plan.parameters == sum(parameter.numel() for parameter in model.parameters())
        assert plan.choices[dtype] == plan.own_bytes


@pytest.mark.parametrize("source", ["folder", "F32.gguf", "BF16.gguf", "Q8_0.gguf"])
def test_int8_is_made_while_loading_a_few_rows_at_a_time(source, llamas, monkeypatch):
    monkeypatch.setattr(quantised, "CHUNK", 1024)
    with LargestFloats() as made:
        open_checkpoint(llamas / source, dtype="int8", context_length=24)
    assert 64 < made.numbers <= 1024  # the embedding alone has 19,200


@pytest.mark.parametrize("dtype", FORMS)
def test_a_tied_head_is_the_embedding_in_every_form(dtype, tmp_path):
    for name in ("llama plain tied", "gpt2", "qwen3 tied"):
        save_model(adversarial(name), None, tmp_path / "folder")
        write_gguf(adversarial(name), None, tmp_path / "x.gguf", kind="BF16")
        for place in ("folder", "x.gguf"):
            model = open_checkpoint(tmp_path / place, dtype=dtype)[0]
            assert model.head.weight is model.embedding.weight
    for name in ("llama tied", "lstm"):
        model = adversarial(name)
        tied = settings_of(model)["tied"]
        assert (keep(model, dtype).head.weight is model.embedding.weight) == tied


# What a model in another form still is.


@pytest.mark.parametrize("dtype", ["bfloat16", "int8", "stored"])
@torch.no_grad()
def test_every_site_is_seen_as_before(dtype, llamas):
    tokens, seen = some_tokens(time=7), {}
    for form in ("float32", dtype):
        model = open_checkpoint(llamas / "Q8_0.gguf", dtype=form)[0]
        with record(model) as recording:
            model(tokens)
        seen[form] = recording
    assert list(seen[dtype]) == list(seen["float32"])
    for site in seen[dtype]:
        one, other = seen[dtype][site].double(), seen["float32"][site].double()
        assert (one - other).norm() <= (3e-6 if dtype == "stored" else 0.03) * other.norm(), site


@pytest.mark.parametrize("dtype", FORMS)
def test_a_text_is_written_in_every_form(dtype, llamas):
    model = open_checkpoint(llamas / "Q8_0.gguf", dtype=dtype)[0]
    ways = {"max_new_tokens": 9, "sampler": Sampler(temperature=0)}
    alone = [generate(model, None, [ids], **ways)[0].ids for ids in ([5, 17, 200], [7])]
    together = [text.ids for text in generate(model, None, [[5, 17, 200], [7]], **ways)]
    assert together == alone and len(alone[0]) == 9
    if dtype == "stored":
        plain = open_checkpoint(llamas / "Q8_0.gguf")[0]
        assert alone == [generate(plain, None, [ids], **ways)[0].ids for ids in ([5, 17, 200], [7])]


def test_presets_and_saved_models_are_loaded_by_name_and_form(llamas):
    assert kinds_of(picolab.load("softmax-pico", dtype="int8")) == ["int8"]
    assert picolab.load("lstm", dtype="bfloat16")(torch.tensor([[1, 2]])).dtype == torch.bfloat16
    assert kinds_of(picolab.load(llamas / "Q8_0.gguf", dtype="stored")) == ["Q8_0"]
    assert kinds_of(open_reference(llamas / "model.bin", dtype="int8").model) == ["int8"]
    assert form_of(torch.bfloat16) == "bfloat16"


@torch.no_grad()
def test_losses_are_those_of_the_rounded_weights(llamas):
    model, tokens = open_checkpoint(llamas / "folder", dtype="int8")[0], some_tokens()
    expected = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten(), reduction="none")
    torch.testing.assert_close(model.losses(tokens, tokens).flatten(), expected)


# What is refused.


def test_a_form_that_nobody_knows_is_refused_with_the_nearest_name(llamas):
    for ask in (
        lambda: open_checkpoint(llamas / "folder", dtype="bf16"),
        lambda: picolab.load("lstm", dtype="int4"),
        lambda: open_checkpoint(llamas / "folder", dtype=torch.float64),
        lambda: plan_checkpoint(llamas / "folder", "half"),
    ):
        with pytest.raises(UnknownName, match="no dtype is called `(bf16|int4|float64|half)`") as caught:
            ask()
        assert caught.value.hint


@pytest.mark.parametrize("dtype", ["int8", "bfloat16"])
def test_a_model_that_counts_has_no_weights_to_keep_otherwise(dtype, tmp_path):
    save_model(create("ngram", vocab_size=9), None, tmp_path)
    for ask in (
        lambda: load_model(tmp_path, dtype=dtype),
        lambda: picolab.load("ngram", dtype=dtype),
        lambda: plan_checkpoint(tmp_path, dtype),
    ):
        with pytest.raises(BadInput, match=f"`ngram` has no weights to keep as {dtype}: it counts"):
            ask()
    load_model(tmp_path, dtype="stored")


def test_a_model_for_reading_is_not_trained(llamas):
    for dtype, kind in (("int8", "int8"), ("stored", "Q8_0")):
        model = open_checkpoint(llamas / "Q8_0.gguf", dtype=dtype)[0]
        with pytest.raises(BadInput, match="no parameter to train"):
            adamw(model, OptimizerSettings())
        with pytest.raises(BadInput, match=f"weights kept as {kind} cannot be trained"):
            model.requires_grad_()


def test_a_model_for_reading_is_not_written(llamas, tmp_path):
    model = open_checkpoint(llamas / "folder", dtype="int8")[0]
    for write in (
        lambda: save_model(model, None, tmp_path / "folder"),
        lambda: write_gguf(model, None, tmp_path / "x.gguf"),
        lambda: write_llama2c(model, tmp_path / "x.bin"),
    ):
        with pytest.raises(BadInput, match="weights kept as int8 cannot be written") as caught:
            write()
        assert "float32" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_float16_cannot_say_are_refused_by_name(tmp_path):
    model = adversarial("llama")
    with torch.no_grad():
        model.blocks[1].mlp.up_proj.weight[3, 4] = 7e4
    save_model(model, None, tmp_path)
    with pytest.raises(
        BadCheckpoint, match=r"`model.layers.1.mlp.up_proj.weight` holds 70000, and float16 ends at 65504"
    ):
        open_checkpoint(tmp_path, dtype="float16")
    with pytest.raises(BadInput, match="`blocks.1.mlp.up_proj.weight` holds 70000"):
        keep(model, "float16")
    open_checkpoint(tmp_path, dtype="bfloat16")
