"""Two engines compared: no alarm where both are right, both mistakes where there are two, no name where none is known."""

import copy

import pytest
import torch

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.diff import diff
from picolab.diagnose.walk import difference, local, walk
from picolab.errors import BadInput

from faulty_twins import FEW, SCHEDULE, TOKENS, anatomy, causes, example, faulty, of_model, recording, twin

# The same function, computed otherwise.


def same(model):
    return model


def in_double(model):
    return model.double()


def in_bfloat16(model):
    return model.bfloat16()


def heads_reordered(model):
    """Query heads of every group in another order, and the output matrix's columns with them."""
    width = model.config.head_dim
    for block in model.blocks:
        lanes = torch.arange(model.config.n_heads * width).reshape(model.config.n_kv_heads, -1, width)
        order = lanes.flip(1).flatten()
        block.attention.q_proj.weight.data = block.attention.q_proj.weight.data[order]
        block.attention.out_proj.weight.data = block.attention.out_proj.weight.data[:, order]
    return model


def positions_shifted(model):
    """Queries and keys stand five positions later, together."""
    right = model.rope.forward
    model.rope.forward = lambda positions: right(positions + 5)
    return model


def norm_folded(model):
    for block in model.blocks:
        attention, weight = block.attention, block.attention_norm.weight
        for matrix in (attention.q_proj, attention.k_proj, attention.v_proj):
            matrix.weight.data *= weight.data
        block.mlp.gate_proj.weight.data *= block.mlp_norm.weight.data
        block.mlp.up_proj.weight.data *= block.mlp_norm.weight.data
        weight.data.fill_(1)
        block.mlp_norm.weight.data.fill_(1)
    return model


def scale_moved(model):
    """Queries twice as long and keys half; values twice and the output matrix half."""
    for block in model.blocks:
        attention = block.attention
        attention.q_proj.weight.data *= 2
        attention.k_proj.weight.data /= 2
        attention.v_proj.weight.data *= 2
        attention.out_proj.weight.data /= 2
    return model


def units_reordered(model):
    for block in model.blocks:
        order = torch.arange(model.config.d_ff).flip(0)
        for matrix in (block.mlp.gate_proj, block.mlp.up_proj):
            matrix.weight.data = matrix.weight.data[order]
        block.mlp.down_proj.weight.data = block.mlp.down_proj.weight.data[:, order]
    return model


HEALTHY = [same, in_double, in_bfloat16, heads_reordered, positions_shifted, norm_folded, scale_moved, units_reordered]


@pytest.mark.parametrize("change", HEALTHY)
@pytest.mark.parametrize("sites", [None, FEW], ids=["all", "few"])
def test_another_way_to_the_same_function_is_no_fault(change, sites):
    target = of_model(change(copy.deepcopy(twin("llama"))), sites)
    if change is in_bfloat16:
        target.dtype = "bfloat16"
    verdict = diff(twin("llama"), target)
    assert verdict.verdict in ("equal", "noise") and verdict.born == ()
    assert verdict.verdict != "equal" or verdict.before == 0


