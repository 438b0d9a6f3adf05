"""One step: however its rows are cut, the gradient is that of the mean over all its tokens."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from tiny import rows, tiny_settings, tiny_task

from picolab.data.batch import IGNORE, Batch
from picolab.errors import BadData, BadSetting, Diverged
from picolab.train.distributed import Trainee, World
from picolab.train.optimizers import adamw
from picolab.train.precision import choose
from picolab.train.recompute import recompute_blocks
from picolab.train.schedules import Cosine
from picolab.train.step import Stepper, seed_everything
from picolab.zoo import create

CPU = torch.device("cpu")


def stepper(accumulate: int = 1, **changes: Any) -> Stepper:
    settings = tiny_settings(**{"model.dropout": 0.0, **changes})
    task = tiny_task(settings)
    return Stepper(
        model=task.model,
        trainee=Trainee(task.model, task.objective),
        optimizer=adamw(task.model, settings.optimizer),
        schedule=Cosine(lr=settings.optimizer.lr, min_lr=0.0, warmup=0, steps=10),
        clip=settings.optimizer.clip,
        accumulate=accumulate,
        precision=choose("float32", CPU),
        world=World(rank=0, size=1, device=CPU),
        seed=settings.seed,
    )


def gradients(one: Stepper, batch: Batch) -> dict[str, torch.Tensor]:
    one.gradients(0, batch)
    return {name: p.grad.clone() for name, p in one.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("accumulate", [2, 3, 6])
def test_pieces_give_the_gradient_of_the_whole(accumulate: int) -> None:
    batch = rows(3, 6)
    counts = (batch.targets != IGNORE).sum(1)
    assert counts.min() < counts.max(), "rows with equally many tokens would prove nothing"
    whole, pieces = gradients(stepper(), batch), gradients(stepper(accumulate), batch)
    assert whole.keys() == pieces.keys()
    for name in whole:
        torch.testing.assert_close(pieces[name], whole[name], rtol=1e-5, atol=1e-7, msg=name)


def test_blocks_that_are_computed_again_give_the_same_bits() -> None:
    batch, changes = rows(3, 6), {"model.dropout": 0.3}
    kept, again = stepper(2, **changes), stepper(2, **changes)
    recompute_blocks(again.model, named="softmax-pico")
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    again.model.blocks[0].mlp.register_forward_hook(count)
    found, wanted = gradients(again, batch), gradients(kept, batch)
    assert passes == 4, "two pieces, each forward and again for its backward pass"
    assert all(torch.equal(found[name], wanted[name]) for name in wanted) and found.keys() == wanted.keys()
    with torch.no_grad():
        again.model(batch.tokens)
    assert passes == 5
    assert again.model.state_dict().keys() == kept.model.state_dict().keys()


def test_a_model_without_blocks_has_nothing_to_compute_again() -> None:
    with pytest.raises(BadSetting, match=r"^`ngram` has no stack of blocks to recompute$"):
        recompute_blocks(torch.nn.Linear(2, 2), named="ngram")


@pytest.mark.parametrize("preset", ["kgram-embed", "lstm", "linear-pico", "qwen2-pico", "gpt-oss"])
def test_every_family_can_compute_its_blocks_again(preset: str) -> None:
    batch = rows(3, 2)
    small = {} if preset != "gpt-oss" else {"d_model": 32, "n_heads": 4, "n_layers": 2, "d_ff": 64}
    kept, again = (create(preset, vocab_size=17, **small) for _ in range(2))
    recompute_blocks(again, named=preset)
    for model in (kept, again):
        model.losses(batch.tokens, batch.targets, documents=batch.documents).sum().backward()
    for one, other in zip(kept.parameters(), again.parameters(), strict=True):
        assert (one.grad is None and other.grad is None) or torch.equal(one.grad, other.grad)


def test_the_gradient_is_that_of_the_mean_over_scored_tokens() -> None:
    one, batch = stepper(), rows(3, 6)
    found = gradients(one, batch)
    one.model.zero_grad()
    losses = one.model.losses(batch.tokens, batch.targets, documents=batch.documents)
    (losses.sum() / batch.scored).backward()
    for name, parameter in one.model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-7, msg=name)


def test_the_norm_is_the_one_before_clipping_and_the_step_the_one_after() -> None:
    one, batch = stepper(clip=0.01), rows(1, 4)
    found = gradients(one, batch)
    norm = torch.cat([grad.flatten() for grad in found.values()]).norm().item()
    clipped: dict[str, torch.Tensor] = {}
    one.optimizer.register_step_pre_hook(
        lambda *_: clipped.update({n: p.grad.clone() for n, p in one.model.named_parameters() if p.grad is not None})
    )
    one.optimizer.zero_grad()
    taken = one.take(0, batch)
    assert taken.grad_norm == pytest.approx(norm, rel=1e-5) and norm > 0.1
    assert torch.cat([grad.flatten() for grad in clipped.values()]).norm().item() == pytest.approx(0.01, rel=1e-4)


def test_without_a_clip_gradients_stay_as_they_are() -> None:
    one = stepper(clip=0)
    found = gradients(one, rows(1, 4))
    one._clip()
    assert all(torch.equal(found[name], p.grad) for name, p in one.model.named_parameters() if p.grad is not None)


def test_a_step_of_padding_teaches_nothing_and_says_so() -> None:
    batch = rows(1, 2)
    empty = Batch(batch.tokens, torch.full_like(batch.targets, IGNORE), batch.documents)
    with pytest.raises(BadData, match="step 1 has no token to learn from"):
        stepper().take(0, empty)


def test_random_numbers_of_a_step_depend_on_the_step_alone() -> None:
    def draw(step: int, rank: int = 0) -> tuple[float, float, float]:
        seed_everything(3, step, rank, CPU)
        return torch.rand(()).item(), float(np.random.rand()), random.random()

    first = draw(5)
    torch.rand(7)
    assert draw(5) == first
    assert all(a != b for other in (draw(6), draw(5, rank=1)) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("kind", ["parameter", "activation", "loss", "gradient"])
def test_the_first_bad_tensor_is_named_and_nothing_is_changed(kind: str) -> None:
    one, batch = stepper(), rows(2, 4)
    model: Any = one.model
    where = {
        "parameter": "parameter `blocks.1.mlp.up_proj.weight` has 1 NaN of 512 values",
        "activation": "the output of `blocks.0.mlp.up_proj` has",
        "loss": "the loss has 1 infinite of 1 values",
        "gradient": "the gradient of `blocks.0.mlp.down_proj.weight` has",
    }[kind]
    if kind == "parameter":
        with torch.no_grad():
            model.blocks[1].mlp.up_proj.weight[3, 2] = torch.nan
    if kind == "activation":
        model.blocks[0].mlp.up_proj.register_forward_hook(lambda module, inputs, output: output * torch.inf)
    if kind == "loss":
        losses = model.losses
        model.losses = lambda *given, **more: losses(*given, **more) + torch.inf
    if kind == "gradient":
        model.blocks[0].mlp.down_proj.weight.register_hook(lambda grad: grad / 0)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(Diverged, match="step 3 gave a loss of") as caught:
        one.take(2, batch)
    assert where in str(caught.value)
    assert not one.optimizer.state
    for a, b in zip(before, model.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=0, atol=0, equal_nan=True)
