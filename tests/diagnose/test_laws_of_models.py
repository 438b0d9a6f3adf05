"""Laws about a model, its weights and its numbers: each holds of healthy code, and is broken by real broken code."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from picolab.diagnose.doctor import patient_of
from picolab.diagnose.laws.catalogue import LAWS
from picolab.diagnose.laws.law import Patient, examine
from picolab.zoo import create
from somebodys_port import Port, Settings, made

from zoo_twins import fresh

BY_NAME = {law.name: law for law in LAWS}

MINE = (
    "load-ledger", "two-seeds", "config-ledger", "strides", "poison", "wiring", "norms", "score-scale", "symmetry", "dtype-ladder",
    "quantisation", "overfit", "device",
)  # fmt: skip


def as_patient(port, **more):
    """A port as a doctor sees it, without a file."""
    run = lambda module, tokens: module(tokens)  # noqa: E731
    config = port.config
    return Patient(
        name="the port", forward=port, vocab_size=config.vocab_size, context_length=config.block_size, module=port, run=run,
        new_memory=port.new_cache, read=lambda tokens, memory: port(tokens, cache=memory), **more,
    )  # fmt: skip


def ask(name, patient):
    (finding,) = examine(patient, [BY_NAME[name]])
    return finding


def broken(patient, names=MINE):
    return {f.law: f.says for f in examine(patient, [BY_NAME[name] for name in names]) if f.status == "fail"}


@pytest.mark.parametrize("name", ["gpt2", "llama tied", "gpt_oss", "nanochat", "lstm", "counted"])
def test_untrained_twins_are_healthy(name):
    assert broken(Patient.of(fresh(name), trained=False), [law for law in MINE if law != "overfit"]) == {}


@pytest.mark.parametrize("design", ["", "norm after the sum", "side by side"])
def test_somebodys_healthy_port_is_healthy_whatever_its_design(design):
    findings = examine(as_patient(made(design), trained=True), [BY_NAME[name] for name in MINE])
    assert [f for f in findings if f.status == "fail"] == []
    assert {f.law for f in findings if f.status == "skip"} <= {"two-seeds", "device"}


ALSO = {
    "heads merged too early": {"overfit"},
    "norm over time": {"overfit"},
    "no residual": {"overfit"},
    "reads memory as it lies": {"overfit"},
    "norm without eps": {"config-ledger"},
    "a stream too large for float16": {"config-ledger"},
}
"""What else is then true."""


@pytest.mark.parametrize(
    ("mistake", "law", "says"),
    [
        ("theta forgotten", "config-ledger", "`rope_theta` is 700.0 in its settings, and nothing reads it"),
        ("reads memory as it lies", "strides", "tokens give other logits than the same numbers in order"),
        ("one slot too many", "poison", "large numbers in unused slots of the cache move the logits"),
        ("no residual", "wiring", "`layers.0` gives zero: its input is not added"),
        ("residual twice", "wiring", "`layers.0` gives 2 times its input"),
        ("residual after the norm", "wiring", "`layers.0` changes its input by"),
        ("a layer never called", "wiring", "no logit depends on `layers.0.self_attn.gate_proj.weight`"),
        ("embedding detached", "wiring", "no logit depends on `embed_tokens.weight`"),
        ("norm without a root", "norms", "it does not norm"),
        ("norm by n - 1", "norms", "root mean square 0.97"),
        ("norm over time", "norms", "when another token changes"),
        ("norm without eps", "norms", "a vector of zeros into NaN"),
        ("gain from zero", "norms", "they mean 1 \\+ w"),
        ("no scale", "score-scale", "nothing divides them"),
        ("scale of d", "score-scale", "divided by head_dim, or twice"),
        ("scale of d_model", "score-scale", "a standard deviation of 0.5"),
        ("keys tiled", "symmetry", "exchanging .* in `layers.0.self_attn` moves the logits"),
        ("heads merged too early", "symmetry", "exchanging whole groups of heads"),
        ("angles in few digits", "dtype-ladder", "rounded to fewer digits \\(`bfloat16`\\)"),
        ("a stream too large for float16", "dtype-ladder", "in float16 .* logits are not finite"),
    ],
)
def test_each_law_is_broken_by_code_with_its_mistake_and_no_other_of_these_is(mistake, law, says):
    told = broken(as_patient(made(mistake), trained=True))
    assert law in told and re.search(says, told[law]), told
    assert set(told) - {law} <= ALSO.get(mistake, set())


@pytest.mark.parametrize("shape", [(4, 1), (4, 2), (4, 4), (6, 2), (6, 3)])
def test_tiled_keys_are_found_for_every_way_to_share_them_and_need_two_groups(shape):
    heads, groups = shape
    sizes = {"num_attention_heads": heads, "num_key_value_heads": groups}
    assert ask("symmetry", as_patient(made(**sizes))).status == "pass"
    tiled = ask("symmetry", as_patient(made("keys tiled", **sizes)))
    assert (tiled.status == "fail") == (1 < groups < heads)


def test_a_setting_that_is_read_and_changes_nothing_is_named():
    class Reads(Port):
        def __init__(self, config):
            super().__init__(replace(config, rms_norm_eps=1e-6))
            self.config, self.eps = config, config.rms_norm_eps

    torch.manual_seed(0)
    finding = ask("config-ledger", as_patient(Reads(Settings()).eval()))
    assert finding.status == "fail" and "`rms_norm_eps` is read, and built with another value" in finding.says


def test_settings_in_a_dict_and_in_a_plain_object_are_watched_too():
    class Small(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.config, width = config, config["n_embd"]
            self.wte, self.lm_head = nn.Embedding(11, width), nn.Linear(width, 11)

        def forward(self, tokens):
            return self.lm_head(self.wte(tokens))

    module = Small({"n_embd": 8, "final_logit_softcapping": 30.0, "vocab_size": 11, "initializer_range": 0.02})
    sick = Patient(name="small", forward=module, vocab_size=11, module=module, run=lambda m, t: m(t))
    finding = ask("config-ledger", sick)
    assert finding.status == "fail" and "`final_logit_softcapping` is 30.0" in finding.says


# Weights and where they came from.


def test_a_tensor_that_is_in_no_weight_and_a_weight_that_is_in_no_file_are_named(tmp_path):
    port = made()
    save_file({name: p.contiguous() for name, p in port.state_dict().items()}, tmp_path / "model.safetensors")
    assert ask("load-ledger", as_patient(port, checkpoint=tmp_path)).status == "pass"
    with torch.no_grad():
        port.lm_head.weight.normal_(std=0.02)  # the name was not in the file, and nobody said so
    finding = ask("load-ledger", as_patient(port, checkpoint=tmp_path))
    assert finding.status == "fail" and "`lm_head.weight` is no tensor of" in finding.says


def test_transposed_and_joined_tensors_are_the_files_own(tmp_path):
    port = made()
    tensors = {}
    for name, tensor in port.state_dict().items():
        if name.endswith("gate_proj.weight"):
            up = port.state_dict()[name.replace("gate", "up")]
            tensors[name] = tensor.t().contiguous()
            tensors[name.replace("gate", "up")] = up.t().contiguous()
        elif "up_proj" not in name:
            tensors[name] = tensor.bfloat16()
    save_file(tensors, tmp_path / "model.safetensors")
    assert ask("load-ledger", as_patient(port, checkpoint=tmp_path)).status == "pass"
    for layer in port.layers:  # one matrix for two of the file's
        layer.mlp.gate_up = nn.Parameter(torch.cat((layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight)).detach())
        del layer.mlp.gate_proj, layer.mlp.up_proj
    assert ask("load-ledger", as_patient(port, checkpoint=tmp_path)).status == "pass"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: p.layers[1].mlp.up_proj.weight.zero_(), "`layers.1.mlp.up_proj.weight` is 0 all over"),
        (lambda p: p.layers[2].input_layernorm.weight.fill_(1.0), "`layers.2.input_layernorm.weight` is 1 all over"),
        (lambda p: p.layers[1].mlp.load_state_dict(p.layers[0].mlp.state_dict()), "hold the same numbers"),
        (
            lambda p: p.layers[0].self_attn.k_proj.weight.copy_(p.layers[0].self_attn.v_proj.weight),
            "hold the same numbers",
        ),
        (lambda p: p.lm_head.weight[3, 4].fill_(float("nan")), "not finite"),
        (lambda p: setattr(p.lm_head, "weight", p.embed_tokens.weight), "are two, and `lm_head.weight` is"),
        (lambda p: setattr(p.config, "tie_word_embeddings", True), "are tied, and `lm_head.weight` differs"),
    ],
)
def test_weights_that_were_not_loaded_as_they_should_be_are_named(spoil, says):
    port = made()
    assert ask("load-ledger", as_patient(port, trained=True)).status == "pass"
    with torch.no_grad():
        spoil(port)
    finding = ask("load-ledger", as_patient(port, trained=True))
    assert finding.status == "fail" and re.search(says, finding.says), finding.says


def test_one_matrix_left_as_it_was_drawn_stands_out_among_those_that_learned():
    wide = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 96, "num_hidden_layers": 4}
    port = made(**wide)
    assert ask("load-ledger", as_patient(port, trained=True)).status == "pass"
    nn.init.normal_(port.layers[2].mlp.down_proj.weight, std=0.02)
    finding = ask("load-ledger", as_patient(port, trained=True))
    assert (
        finding.status == "fail" and "`layers.2.mlp.down_proj.weight` looks like fresh random numbers" in finding.says
    )
    assert ask("load-ledger", as_patient(made(**wide, trained=False), trained=True)).status == "pass"


def test_what_was_never_loaded_differs_from_seed_to_seed():
    state = made().state_dict()

    def build(seed, without=(), norms=True):
        torch.manual_seed(seed)
        port = Port(Settings())
        port.load_state_dict({n: t for n, t in state.items() if not n.startswith(without or "?")}, strict=False)
        return port

    assert ask("two-seeds", as_patient(made(), build=build)).status == "pass"
    finding = ask("two-seeds", as_patient(made(), build=lambda seed: build(seed, without=("lm_head",))))
    assert finding.status == "fail" and "`lm_head.weight` of 30 weights differ" in finding.says
    nothing = lambda seed: build(seed, without=("l", "e", "n"))  # noqa: E731
    assert ask("two-seeds", as_patient(made(), build=nothing)).status == "skip"
    finding = ask("two-seeds", as_patient(made(), build=nothing, trained=True))
    assert finding.status == "fail" and "nothing was loaded" in finding.says


# Numbers.


def nibbles(matrix, *, swap=False, zero=8, late=False):
    """Somebody's 4 bits: codes of two numbers in a byte, one scale for 32."""
    groups = matrix.unflatten(-1, (-1, 32))
    scale = groups.abs().amax(-1, keepdim=True) / 7
    codes = (groups / scale.clamp(min=1e-8)).round().clamp(-7, 7).to(torch.int64) + 8
    low, high = codes[..., ::2], codes[..., 1::2]
    byte = low | high << 4
    low, high = byte & 15, byte >> 4
    pair = (high, low) if swap else (low, high)
    codes = torch.stack(pair, dim=-1).flatten(-2) - zero
    scale = scale.roll(1, -2) if late else scale
    return (codes * scale).flatten(-2)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"swap": True}, "nibbles in the other order"),
        ({"zero": 7}, "as with another zero point"),
        ({"zero": 0}, "zero point"),
    ],
)
def test_a_packing_that_reads_its_codes_otherwise_than_it_wrote_them_is_told(how, says):
    port = made()
    assert ask("quantisation", as_patient(port, quantise=nibbles)).status == "pass"
    finding = ask("quantisation", as_patient(port, quantise=lambda matrix: nibbles(matrix, **how)))
    assert finding.status == "fail" and says in finding.says


