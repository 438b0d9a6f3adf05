"""What is put into a model is found where it was put and called by its name; what changes nothing is called nothing."""

import copy

import pytest
import torch

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.causes.catalogue import CATALOGUE
from picolab.diagnose.diff import diff
from picolab.diagnose.walk import Schedule, local, walk
from picolab.trace.recording import Entry, Recording

from zoo_twins import adversarial, some_tokens

TWIN_NAMES = ("llama", "gpt2", "nanochat", "qwen3", "qwen2 plain", "gpt_oss", "mistral")
SCHEDULE = Schedule(tuple(some_tokens(1, 17)[0].tolist()), 13)
FEW = {
    "embed",
    "blocks.0.attention.q_rope",
    "blocks.0.attention.q",
    "blocks.0.resid_post",
    "blocks.1.resid_post",
    "logits",
}


def recorded(values, only=None):
    """A recording as another engine would hand it over."""
    recording = Recording(engine="theirs", tokens=torch.tensor([SCHEDULE.tokens]))
    for key, value in values.items():
        if only is None or key.site in only:
            at = tuple(range(13)) if key.phase == "prefill" else (13 + key.step,)
            recording.entries.append(Entry(key.site, key.phase, key.step, at, None, value))
    return recording


def injected():
    """Every cause on the first twins that it can happen to, each of its examples once."""
    cases = []
    anatomies = {name: Anatomy(adversarial(name)) for name in TWIN_NAMES}
    for number, cause in enumerate(CATALOGUE):
        able = [name for name in TWIN_NAMES if cause.examples(anatomies[name])]
        if able:
            name = able[number % len(able)]
            examples = cause.examples(anatomies[name])
            cases += [pytest.param(name, cause.name, i, id=f"{cause.name} {i} {name}") for i in range(len(examples))][
                :2
            ]
    return cases


@pytest.mark.parametrize(("twin", "cause", "number"), injected())
def test_a_mistake_is_found_where_it_was_made_and_called_by_its_name(twin, cause, number):
    model = adversarial(twin)
    anatomy = Anatomy(model)
    bend = next(c for c in CATALOGUE if c.name == cause).examples(anatomy)[number]
    values = walk(anatomy, SCHEDULE, faults=[bend])
    verdict = diff(model, recorded(values))
    if verdict.verdict in ("equal", "noise"):  # a mistake that softmax or a norm undoes is none
        healthy = walk(anatomy, SCHEDULE)
        assert all(torch.allclose(values[k], healthy[k], atol=1e-4) for k in values if k.site == "logits")
        return
    first = verdict.born[0]
    assert (first.cause, local(first.site) in bend.kinds) == (bend.cause, True), verdict.says
    assert verdict.remaining <= verdict.noise_floor


@pytest.mark.parametrize("twin", ["llama", "gpt2", "qwen2 scaled by yarn", "gpt_oss"])
def test_healthy_engines_raise_no_alarm(twin):
    model = adversarial(twin)
    tokens = list(SCHEDULE.tokens)
    assert diff(model, copy.deepcopy(model), tokens=tokens).verdict == "equal"
    for other in (copy.deepcopy(model).double(), copy.deepcopy(model).bfloat16()):
        assert diff(model, other, tokens=tokens).verdict == "noise"


def test_heads_in_another_order_with_their_columns_are_the_same_function():
    model, other = adversarial("gpt2"), adversarial("gpt2")
    width = 6
    order = torch.cat([torch.arange(h * width, (h + 1) * width) for h in (3, 0, 5, 1, 4, 2)])
    with torch.no_grad():
        attention = other.blocks[1].attention
        for part in range(3):
            rows = part * 36 + order
            attention.qkv_proj.weight[part * 36 : part * 36 + 36] = model.blocks[1].attention.qkv_proj.weight[rows]
            attention.qkv_proj.bias[part * 36 : part * 36 + 36] = model.blocks[1].attention.qkv_proj.bias[rows]
        attention.out_proj.weight.copy_(model.blocks[1].attention.out_proj.weight[:, order])
    assert diff(model, other, tokens=list(SCHEDULE.tokens)).verdict == "noise"


def test_a_constant_on_all_logits_of_a_token_is_nothing():
    model = adversarial("llama")
    values = walk(Anatomy(model), SCHEDULE)
    moved = {key: value + 3.0 if key.site == "logits" else value for key, value in values.items()}
    assert diff(model, recorded(moved)).verdict in ("equal", "noise")


def examples_of(model, *names):
    anatomy = Anatomy(model)
    return [next(c for c in CATALOGUE if c.name == name).examples(anatomy)[0] for name in names]


@pytest.mark.parametrize(
    "pair",
    [
        ("rope-pairing", "scale-wrong"),
        ("rope-theta", "norm-eps"),
        ("norm-kind", "rope-missing"),
        ("scale-wrong", "norm-offset"),
    ],
)
def test_of_two_mistakes_both_are_named(pair):
    model = adversarial("llama")
    values = walk(Anatomy(model), SCHEDULE, faults=examples_of(model, *pair))
    verdict = diff(model, recorded(values))
    assert {born.cause for born in verdict.born} == set(pair)
    assert verdict.remaining <= verdict.noise_floor


@pytest.mark.parametrize("only", [FEW, {"logits"}], ids=["six arrays", "logits alone"])
@pytest.mark.parametrize("cause", ["rope-pairing", "scale-wrong", "norm-eps", "cache-stale"])
def test_a_few_arrays_are_enough(cause, only):
    model = adversarial("qwen3")
    values = walk(Anatomy(model), SCHEDULE, faults=examples_of(model, cause))
    verdict = diff(model, recorded(values, only))
    assert verdict.born[0].cause == cause and verdict.remaining <= verdict.noise_floor


def cubed(site, value):
    return value + 0.1 * value**3 if site.endswith("mlp.act") else value


def one_noisy_head(site, value):
    if not site.endswith("blocks.1.attention.mixed"):
        return value
    noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(3))
    noise[..., 10:] = 0
    return value + noise


@pytest.mark.parametrize("strange", [cubed, one_noisy_head])
def test_what_no_cause_explains_is_unknown(strange):
    class Strange:
        cause = "strange"

        def applies(self, site, at):
            return True

        def bend(self, site, value, at):
            return strange(site, value)

    model = adversarial("llama")
    verdict = diff(model, recorded(walk(Anatomy(model), SCHEDULE, faults=[Strange()])))
    assert verdict.verdict == "diverged" and [born.cause for born in verdict.born] == ["unknown"] * len(verdict.born)


def test_a_model_whose_own_code_is_wrong_is_named_too():
    model, other = adversarial("llama"), adversarial("llama")
    for block in other.blocks:
        block.mlp_norm.eps = 2e-2
    verdict = diff(model, other, tokens=list(SCHEDULE.tokens))
    told = verdict.born[0].explanations[0]
    assert verdict.born[0].site == "blocks.0.mlp_norm" and told.cause == "norm-eps"
    assert told.evidence["eps"] == pytest.approx(2e-2, rel=1e-3)
