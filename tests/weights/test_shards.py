"""Tensors in several files, and in pickles: each from where the index places it, and no code is ever run."""

import json
import os

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from picolab.errors import BadCheckpoint
from picolab.weights.checkpoint import load_model, save_model

from reader_files import split_in_two
from zoo_twins import adversarial, some_tokens


@pytest.fixture
def folder(tmp_path):
    save_model(adversarial("qwen3"), None, tmp_path)
    return tmp_path


def _is_the_twin(model):
    return torch.equal(model(some_tokens()), adversarial("qwen3")(some_tokens()))


def test_a_model_in_two_files_is_the_model(folder):
    split_in_two(folder)
    assert _is_the_twin(load_model(folder))


def test_a_model_that_transformers_cut_in_pieces_is_opened(folder):
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    theirs.save_pretrained(folder / "theirs", max_shard_size="20KB")
    assert (folder / "theirs" / "model.safetensors.index.json").exists()
    assert _is_the_twin(load_model(folder / "theirs"))


def test_a_pickle_of_tensors_is_opened(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    os.remove(folder / "model.safetensors")
    assert _is_the_twin(load_model(folder))


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["EVIL"],)


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(folder, monkeypatch):
    monkeypatch.setenv("EVIL", str(folder / "evil"))
    torch.save({"model.norm.weight": Evil()}, folder / "pytorch_model.bin")
    os.remove(folder / "model.safetensors")
    with pytest.raises(BadCheckpoint, match=r"pytorch_model\.bin` cannot be read"):
        load_model(folder)
    assert not (folder / "evil").exists()


def test_a_pickle_of_more_than_tensors_is_refused(folder):
    torch.save({"model": load_file(folder / "model.safetensors")}, folder / "pytorch_model.bin")
    os.remove(folder / "model.safetensors")
    with pytest.raises(BadCheckpoint, match="holds more than tensors"):
        load_model(folder)


def _index(folder, change):
    split_in_two(folder)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda where: where.pop("model.norm.weight"), "holds `model.norm.weight`, which .* does not place there"),
        (lambda where: where.update({"extra": "model-00001-of-00002.safetensors"}), "does not hold `extra`"),
        (lambda where: where.update({"extra": "model-00003.safetensors"}), r"there is no .*model-00003\.safetensors"),
        (lambda where: where.update({"extra": "../secret.safetensors"}), r"names `\.\./secret\.safetensors`, outside"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(folder, change, says):
    _index(folder, change)
    with pytest.raises(BadCheckpoint, match=says):
        load_model(folder)


def test_a_tensor_in_two_files_is_refused(folder):
    split_in_two(folder)
    one, two = sorted(folder.glob("model-*.safetensors"))
    name, tensor = next(iter(load_file(one).items()))
    save_file({**load_file(two), name: tensor}, two)
    with pytest.raises(BadCheckpoint, match="which `model.safetensors.index.json` does not place there"):
        load_model(folder)


def test_old_names_without_the_models_prefix_and_old_buffers_are_read(tmp_path):
    model = adversarial("gpt2")
    save_model(model, None, tmp_path)
    tensors = {
        name.removeprefix("transformer."): tensor for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 24, 24).tril()
    save_file(tensors, tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    del config["picolab"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert torch.equal(load_model(tmp_path)(some_tokens()), model(some_tokens()))
