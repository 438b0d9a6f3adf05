"""What we save, transformers opens; what it saves, we open; and both compute the same at every position."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from picolab.errors import BadCheckpoint
from picolab.weights.checkpoint import load_model, save_model
from picolab.zoo import ARCHITECTURES

from zoo_twins import TWINS, adversarial, fresh, some_tokens

KNOWN_TO_TRANSFORMERS = [name for name, (kind, _) in TWINS.items() if ARCHITECTURES[kind].model.hugging_face]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoint"


@pytest.mark.parametrize("name", TWINS)
def test_what_is_saved_is_loaded_bit_for_bit(name, folder):
    model = adversarial(name)
    save_model(model, None, folder)
    loaded = load_model(folder)
    assert type(loaded) is type(model) and loaded.config == model.config
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    assert torch.equal(loaded(some_tokens()), model(some_tokens()))


@pytest.mark.parametrize("name", KNOWN_TO_TRANSFORMERS)
@torch.no_grad()
def test_transformers_computes_the_same_at_every_position(name, folder):
    model, tokens = adversarial(name), some_tokens(batch=3)
    save_model(model, None, folder)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    ours, expected = model(tokens), theirs.eval()(tokens).logits
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", KNOWN_TO_TRANSFORMERS)
@torch.no_grad()
def test_a_model_saved_by_transformers_is_opened_here(name, folder):
    source, tokens = adversarial(name), some_tokens(batch=3)
    save_model(source, None, folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    theirs.save_pretrained(folder.with_name("theirs"))
    config = json.loads((folder.with_name("theirs") / "config.json").read_text())
    config.pop("picolab", None)  # nothing of ours left
    (folder.with_name("theirs") / "config.json").write_text(json.dumps(config))
    ours = load_model(folder.with_name("theirs"))
    expected = theirs(tokens).logits
    assert (ours(tokens) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.fixture
def saved(folder):
    save_model(adversarial("llama"), None, folder)
    return folder


def _change(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_a_tensor_that_belongs_to_nothing_is_named(saved):
    _change(saved, lambda tensors: tensors.update({"model.layers.0.extra": torch.zeros(1)}))
    with pytest.raises(BadCheckpoint, match=r"tensor `model\.layers\.0\.extra` belongs to nothing"):
        load_model(saved)


def test_a_missing_tensor_is_named(saved):
    _change(saved, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(BadCheckpoint, match=r"`lm_head\.weight` is missing"):
        load_model(saved)


def test_a_tensor_of_the_wrong_shape_is_named(saved):
    _change(saved, lambda tensors: tensors.update({"model.norm.weight": torch.zeros(3)}))
    with pytest.raises(BadCheckpoint, match=r"`final_norm\.weight` has shape \(3,\), the settings ask for \(36,\)"):
        load_model(saved)


def test_a_bias_the_model_does_not_have_must_be_zero(folder):
    save_model(adversarial("gpt2 without attention bias"), None, folder)
    _change(folder, lambda tensors: tensors["transformer.h.1.attn.c_proj.bias"].fill_(0.5))
    with pytest.raises(BadCheckpoint, match=r"`transformer\.h\.1\.attn\.c_proj\.bias` is not zero"):
        load_model(folder)


def test_a_torn_file_is_refused(saved):
    whole = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadCheckpoint, match=r"byte [\d,]+: tensor `.*` lies at"):
        load_model(saved)


def test_a_pickle_in_the_place_of_weights_is_never_unpickled(saved):
    torch.save({"a": torch.zeros(1)}, saved / "model.safetensors")
    with pytest.raises(BadCheckpoint, match="byte 0: the file is a pickle"):
        load_model(saved)


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
def test_a_config_that_is_no_config_is_refused(saved, content):
    (saved / "config.json").write_text(content)
    with pytest.raises(BadCheckpoint):
        load_model(saved)


@pytest.mark.parametrize(
    ("key", "value"), [("hidden_act", "gelu"), ("rope_scaling", {"type": "linear"}), ("attention_bias", True)]
)
def test_a_setting_that_is_not_computed_is_refused_by_name(saved, key, value):
    config = json.loads((saved / "config.json").read_text())
    del config["picolab"]
    (saved / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(BadCheckpoint, match=f"`{key}`"):
        load_model(saved)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(BadCheckpoint, match=r"has no config\.json"):
        load_model(tmp_path / "nothing")


def test_a_fresh_model_is_not_a_loaded_one(saved):
    assert not torch.equal(load_model(saved)(some_tokens()), fresh("llama")(some_tokens()))
