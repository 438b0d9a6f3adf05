"""Our gpt-oss in transformers' class: a model of one expert, exactly; what that class holds besides is refused by name."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from picolab.errors import BadCheckpoint
from picolab.weights.checkpoint import load_model, save_model
from picolab.zoo import build

from zoo_twins import TWINS, adversarial, some_tokens


@pytest.fixture
def saved(tmp_path):
    """A folder as transformers writes one, nothing of ours in it."""
    save_model(adversarial("gpt_oss"), None, tmp_path / "folder")
    _configure(tmp_path / "folder", picolab=None)
    return tmp_path / "folder"


def _configure(folder, **changes):
    """Set keys of the config; None takes one away."""
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    left = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(left))


def _theirs(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


@pytest.mark.parametrize("settings", [{}, {"window": 0}, {"sinks": False}, {"tied": True, "window": 3}])
@torch.no_grad()
def test_transformers_computes_the_same_in_one_pass_and_token_by_token(settings, tmp_path):
    torch.manual_seed(0)
    model, tokens = build("gpt_oss", {**TWINS["gpt_oss"][1], **settings}).eval(), some_tokens(batch=3)
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter) * parameter.shape[-1] ** -0.5 + (parameter.ndim == 1))
    save_model(model, None, tmp_path)
    theirs = _theirs(tmp_path)
    assert type(theirs).__name__ == "GptOssForCausalLM"
    expected, past, steps = theirs(tokens).logits, None, []
    for token in tokens.split(1, dim=1):
        step = theirs(token, past_key_values=past, use_cache=True)
        past, steps = step.past_key_values, [*steps, step.logits]
    for found in (expected, torch.cat(steps, dim=1)):
        assert (model(tokens) - found).abs().max() < 1e-5 * found.abs().max()


@torch.no_grad()
def test_a_window_through_which_no_layer_looks_is_none(saved):
    _configure(saved, layer_types=["full_attention"] * 3)
    model, tokens = load_model(saved), some_tokens()
    assert model.config.window == 0
    expected = _theirs(saved)(tokens).logits
    assert (model(tokens) - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.no_grad()
def test_a_sink_that_takes_nothing_is_no_sink(tmp_path):
    model, tokens = adversarial("gpt_oss without sinks"), some_tokens()
    save_model(model, None, tmp_path)
    _configure(tmp_path, picolab=None)  # read as transformers' model, which always has sinks
    again = load_model(tmp_path)
    assert again.config.sinks
    torch.testing.assert_close(again(tokens), model(tokens))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_local_experts": 4}, "`num_local_experts` to 4, and only 1 is computed here"),
        ({"num_local_experts": None}, "`num_local_experts` to 128"),  # what transformers takes for it
        ({"num_experts_per_tok": 2}, "`num_experts_per_tok` to 2"),
        ({"swiglu_limit": 7.0}, "`swiglu_limit` to 7.0"),
        ({"swiglu_limit": None}, "`swiglu_limit` to 7.0"),
        ({"swiglu_alpha": None}, "`swiglu_alpha` to 1.702"),
        ({"attention_bias": None}, "`attention_bias` to True"),
        ({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "`layer_types` to"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "`layer_types` to"),
        ({"rope_parameters": None, "rope_theta": None}, "`rope_scaling`, which is not computed for gpt_oss"),
    ],
)
def test_what_the_published_model_computes_besides_is_refused_by_name(changes, says, saved):
    load_model(saved)
    _configure(saved, **changes)
    with pytest.raises(BadCheckpoint, match=says):
        load_model(saved)


def test_a_model_of_experts_is_refused_by_what_is_not_computed(tmp_path):
    config = transformers.GptOssConfig(
        num_hidden_layers=2, num_local_experts=4, num_experts_per_tok=2, vocab_size=40, hidden_size=16,
        intermediate_size=20, head_dim=8, num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    transformers.GptOssForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(BadCheckpoint, match="`num_local_experts` to 4, and only 1 is computed here"):
        load_model(tmp_path)


def _experts(tensors):
    name = "model.layers.1.mlp.experts.gate_up_proj"
    tensors[name] = tensors[name].repeat(2, 1, 1)


def _without_down(tensors):
    del tensors["model.layers.1.mlp.experts.down_proj"]


def _biased(name, value):
    return lambda tensors: tensors[f"model.layers.1.mlp.experts.{name}_bias"][0, 3:4].fill_(value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_experts, r"`model.layers.1.mlp.experts.gate_up_proj` of shape \(2, 36, 104\) holds experts"),
        (_without_down, "`model.layers.1.mlp.experts.gate_up_proj` .* holds experts"),
        (_biased("gate_up_proj", 0.25), "`model.layers.1.mlp.experts.gate_up_proj_bias` is not what"),
        (_biased("down_proj", 0.25), "`model.layers.1.mlp.experts.down_proj_bias` is not what"),
    ],
)
def test_weights_of_a_feed_forward_that_is_not_computed_are_refused(change, says, saved):
    tensors = load_file(saved / "model.safetensors")
    change(tensors)
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(BadCheckpoint, match=says):
        load_model(saved)


def test_sinks_of_a_model_built_without_them_must_be_none(tmp_path):
    save_model(adversarial("gpt_oss without sinks"), None, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.2.self_attn.sinks"][1] = 0.5
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(BadCheckpoint, match="`model.layers.2.self_attn.sinks` holds numbers"):
        load_model(tmp_path)


@torch.no_grad()
def test_what_the_router_says_to_one_expert_changes_nothing(saved):
    before = load_model(saved)(some_tokens())
    tensors = load_file(saved / "model.safetensors")
    for name, tensor in tensors.items():
        if ".router." in name:
            tensor.normal_()
    save_file(tensors, saved / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(load_model(saved)(some_tokens()), before)
    theirs = _theirs(saved)(some_tokens()).logits
    assert (theirs - before).abs().max() < 1e-5 * theirs.abs().max()