def test_a_loss_whose_labels_are_not_shifted_is_learned_and_not_written_again():
    class Unshifted(Port):
        def loss(self, tokens, targets):
            return nn.functional.cross_entropy(self(tokens).flatten(0, 1), tokens.flatten())

    class Shifted(Port):
        def loss(self, tokens, targets):
            return nn.functional.cross_entropy(self(tokens).flatten(0, 1), targets.flatten())

    torch.manual_seed(0)
    assert ask("overfit", as_patient(Shifted(Settings()))).status == "pass"
    finding = ask("overfit", as_patient(Unshifted(Settings())))
    assert finding.status == "fail" and "it does not write row" in finding.says


def test_a_model_whose_head_gets_no_gradient_cannot_learn_a_batch():
    class Frozen(Port):
        def forward(self, tokens, cache=None):
            return super().forward(tokens, cache).detach() + 0.0 * self.lm_head.weight.sum()

    torch.manual_seed(0)
    finding = ask("overfit", as_patient(Frozen(Settings())))
    assert finding.status == "fail" and "it cannot learn 3 rows" in finding.says


STORIES = Path(os.environ.get("PICOLAB_SHARED", "../shared")) / "data" / "stories260K"


@pytest.mark.skipif(not STORIES.exists(), reason=f"{STORIES} is not there")
@pytest.mark.parametrize("file", ["stories260K.bin", "stories260K.gguf"])
def test_a_real_trained_model_is_healthy_until_one_of_its_matrices_is_drawn_anew(file):
    patient, _ = patient_of(str(STORIES / file))
    assert broken(patient) == {}
    nn.init.normal_(patient.model.blocks[1].mlp.down_proj.weight, std=0.02)
    assert "`blocks.1.mlp.down_proj.weight` looks like fresh" in ask("load-ledger", patient).says


@pytest.mark.parametrize(("preset", "laws"), [("ngram", list(BY_NAME)), ("qwen2-pico", MINE), ("counted-pico", MINE)])
def test_a_preset_is_healthy_before_it_has_learned_anything(preset, laws):
    patient, _ = patient_of(preset)
    assert broken(patient, laws) == {}


def test_a_short_training_with_a_rare_vocabulary_leaves_no_weight_that_is_called_unlearned():
    torch.manual_seed(0)
    model = create("softmax-pico", vocab_size=300, d_model=64, context_length=64, seed=3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(25):  # half of the words never come up, half of the positions neither
        rows = torch.randint(0, 150, (8, 33), generator=torch.Generator().manual_seed(step)).sort(dim=1).values
        optimizer.zero_grad()
        model.losses(rows[:, :-1], rows[:, 1:]).mean().backward()
        optimizer.step()
    patient = Patient.of(model, trained=True)
    assert broken(patient, ["load-ledger", "norms", "wiring"]) == {}
