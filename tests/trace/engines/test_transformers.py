"""transformers shows what picolab shows, at every site, in prefill and decode; of other decoders only what is certainly right."""

from __future__ import annotations

import json
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from picolab.errors import BadCheckpoint, BadInput, MissingExtra
from picolab.trace.engines.engine import Engine
from picolab.trace.engines.here import Here
from picolab.trace.engines.transformers import Transformers
from picolab.weights.checkpoint import save_model
from picolab.weights.gguf.write import write_gguf
from picolab.zoo import ARCHITECTURES

from reader_files import bpe, spm, tiny
from zoo_twins import TWINS, adversarial, some_tokens

KNOWN = [name for name, (kind, _) in TWINS.items() if ARCHITECTURES[kind].model.hugging_face]

HIDDEN = {"gpt_oss": {"mlp.gate", "mlp.up", "mlp.act"}}
"""What lies inside a fused function there: the only expert of a gpt-oss."""


def place_of(site: str) -> str:
    return site.split(".", 2)[2]


@pytest.fixture
def opened(tmp_path):
    def opened(model, tokenizer=None) -> Transformers:
        save_model(model, tokenizer, tmp_path / "model")
        return Transformers.open(tmp_path / "model")

    return opened


@pytest.mark.parametrize("name", KNOWN)
def test_every_site_and_every_logit_is_picolabs(name, opened, compare, pieces):
    apart = compare(Here(adversarial(name)), opened(adversarial(name)), pieces)
    assert apart.logits < 1e-5
    assert {place_of(site) for site in apart.only_first} == HIDDEN.get(TWINS[name][0], set()) and not apart.only_second
    assert apart.worst < 2e-5, max(apart.sites, key=apart.sites.get)
    assert [site for site in apart.orders[0] if site not in apart.only_first] == apart.orders[1]


def test_another_model_is_found_to_be_another(opened, compare, pieces):
    apart = compare(Here(adversarial("llama")), opened(adversarial("llama", seed=1)), pieces)
    assert apart.logits > 0.1 and min(apart.sites.values()) > 0.1


def test_as_many_tokens_as_heads_do_not_exchange_their_axes(opened, compare):
    tokens = some_tokens(batch=1)[0].tolist()
    for name in ("qwen3", "nanochat", "gpt2"):
        apart = compare(
            Here(adversarial(name)), opened(adversarial(name)), [tokens[:6], tokens[6:8]]
        )  # 6 heads, 2 for keys
        assert apart.worst < 2e-5 and not apart.only_first


def test_watching_changes_nothing_and_leaves_nothing_behind(opened, seen, pieces):
    engine = opened(adversarial("llama"))
    file = sys.modules[type(engine.model).__module__]
    before = {name: value for name, value in vars(file).items() if callable(value)}
    plain = torch.cat([engine.read(piece) for piece in pieces])
    watched, _ = seen(engine, pieces)
    assert (plain - watched).abs().max() < 1e-6 * plain.abs().max()  # eager attention instead of the fused one
    assert {name: value for name, value in vars(file).items() if callable(value)} == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in engine.model.modules())
    assert engine.model.config._attn_implementation != "eager" and "update" not in vars(engine._cache)
    engine.forget()
    assert torch.equal(torch.cat([engine.read(piece) for piece in pieces]), plain)


def test_only_what_is_wanted_is_told(opened, pieces):
    engine, told = opened(adversarial("qwen3")), []
    wanted = {"blocks.1.attention.scores", "blocks.2.mlp.act", "logits"}
    with engine.watching(lambda site, value: told.append(site), lambda site: site in wanted):
        engine.read(pieces[0])
    assert told == ["blocks.1.attention.scores", "blocks.2.mlp.act", "logits"]


def test_what_goes_wrong_in_a_listener_comes_out_and_the_text_begins_anew(opened, pieces):
    engine = opened(adversarial("llama"))
    expected = engine.read(pieces[0])

    def see(site, value):
        raise ArithmeticError("no")

    with engine.watching(see, lambda site: site.endswith("probs")), pytest.raises(ArithmeticError):
        engine.read(pieces[1])
    assert torch.equal(engine.read(pieces[0]), expected)


def test_it_is_an_engine_with_its_version(opened):
    engine = opened(adversarial("gpt2"))
    assert isinstance(engine, Engine)
    assert engine.name == f"transformers {transformers.__version__}"
    assert (engine.vocab_size, engine.context_length) == (43, 24)