def test_the_types_of_two_models_are_known_to_the_comparison():
    for name in ("gpt2", "nanochat", "qwen3"):
        for dtype in (torch.float64, torch.bfloat16):
            verdict = diff(twin(name), copy.deepcopy(twin(name)).to(dtype), tokens=TOKENS)
            assert verdict.verdict == "noise" and verdict.born == (), (name, dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_numbers_rounded_to_a_coarser_type_are_a_fault_of_that_type_where_float32_is_claimed(dtype):
    verdict = diff(twin("llama"), of_model(copy.deepcopy(twin("llama")).to(dtype)))
    assert verdict.verdict == "diverged" and causes(verdict) == ["dtype-noise"]
    (told,) = verdict.born[0].explanations
    assert told.evidence["computes in"] == str(dtype).removeprefix("torch.")


def test_one_wrong_theta_in_all_blocks_is_told_once_with_all_its_places():
    verdict = diff(twin("llama"), faulty("llama", example("llama", "rope-theta", "10000")))
    (born,) = verdict.born
    said = [(told.cause, told.says) for told in born.explanations]
    assert said[0][0] == "rope-theta" and len(said) == len(set(said))
    turned = {site for site in anatomy("llama").sites if local(site) in ("attention.q_rope", "attention.k_rope")}
    assert {born.site, *born.also} == turned


class Another:
    """Something done to one kind of place that no cause of the catalogue describes."""

    cause = "not in the catalogue"

    def __init__(self, place, change, layer=None, phase=None):
        self.place, self.change, self.layer, self.phase = place, change, layer, phase

    def applies(self, site, at):
        here = self.layer is None or site.startswith(f"blocks.{self.layer}.")
        return here and local(site) == self.place and self.phase in (None, at.phase)

    def bend(self, site, value, at):
        return self.change(value)


def test_a_constant_on_all_logits_of_a_token_changes_nothing():
    shifted = Another("logits", lambda x: x + torch.linspace(-3, 5, x.shape[1])[None, :, None])
    for sites in (None, {"logits"}):
        verdict = diff(twin("llama"), faulty("llama", shifted, sites=sites))
        assert verdict.verdict in ("equal", "noise") and verdict.born == ()


# Two mistakes at once.

PAIRS = [
    ("llama", ("rope-pairing", ""), ("mask-missing", "every query")),
    ("llama", ("rope-theta", ""), ("activation", "error function")),
    ("llama", ("residual-twice", "after attention the sum"), ("norm-eps", "")),
    ("llama", ("head-grouping", "key and value"), ("logit-scale", "0.7 ")),
    ("gpt2", ("position-offset", "1 later"), ("activation", "error function")),
    ("gpt2", ("qkv-split", "k, q, v"), ("norm-kind", "")),
    ("gpt2", ("scale-wrong", "not scaled"), ("residual-missing", "after attention the stream")),
    ("qwen2 plain", ("bias-missing", "attention.q"), ("mask-offset", "1 key too many")),
    ("qwen2 plain", ("rope-on-v", ""), ("gate-up-swapped", "matrix of up")),
    ("nanochat", ("softcap-missing", "not capped"), ("embed-norm-missing", "")),
    ("mistral", ("mask-window", "6 keys"), ("mlp-layout", "every other")),
    ("gpt_oss", ("sink-missing", ""), ("rope-offset", "")),
    ("qwen3", ("cache-layout", "keys and values lie"), ("norm-weight-missing", "")),
    ("llama", ("mask-missing", "every query"), ("scale-wrong", "scaled twice")),
]


@pytest.mark.parametrize(("host", "one", "two"), PAIRS, ids=lambda x: x if isinstance(x, str) else x[0])
def test_of_two_mistakes_both_are_named(host, one, two):
    bends = [example(host, *which) for which in (one, two)]
    verdict = diff(twin(host), faulty(host, *bends))
    assert sorted(causes(verdict)) == sorted(bend.cause for bend in bends)
    assert verdict.remaining <= verdict.noise_floor


# Five arrays of somebody's engine; nothing but logits.

SHOWN = [
    ("qwen2 plain", "rope-pairing", ""),
    ("gpt2", "activation", "error function"),
    ("llama", "mask-missing", "every query"),
    ("gpt2", "qkv-split", "k, q, v"),
    ("nanochat", "softcap-missing", "not capped"),
    ("qwen3", "gate-up-swapped", "matrix of up"),
]


FEWER = [*(pytest.param(*which, FEW, id=f"{which[1]}-five arrays") for which in SHOWN),
         *(pytest.param(*which, {"logits"}, id=f"{which[1]}-logits") for which in SHOWN[:3])]  # fmt: skip


@pytest.mark.parametrize(("host", "name", "says", "sites"), FEWER)
def test_few_arrays_are_enough(host, name, says, sites):
    bend = example(host, name, says)
    verdict = diff(twin(host), faulty(host, bend, sites=sites))
    assert causes(verdict) == [name] and verdict.born[0].explanations[0].certain
    assert verdict.remaining <= verdict.noise_floor
    assert any(local(line) in bend.kinds for line in verdict.born[0].lines)


# What nobody has described.


def noise_on_a_head(x):
    noise = torch.randn((*x.shape[:2], 10), generator=torch.Generator().manual_seed(3))
    return torch.cat((x[..., :10], x[..., 10:20] + 0.3 * noise, x[..., 20:]), dim=-1)


def quantised(x):
    step = x.abs().amax(-1, keepdim=True) / 7
    return (x / step).round() * step


STRANGE = {
    "cubed": Another("mlp.act", lambda x: x**3),
    "noise": Another("attention.mixed", noise_on_a_head, layer=1),
    "shuffled": Another("mlp_norm", lambda x: x.roll(1, dims=1), layer=1, phase="prefill"),
    "quantised": Another("resid_post", quantised),
    "clipped": Another("attention.scores", lambda x: x.clamp(-1, 1)),
    "sorted": Another("mlp.up", lambda x: x.sort(-1).values, layer=0),
    "halved lanes": Another("resid_mid", lambda x: torch.cat((x[..., :9] * 0.5, x[..., 9:]), -1), layer=2),
    "squared": Another("attention.probs", lambda x: x.square()),
}


@pytest.mark.parametrize(("name", "sites"), [*((name, None) for name in STRANGE), ("cubed", FEW)])
def test_a_fault_that_no_cause_describes_is_unknown(name, sites):
    fault = STRANGE[name]
    verdict = diff(twin("llama"), faulty("llama", fault, sites=sites))
    assert verdict.verdict == "diverged" and verdict.born
    assert set(causes(verdict)) == {"unknown"}
    assert not any(told.certain for born in verdict.born for told in born.explanations)
    if sites is None:
        layer = fault.layer or 0
        assert verdict.born[0].site == f"blocks.{layer}.{fault.place}"


def test_a_known_mistake_beside_a_strange_one_is_still_named():
    verdict = diff(twin("llama"), faulty("llama", example("llama", "rope-pairing"), STRANGE["cubed"]))
    assert causes(verdict)[0] == "rope-pairing" and "unknown" in causes(verdict)


# What cannot be compared.


def test_more_tokens_than_the_reference_reads_are_refused():
    with pytest.raises(BadInput, match="context"):
        diff(twin("llama"), twin("llama"), tokens=[1] * 60)


def test_a_model_compared_with_itself_is_equal_bit_for_bit():
    verdict = diff(twin("gpt2"), recording(walk(Anatomy(twin("gpt2")), SCHEDULE)))
    assert verdict.verdict == "equal" and verdict.before == 0 and verdict.first_divergence is None


@pytest.mark.parametrize("sites", [{"blocks.0.resid_post", "blocks.1.resid_post", "logits"}, {"logits"}])
def test_where_several_causes_give_the_same_numbers_all_are_told_and_no_leads(sites):
    verdict = diff(twin("llama"), faulty("llama", example("llama", "weight-unloaded"), sites=sites))
    assert set(verdict.born[0].causes) == {"residual-missing", "weight-unloaded"}
    assert all(told.certain for told in verdict.born[0].explanations)
    assert "`residual-missing` or `weight-unloaded` at" in verdict.says


def test_the_place_itself_tells_a_matrix_of_zeros_from_a_layer_that_is_not_added():
    sites = {"blocks.1.mlp.up", "blocks.1.resid_post", "logits"}
    verdict = diff(twin("llama"), faulty("llama", example("llama", "weight-unloaded"), sites=sites))
    assert verdict.born[0].causes == ("weight-unloaded",) and len(verdict.born[0].explanations) == 1


def test_of_two_mistakes_one_in_all_blocks_is_told_with_all_though_five_arrays_show_one_block():
    theta = example("llama", "rope-theta")
    lost = example("llama", "weight-unloaded")
    verdict = diff(twin("llama"), faulty("llama", theta, lost, sites=FEW))
    first, second = verdict.born
    assert (
        first.causes == ("rope-theta",)
        and len(first.explanations) == 1
        and " in block " not in first.explanations[0].says
    )
    assert "weight-unloaded" in second.causes and verdict.remaining < 1e-4


def test_what_is_equal_differs_by_nothing_and_what_is_not_by_its_worst_position():
    value = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [torch.inf, 1.0]]])
    assert difference(value, value.clone(), "blocks.0.resid_post") == 0.0
    assert difference(value, value.double(), "blocks.0.resid_post") == 0.0
    assert difference(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), "logits") == 0.0
    strange = value.clone()
    strange[0, 2, 0] = torch.nan
    assert difference(strange, strange.clone(), "blocks.0.resid_post") == 0.0
    moved = torch.tensor([[[3.0, 4.0], [3.0, 4.0]]])
    assert difference(moved, moved + torch.tensor([[[0.0], [1.0]]]), "logits") == pytest.approx(2**0.5 / 5)
