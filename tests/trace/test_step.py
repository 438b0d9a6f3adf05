"""One step of training, against the same step taken by hand; afterwards the model is what it was."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from picolab.errors import BadInput
from picolab.parts.cross_entropy import IGNORE
from picolab.trace.recording import BACKWARD, LOSS
from picolab.trace.step import component_of, trace_step

from zoo_twins import adversarial, fresh, some_tokens


def _adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=3e-3)


def _shifted(tokens):
    return torch.cat((tokens[:, 1:], torch.full_like(tokens[:, :1], IGNORE)), dim=1)


def _snapshot(model):
    return (
        [
            (name, p, p.detach().clone(), None if p.grad is None else p.grad.clone())
            for name, p in model.named_parameters()
        ],
        [b.clone() for b in model.buffers()],
        [m.training for m in model.modules()],
    )


def _unchanged(model, before):
    parameters, buffers, modes = before
    for (name, p, value, gradient), (now_name, now) in zip(parameters, model.named_parameters(), strict=True):
        assert name == now_name and p is now and torch.equal(p, value)
        assert (now.grad is None) == (gradient is None) and (gradient is None or torch.equal(now.grad, gradient))
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), buffers, strict=True))
    assert [m.training for m in model.modules()] == modes


@pytest.mark.parametrize("twin", ["gpt2", "llama tied", "nanochat", "lstm", "kgram-conv"])
@pytest.mark.parametrize("clip", [1e-3, 0.0, 1e9])
def test_it_is_the_step_a_person_would_take(twin, clip):
    model, tokens = adversarial(twin), some_tokens()
    targets, twin_model = _shifted(tokens), copy.deepcopy(adversarial(twin))
    traced = trace_step(model, tokens, targets, make_optimizer=_adamw, clip=clip, iterations=3)
    optimizer, means = _adamw(twin_model), []
    for step in range(3):
        logits = twin_model(tokens)
        losses = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORE, reduction="none")
        mean = losses[:, :-1].mean()
        mean.backward()
        means.append(mean.item())
        old = {name: p.detach().clone() for name, p in twin_model.named_parameters()}
        norms = {name: p.grad.norm().item() for name, p in twin_model.named_parameters()}
        total = torch.cat([p.grad.flatten() for p in twin_model.parameters()]).norm().item()
        if clip and total > clip:
            for p in twin_model.parameters():
                p.grad *= clip / total
        optimizer.step()
        optimizer.zero_grad()
        if step == 0:
            torch.testing.assert_close(traced.losses, losses.detach(), atol=1e-4, rtol=1e-4)
            assert traced.gradient_norm == pytest.approx(total, rel=1e-3)
            assert traced.clip_factor == pytest.approx(min(1.0, clip / total) if clip else 1.0, rel=1e-3)
            assert [p.name for p in traced.parameters] == list(norms)  # a tied weight once
            for p in traced.parameters:
                new = dict(twin_model.named_parameters())[p.name].detach()
                assert p.count == new.numel() and p.weight_norm == pytest.approx(old[p.name].norm().item(), rel=1e-5)
                assert p.gradient_norm == pytest.approx(norms[p.name], rel=1e-2, abs=1e-5)
                assert p.update_norm == pytest.approx((new - old[p.name]).norm().item(), rel=2e-2, abs=1e-5)
                assert p.ratio == pytest.approx(p.update_norm / p.weight_norm)
    with torch.no_grad():
        means.append(F.cross_entropy(twin_model(tokens)[:, :-1].flatten(0, 1), targets[:, :-1].flatten()).item())
    assert traced.mean_losses == pytest.approx(means, rel=2e-3)
    assert traced.lr == 3e-3


def test_the_recording_has_forward_loss_and_backward_in_this_order():
    model, tokens = adversarial("llama"), some_tokens()
    traced = trace_step(model, tokens, _shifted(tokens), make_optimizer=_adamw)
    sites = [entry.site for entry in traced.recording.entries]
    at = sites.index("loss")
    assert sites[at - 1] == "logits" and sites[at + 1] == "grad/loss"
    assert all(entry.phase == BACKWARD for entry in traced.recording.entries[at + 1 :])
    assert sorted(site.removeprefix("grad/") for site in sites[at + 1 :]) == sorted(sites[: at + 1])
    loss = traced.recording.entry("loss")
    assert (loss.phase, loss.dims, loss.positions) == (LOSS, "batch time", tuple(range(17)))
    assert torch.equal(loss.value, traced.losses)
    assert not loss.value.requires_grad
    only = trace_step(model, tokens, _shifted(tokens), make_optimizer=_adamw, sites=["loss", "logits"])
    assert only.recording.sites == ["logits", "loss", "grad/loss", "grad/logits"]


def test_components_are_their_parameters_together():
    model, tokens = adversarial("llama tied"), some_tokens()
    traced = trace_step(model, tokens, _shifted(tokens), make_optimizer=_adamw)
    names = [c.name for c in traced.components]
    assert names[:5] == [
        "embedding",
        "blocks.0.attention_norm",
        "blocks.0.attention",
        "blocks.0.mlp_norm",
        "blocks.0.mlp",
    ]
    assert names[-1] == "final_norm" and sum(c.count for c in traced.components) == sum(
        p.numel() for p in model.parameters()
    )
    assert math.hypot(*(c.gradient_norm for c in traced.components)) == pytest.approx(traced.gradient_norm)
    mine = [p for p in traced.parameters if p.name.startswith("blocks.1.mlp.")]
    mlp = next(c for c in traced.components if c.name == "blocks.1.mlp")
    assert mlp.update_norm == pytest.approx(math.hypot(*(p.update_norm for p in mine)))
    assert component_of("head.weight") == "head" and component_of("blocks.11.lstm.weight_ih_l0") == "blocks.11.lstm"


@pytest.mark.parametrize("twin", ["gpt2", "llama", "lstm"])
def test_afterwards_the_model_is_bit_for_bit_what_it_was(twin):
    model, tokens = fresh(twin).train(), some_tokens()
    model.blocks[0].eval()
    model(tokens).sum().backward()
    next(model.parameters()).grad = None
    before = _snapshot(model)
    kept = [p.grad for p in model.parameters()]
    trace_step(model, tokens, _shifted(tokens), make_optimizer=_adamw, iterations=2)
    _unchanged(model, before)
    assert all(p.grad is gradient for p, gradient in zip(model.parameters(), kept, strict=True))
    with torch.inference_mode():
        inside = trace_step(model, tokens.clone(), _shifted(tokens), make_optimizer=_adamw)
    assert inside.gradient_norm > 0
    _unchanged(model, before)


def test_after_an_error_too():
    model, tokens = fresh("llama").train(), some_tokens()
    before = _snapshot(model)

    class Breaks(torch.optim.SGD):
        def step(self):
            super().step()
            if self.param_groups[0].setdefault("steps", 0):
                raise ZeroDivisionError
            self.param_groups[0]["steps"] = 1

    with pytest.raises(ZeroDivisionError):
        trace_step(
            model, tokens, _shifted(tokens), make_optimizer=lambda m: Breaks(m.parameters(), lr=1.0), iterations=3
        )
    _unchanged(model, before)


def test_frozen_parameters_have_no_step():
    model, tokens = adversarial("llama"), some_tokens()
    model.embedding.weight.requires_grad_(False)
    traced = trace_step(model, tokens, _shifted(tokens), make_optimizer=_adamw)
    assert "embedding.weight" not in [p.name for p in traced.parameters]
    assert not model.embedding.weight.requires_grad


def test_what_cannot_be_learned_from_is_refused():
    model, tokens = adversarial("llama"), some_tokens()
    with pytest.raises(BadInput, match="no token has one after it"):
        trace_step(model, tokens, torch.full_like(tokens, IGNORE), make_optimizer=_adamw)
    with pytest.raises(BadInput, match="0 iterations are fewer than one"):
        trace_step(model, tokens, tokens, make_optimizer=_adamw, iterations=0)
    with pytest.raises(BadInput, match=r"tokens of shape \(2, 17\) have targets of shape \(2, 16\)"):
        trace_step(model, tokens, tokens[:, 1:], make_optimizer=_adamw)


def test_a_buffer_that_a_pass_changes_is_put_back():
    model, tokens = fresh("llama"), some_tokens()
    model.register_buffer("passes", torch.zeros(1))
    model.register_forward_hook(lambda module, args, out: module.passes.add_(1) and None)
    trace_step(model, tokens, _shifted(tokens), make_optimizer=_adamw)
    assert model.passes.item() == 0
    model(tokens)
    assert model.passes.item() == 1