@pytest.mark.parametrize("make", [bpe, spm])
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_its_tokenizer_is_the_one_in_the_folder(make, kind, opened):
    tokenizer = make()
    engine = opened(tiny(kind, tokenizer.vocab_size), tokenizer)
    for text in ("the cat sat, 12", " abc  ca", "", "<s></s><|endoftext|>"):
        assert engine.encode(text) == tokenizer.encode(text)
        assert engine.decode([tokenizer.eot, *engine.encode(text)]) == text


def test_a_gguf_file_is_read_by_transformers_own_reader(tmp_path, compare, pieces):
    write_gguf(adversarial("llama plain"), None, tmp_path / "model.gguf")
    apart = compare(Here(adversarial("llama plain")), Transformers.open(tmp_path / "model.gguf"), pieces)
    assert apart.logits < 1e-5 and apart.worst < 2e-5 and not apart.only_first


# Other people's decoders: laws that each value obeys, whatever the architecture.

SIZES = {
    "vocab_size": 43,
    "hidden_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 52,
    "max_position_embeddings": 24,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
NO_SUMS = {"attention.out", "mlp.down"}
OTHERS = {
    "phi3": ({}, set()),  # one matrix for q, k and v, one for gate and up
    "smollm3": ({}, set()),
    "stablelm": (
        {"rope_parameters": {"rope_type": "default", "rope_theta": 99.0, "partial_rotary_factor": 0.34}},
        set(),
    ),
    "gpt_neox": ({"num_key_value_heads": None, "rotary_pct": 0.34}, {"resid_mid", "mlp.gate"}),  # side by side
    "gemma2": ({"head_dim": 10, "query_pre_attn_scalar": 7}, NO_SUMS),  # norms between out and sum
    "granite": ({"residual_multiplier": 0.5}, NO_SUMS),
    "olmo2": ({}, {*NO_SUMS, "attention_norm", "mlp_norm", "resid_mid"}),  # norms after, none before
    "mixtral": ({"num_local_experts": 3}, {"mlp.gate", "mlp.up", "mlp.act"}),
    "opt": ({"ffn_dim": 52, "word_embed_proj_dim": 36}, None),
    "gptj": ({"num_key_value_heads": None, "n_inner": 52, "rotary_dim": 4}, None),
}
"""Architecture -> its own settings, and the places of a gated block that it has not or that are not certain (None: not counted)."""

GATED = {
    *("attention_norm", "attention.q", "attention.k", "attention.v", "attention.q_rope", "attention.k_rope"),
    *("attention.scores", "attention.probs", "attention.mixed", "attention.out", "resid_mid", "mlp_norm"),
    *("mlp.gate", "mlp.up", "mlp.act", "mlp.down", "resid_post"),
}


@pytest.fixture
def foreign(tmp_path):
    def foreign(kind, settings) -> Transformers:
        torch.manual_seed(0)
        given = {name: value for name, value in {**SIZES, **settings}.items() if value is not None}
        model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **given))
        with torch.no_grad():
            for parameter in model.parameters():
                spread = 0.5 if parameter.ndim == 1 else 1.2 * parameter.shape[-1] ** -0.5
                parameter.copy_(float(parameter.ndim == 1) + spread * torch.randn(parameter.shape))
        transformers.utils.logging.disable_progress_bar()
        model.save_pretrained(tmp_path / kind)
        transformers.utils.logging.enable_progress_bar()
        return Transformers.open(tmp_path / kind)

    return foreign


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_told_of_another_decoder_obeys_the_law_of_its_place(kind, foreign, seen):
    settings, without = OTHERS[kind]
    engine, tokens = foreign(kind, settings), some_tokens(batch=1)[0].tolist()
    logits, passes = seen(engine, [tokens[:6], tokens[6:9], tokens[9:10]])
    with torch.no_grad():
        whole = engine.model(torch.tensor([tokens[:10]])).logits[0]
    assert (logits - whole).abs().max() < 2e-5 * whole.abs().max()
    for layer in range(2):
        places = {site.removeprefix(f"blocks.{layer}.") for site in passes[0] if site.startswith(f"blocks.{layer}.")}
        assert without is None or places - {"attention.q_norm", "attention.k_norm"} == GATED - without
        _obeys(passes, layer, capped=kind == "gemma2")


