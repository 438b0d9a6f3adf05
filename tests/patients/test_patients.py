"""Real code broken by hand, not through the catalogue: edited weights, patched functions, transformers with another config."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from picolab.diagnose.diff import diff
from picolab.models import gpt2, llama
from picolab.parts import attention, cache, feedforward
from picolab.trace.elsewhere import record_engine
from picolab.trace.engines.transformers import Transformers
from picolab.weights.checkpoint import save_model

from faulty_twins import FEW, TOKENS, causes, of_model, twin


def adjacent(x, turn):
    """Pairs (0, 1) (2, 3) .. turned, as Meta's own code does."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * turn.cos - odd * turn.sin, odd * turn.cos + even * turn.sin), dim=-1).flatten(-2)


def pairs(monkeypatch, model):
    monkeypatch.setattr(llama, "rotate", adjacent)


def theta(monkeypatch, model):
    right = model.rope.forward
    other = type(model.rope)(model.config.context_length, model.config.head_dim, 10000.0)
    monkeypatch.setattr(model.rope, "forward", other.forward)
    assert not torch.equal(right(torch.arange(3)[None]).cos, other(torch.arange(3)[None]).cos)


def no_mask(monkeypatch, model):
    monkeypatch.setattr(attention, "_triangle", lambda q, k: torch.ones(1, 1, q.shape[1], k.shape[1], dtype=torch.bool))


def one_ahead(monkeypatch, model):
    def triangle(q, k):
        return torch.ones(1, 1, q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1] + 1)

    monkeypatch.setattr(attention, "_triangle", triangle)


def exact_gelu(monkeypatch, model):
    for block in model.blocks:
        block.mlp.activation = F.gelu


def gate_and_up(monkeypatch, model):
    for block in model.blocks:
        block.mlp.gate_proj, block.mlp.up_proj = block.mlp.up_proj, block.mlp.gate_proj


def cut_per_head(monkeypatch, model):
    """q, k and v of one head after another: the reading of GPT-NeoX's matrix, of a matrix that is GPT-2's."""

    def forward(self, x, sight):
        fused = self.qkv_proj(x).unflatten(-1, (self.n_heads, 3, -1))
        q, k, v = (gpt2.tap(self, letter, fused[..., i, :]) for i, letter in enumerate("qkv"))
        return gpt2.tap(self, "out", self.out_proj(gpt2.mix(self, self.layer, q, k, v, sight)))

    monkeypatch.setattr(gpt2.Attention, "forward", forward)


def tied(monkeypatch, model):
    model.head.weight = model.embedding.weight


def uncapped(monkeypatch, model):
    model.head.cap = None


def no_residual(monkeypatch, model):
    def forward(self, x, sight, turn):
        h = llama.tap(self, "attention_norm", self.attention_norm(x))
        x = llama.tap(self, "resid_mid", self.attention(h, sight, turn))
        h = llama.tap(self, "mlp_norm", self.mlp_norm(x))
        return llama.tap(self, "resid_post", x + self.mlp(h))

    monkeypatch.setattr(llama.Block, "forward", forward)


def tiled_groups(monkeypatch, model):
    def tiled(q, k, v, mask, *, scale, module=None, sinks=None):
        group = q.shape[2] // k.shape[2]
        return attention.attend_plainly(
            q, k.repeat(1, 1, group, 1), v.repeat(1, 1, group, 1), mask, scale=scale, module=module
        )

    monkeypatch.setattr(attention, "attend_by_products", tiled)


def bias_lost(monkeypatch, model):
    for block in model.blocks:
        block.attention.q_proj.bias.data.zero_()


def transposed(monkeypatch, model):
    for block in model.blocks:
        block.attention.out_proj.weight.data = block.attention.out_proj.weight.data.T.contiguous()


def zeros_in_the_cache(monkeypatch, model):
    """The first step after the prefill is not stored."""
    right = cache.KeyValueCache.extend

    def extend(self, layer, k, v):
        keys, values = right(self, layer, k, v)
        if self.length > 13:
            keys[:, 13], values[:, 13] = 0, 0
        return keys, values

    monkeypatch.setattr(cache.KeyValueCache, "extend", extend)


def positions_from_one(monkeypatch, model):
    right = model.position_embedding.forward
    monkeypatch.setattr(model.position_embedding, "forward", lambda positions: right(positions + 1))


def scaled_embedding(monkeypatch, model):
    right = model.embedding.forward
    monkeypatch.setattr(model.embedding, "forward", lambda tokens: right(tokens) * model.config.d_model**0.5)


def silu_for_gelu(monkeypatch, model):
    monkeypatch.setattr(feedforward.F, "silu", F.gelu)


def plain_norm_weights(monkeypatch, model):
    for block in model.blocks:
        block.mlp_norm.weight.data += 1


