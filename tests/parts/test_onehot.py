"""The gather against the one-hot product it stands for."""

from __future__ import annotations

import pytest
import torch

from picolab.parts.onehot import onehot_product, onehot_product_plainly
from picolab.parts.recent import EMPTY


@pytest.mark.parametrize(("k", "vocab", "hidden"), [(1, 17, 5), (2, 7, 64), (5, 31, 7)])
def test_the_gather_is_the_product_in_values_and_gradients(k, vocab, hidden):
    torch.manual_seed(0)
    context = torch.randint(EMPTY, vocab, (3, 17, k))
    upstream = torch.randn(3, 17, hidden)
    results = []
    for product in (onehot_product, onehot_product_plainly):
        weight = torch.randn(k, vocab, hidden, generator=torch.Generator().manual_seed(1)).requires_grad_()
        out = product(context, weight)
        out.backward(upstream)
        results.append((out, weight.grad))
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-6, atol=1e-6)


def test_the_gradients_agree_to_machine_precision_in_float64():
    torch.manual_seed(0)
    context = torch.randint(EMPTY, 11, (2, 17, 3))
    weight = torch.randn(3, 11, 5, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 17, 5, dtype=torch.float64)
    (fast,) = torch.autograd.grad(onehot_product(context, weight), weight, upstream)
    (plain,) = torch.autograd.grad(onehot_product_plainly(context, weight), weight, upstream)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-13)


def test_an_empty_slot_adds_nothing_and_learns_nothing_not_even_for_token_0():
    weight = torch.randn(2, 7, 5).requires_grad_()
    out = onehot_product(torch.full((1, 3, 2), EMPTY), weight)
    assert not out.any()
    out.sum().backward()
    assert not weight.grad.any()


def test_each_slot_has_rows_of_its_own():
    weight = torch.randn(2, 7, 5)
    here, there = (onehot_product(torch.tensor([[pair]]), weight) for pair in ([3, 4], [4, 3]))
    torch.testing.assert_close(here[0, 0], weight[0, 3] + weight[1, 4])
    assert not torch.allclose(here, there)