def _obeys(passes, layer, *, capped):
    def whole(place):
        site = place if place == "embed" else f"blocks.{layer}.{place}"
        return torch.cat([shown[site] for shown in passes], 1) if all(site in shown for shown in passes) else None

    def same(a, b):
        assert (a - b).abs().max() < 2e-5 * a.abs().max()

    before = (
        whole("embed") if layer == 0 else torch.cat([shown[f"blocks.{layer - 1}.resid_post"] for shown in passes], 1)
    )
    out, middle, down, after = (whole(place) for place in ("attention.out", "resid_mid", "mlp.down", "resid_post"))
    if out is not None:
        same(after if middle is None else middle, before + out + (down if middle is None else 0))
    if down is not None and middle is not None:
        same(after, middle + down)
    values, keys = whole("attention.v"), _last(whole, "k")
    queries = _last(whole, "q")
    for shown in passes:
        probs, scores = (shown.get(f"blocks.{layer}.attention.{place}") for place in ("probs", "scores"))
        if probs is None:
            continue
        heads, time, past = probs.shape[1:]
        mask = torch.ones(time, past, dtype=torch.bool).tril(past - time)
        same(probs, scores.masked_fill(~mask, -torch.inf).softmax(-1))
        v = values[:, :past].repeat_interleave(heads // values.shape[2], 2)
        same(shown[f"blocks.{layer}.attention.mixed"], torch.einsum("bhtp,bphd->bthd", probs, v).flatten(2))
        if queries is not None and keys is not None and not capped:
            k = keys[:, :past].repeat_interleave(heads // keys.shape[2], 2)
            product = torch.einsum("bthd,bphd->bhtp", queries[:, past - time : past], k)
            same(scores, product * (product * scores).sum() / product.square().sum())  # whatever the scale


def _last(whole, letter):
    """Queries or keys as they enter attention."""
    found = [whole(f"attention.{letter}{step}") for step in ("_rope", "")]
    return next((value for value in found if value is not None), None)


# What cannot be done.


def test_a_decoder_that_cannot_be_read_on_is_refused(foreign):
    with pytest.raises(BadCheckpoint, match="keeps no keys and values for `mamba`"):
        foreign("mamba", {"state_size": 4})


def test_an_architecture_only_picolab_knows_is_refused_with_the_reason(opened):
    with pytest.raises(BadCheckpoint, match="transformers cannot open .*picolab-lstm"):
        opened(adversarial("lstm"))


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(BadCheckpoint, match="does not exist"):
        Transformers.open(tmp_path / "nothing")


@pytest.fixture
def saved(tmp_path):
    save_model(adversarial("llama"), None, tmp_path)
    return tmp_path


def test_a_parameter_without_a_tensor_is_refused_and_not_begun_at_random(saved):
    tensors = load_file(saved / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadCheckpoint, match="no `model.layers.1.mlp.up_proj.weight`"):
        Transformers.open(saved)


def test_a_tensor_there_is_no_place_for_is_named(saved):
    tensors = load_file(saved / "model.safetensors")
    tensors["model.layers.1.extra.weight"] = torch.zeros(3)
    save_file(tensors, saved / "model.safetensors", metadata={"format": "pt"})
    assert Transformers.open(saved).unused == ("model.layers.1.extra.weight",)


def test_torn_weights_are_refused(saved):
    whole = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadCheckpoint, match="transformers cannot open"):
        Transformers.open(saved)


def test_code_beside_the_weights_is_not_run(saved):
    config = json.loads((saved / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "own.Own", "AutoConfig": "own.Own"}}
    (saved / "config.json").write_text(json.dumps(config))
    (saved / "own.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(BadCheckpoint, match="transformers cannot open"):
        Transformers.open(saved)


@pytest.mark.parametrize(
    ("tokens", "says"),
    [([], "no token"), ([43], "outside the model's vocabulary of 43"), ([-1], "outside"), ([1] * 25, "25 positions")],
)
def test_tokens_that_cannot_be_read_are_refused(tokens, says, saved):
    with pytest.raises(BadInput, match=says):
        Transformers.open(saved).read(tokens)


def test_a_text_without_a_tokenizer_is_refused(saved):
    with pytest.raises(BadInput, match="finds no tokenizer"):
        Transformers.open(saved).encode("the cat")


def test_nothing_is_printed(saved, capfd, seen, pieces):
    seen(Transformers.open(saved), pieces)
    assert capfd.readouterr() == ("", "")


def test_without_the_package_the_extra_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra) as error:
        Transformers.open(saved)
    assert error.value.hint == "pip install 'picolab[reference]'"