def rows_for_other_code(monkeypatch, model):
    """Rows of q and k in Meta's order, read by code that wants the Hugging Face hub's."""
    for block in model.blocks:
        for matrix, heads in ((block.attention.q_proj, model.config.n_heads), (block.attention.k_proj, 2)):
            rows = matrix.weight.data.unflatten(0, (heads, 2, -1))
            matrix.weight.data = rows.transpose(1, 2).flatten(0, 2).contiguous()


PATIENTS = [
    ("llama", pairs, "rope-pairing"),
    ("llama", theta, "rope-theta"),
    ("llama", no_mask, "mask-missing"),
    ("gpt2", one_ahead, "mask-offset"),
    ("gpt2", exact_gelu, "activation"),
    ("llama", gate_and_up, "gate-up-swapped"),
    ("gpt2", cut_per_head, "qkv-split"),
    ("llama", tied, "tied-head"),
    ("nanochat", uncapped, "softcap-missing"),
    ("llama", no_residual, "residual-missing"),
    ("llama", tiled_groups, "head-grouping"),
    ("qwen2 plain", bias_lost, "bias-missing"),
    ("gpt2", transposed, "weight-transposed"),
    ("llama", zeros_in_the_cache, "cache-unwritten"),
    ("gpt2", positions_from_one, "position-offset"),
    ("llama", scaled_embedding, "embed-scale"),
    ("llama", silu_for_gelu, "activation"),
    ("llama", plain_norm_weights, "norm-offset"),
    ("llama", rows_for_other_code, "weight-permuted"),
]


@pytest.mark.parametrize(("host", "breaks", "cause"), PATIENTS, ids=[breaks.__name__ for _, breaks, _ in PATIENTS])
def test_a_model_broken_by_hand_is_diagnosed(host, breaks, cause, monkeypatch):
    healthy, sick = twin(host), copy.deepcopy(twin(host))
    with monkeypatch.context() as patch:
        breaks(patch, sick)
        target = of_model(sick)
    verdict = diff(healthy, target)
    assert set(causes(verdict)) == {cause}, verdict.says
    assert verdict.remaining <= verdict.noise_floor


@pytest.mark.parametrize(
    ("host", "breaks", "cause"), PATIENTS[:4], ids=[breaks.__name__ for _, breaks, _ in PATIENTS[:4]]
)
def test_five_arrays_are_enough_for_the_usual_ones(host, breaks, cause, monkeypatch):
    sick = copy.deepcopy(twin(host))
    with monkeypatch.context() as patch:
        breaks(patch, sick)
        target = of_model(sick, FEW)
    assert causes(diff(twin(host), target)) == [cause]


# transformers runs the same file with another config, or another file with the same.


def another_theta(config):
    config["rope_parameters" if "rope_parameters" in config else "rope_theta"] = (
        {**config["rope_parameters"], "rope_theta": 10000.0} if "rope_parameters" in config else 10000.0
    )


def another_eps(config):
    config["rms_norm_eps"] = 1e-2


def another_activation(config):
    config["hidden_act"] = "gelu"


def exact_gpt2(config):
    config["activation_function"] = "gelu"


def unscaled_gpt2(config):
    config["scale_attn_weights"] = False


def another_window(config):
    config["sliding_window"] = 7


CONFIGS = [
    ("llama", another_theta, "rope-theta"),
    ("llama", another_eps, "norm-eps"),
    ("llama", another_activation, "activation"),
    ("gpt2", exact_gpt2, "activation"),
    ("gpt2", unscaled_gpt2, "scale-wrong"),
    ("mistral", another_window, "mask-window"),
]


@pytest.mark.parametrize(("host", "edit", "cause"), CONFIGS, ids=[edit.__name__ for _, edit, _ in CONFIGS])
def test_transformers_with_another_config_is_diagnosed(host, edit, cause, tmp_path):
    save_model(twin(host), None, tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    edit(config)
    file.write_text(json.dumps(config))
    verdict = diff(twin(host), record_engine(Transformers.open(tmp_path), TOKENS, prefill=13))
    assert set(causes(verdict)) == {cause}, verdict.says
    assert verdict.remaining <= verdict.noise_floor


def test_a_healthy_transformers_model_raises_no_alarm(tmp_path):
    for host in ("llama", "gpt2", "gpt_oss"):
        save_model(twin(host), None, tmp_path / host)
        verdict = diff(twin(host), record_engine(Transformers.open(tmp_path / host), TOKENS, prefill=13))
        assert verdict.verdict in ("equal", "noise") and verdict.born == (), verdict.says


def test_a_matrix_of_another_block_in_the_file_is_found(tmp_path):
    save_model(twin("qwen3"), None, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    name = "model.layers.{}.mlp.down_proj.weight"
    tensors[name.format(1)] = tensors[name.format(2)].clone()
    save_file(tensors, file, metadata={"format": "pt"})
    verdict = diff(twin("qwen3"), record_engine(Transformers.open(tmp_path), TOKENS, prefill=13))
    assert causes(verdict) == ["weight-swapped"] and verdict.born[0].site == "blocks.1.mlp.down"
