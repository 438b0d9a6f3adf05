"""Matrices decay, vectors do not, and what the optimizer remembers survives a round trip."""

from __future__ import annotations

import pytest
import torch

from picolab.errors import BadCheckpoint, BadInput
from picolab.runs.settings import OptimizerSettings
from picolab.train.optimizers import adamw, decay_groups, load_optimizer_state, optimizer_state
from picolab.zoo import PRESETS, create

NEURAL = sorted(set(PRESETS) - {"ngram", "gpt2-small", "llama3-lite", "mingpt", "gpt-oss"})


@pytest.mark.parametrize("preset", NEURAL)
def test_every_trainable_parameter_is_in_one_group(preset: str) -> None:
    model = create(preset, vocab_size=37)
    groups = decay_groups(model, 0.1)
    members = [name for group in groups for name in group.members]
    assert sorted(members) == sorted(name for name, p in model.named_parameters() if p.requires_grad)
    for group in groups:
        for name in group.members:
            assert (model.get_parameter(name).dim() >= 2) == (group.weight_decay > 0), name
        assert group.count == sum(model.get_parameter(name).numel() for name in group.members)


def test_what_is_frozen_is_in_no_group() -> None:
    model = create("softmax-pico", vocab_size=37)
    model.position_embedding.weight.requires_grad_(False)
    assert "position_embedding.weight" not in [name for group in decay_groups(model, 0.1) for name in group.members]


def test_decay_pulls_matrices_only() -> None:
    model = create("softmax-pico", vocab_size=37)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = adamw(model, OptimizerSettings(lr=0.5, weight_decay=0.1))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        kept = 1 - 0.5 * 0.1 if parameter.dim() >= 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * kept)


def test_a_model_that_counts_has_nothing_for_an_optimizer() -> None:
    with pytest.raises(BadInput, match="no parameter to train"):
        adamw(create("ngram", vocab_size=5), OptimizerSettings())


def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = create("softmax-pico", vocab_size=11, d_model=8, d_ff=16, context_length=8)
    optimizer = adamw(model, OptimizerSettings())
    for _ in range(2):
        for index, parameter in enumerate(model.parameters()):
            parameter.grad = torch.full_like(parameter, 0.1 * (index + 1))
        optimizer.step()
    return model, optimizer


def test_the_state_goes_round() -> None:
    (model, optimizer), (twin, other) = trained(), trained()
    state = optimizer_state(model, optimizer)
    other.state.clear()
    load_optimizer_state(twin, other, state)
    again = optimizer_state(twin, other)
    assert again.keys() == state.keys() == dict(model.named_parameters()).keys()
    for name in state:
        assert all(torch.equal(state[name][key], again[name][key]) for key in ("step", "exp_avg", "exp_avg_sq"))


def test_the_state_of_another_model_is_refused() -> None:
    model, optimizer = trained()
    state = optimizer_state(model, optimizer)
    wider = create("softmax-pico", vocab_size=11, d_model=16, d_ff=16, context_length=8)
    with pytest.raises(BadCheckpoint, match="has shape"):
        load_optimizer_state(wider, adamw(wider, OptimizerSettings()), state)
    with pytest.raises(BadCheckpoint, match="disagree about `final_norm.bias`"):
        load_optimizer_state(model, optimizer, {k: v for k, v in state.items() if k != "final_norm.bias"})
