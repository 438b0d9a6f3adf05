import inspect
import warnings

import pytest
import torch

import picolab.parts.cross_entropy as module
from picolab.parts.cross_entropy import IGNORE, token_losses, token_losses_plainly

CASES = [
    (101, 17, None, False, 2**25),
    (1000, 7, 15.0, True, 5000),
    (333, 5, None, True, 333 * 3),
    (4099, 5, 3.0, True, 2**15),
    (7, 5, 2.0, False, 10),
]


@pytest.fixture(params=CASES, ids=str)
def case(request, monkeypatch):
    vocab, lanes, cap, biased, chunk = request.param
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", chunk)
    features = torch.randn(3, 7, lanes, requires_grad=True)
    weight = torch.randn(vocab, lanes, requires_grad=True)
    bias = torch.randn(vocab, requires_grad=True) if biased else None
    targets = torch.randint(0, vocab, (3, 7))
    targets[0, :2] = targets[2, 6] = IGNORE
    return features, weight, targets, bias, cap


def _both(case):
    features, weight, targets, bias, cap = case
    return [f(features, weight, targets, bias=bias, cap=cap) for f in (token_losses, token_losses_plainly)]


@pytest.mark.parametrize("uniform", [True, False])
def test_the_fast_one_is_the_plain_one_in_losses_and_gradients(case, uniform):
    fast, plain = _both(case)
    torch.testing.assert_close(fast, plain)
    weighting = torch.full_like(plain, 0.05) if uniform else torch.rand_like(plain)
    inputs = [case[0], case[1], *([] if case[3] is None else [case[3]])]
    for a, b in zip(
        torch.autograd.grad((fast * weighting).sum(), inputs),
        torch.autograd.grad((plain * weighting).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-5)


def test_a_second_backward_pass_gives_the_same_gradient(case):
    fast, _ = _both(case)
    loss = fast.sum()
    first = torch.autograd.grad(loss, case[:2], retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(loss, case[:2]), strict=True):
        torch.testing.assert_close(a, b)


def test_padding_has_no_loss_and_no_gradient(case):
    fast, _ = _both(case)
    assert fast[0, :2].eq(0).all() and fast[2, 6].eq(0)
    (gradient,) = torch.autograd.grad(fast.sum(), [case[0]])
    assert gradient[0, :2].eq(0).all() and gradient[2, 6].eq(0).all() and gradient[1].abs().sum() > 0


def test_a_row_of_nothing_but_padding_is_zero():
    targets = torch.full((1, 5), IGNORE)
    features = torch.randn(1, 5, 4, requires_grad=True)
    losses = token_losses(features, torch.randn(9, 4), targets)
    losses.sum().backward()
    assert losses.eq(0).all() and features.grad.eq(0).all()


def test_bfloat16_is_as_close_to_the_truth_as_the_plain_one():
    torch.manual_seed(0)
    features, weight = torch.randn(4, 64, 48), torch.randn(3000, 48) * 0.3
    targets = torch.randint(0, 3000, (4, 64))
    truth = token_losses_plainly(features, weight, targets)
    with torch.autocast("cpu", torch.bfloat16):
        fast = (token_losses(features, weight, targets) - truth).abs().mean()
        plain = (token_losses_plainly(features, weight, targets) - truth).abs().mean()
    assert fast < 1.2 * plain


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_certain_prediction_has_a_finite_loss_even_where_every_column_read_underflows(dtype):
    weight = torch.zeros(400, 1, dtype=dtype)
    weight[300] = 1000.0
    losses = token_losses(torch.ones(1, 2, 1, dtype=dtype), weight, torch.tensor([[300, 5]]))
    assert losses.tolist() == [[0.0, 1000.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("columns", [1, 7, 129, 4099])
def test_a_softmax_may_overwrite_its_input(dtype, columns):
    logits = torch.randn(17, columns, dtype=dtype) * 9
    apart = torch.softmax(logits, -1)
    assert torch.equal(torch.softmax(logits, -1, out=logits), apart)


def test_under_the_compiler_it_is_the_same_function():
    features, weight, targets = torch.randn(2, 5, 8, requires_grad=True), torch.randn(11, 8), torch.randint(11, (2, 5))

    bare = inspect.unwrap(token_losses)  # the compiler cannot read the types that tests check

    def mean(features):
        return 2 * bare(3 * features, weight, targets).mean()

    (plain,) = torch.autograd.grad(mean(features), features)
    with warnings.catch_warnings():  # the compiler asks tensors for a gradient that they do not keep, and warns itself
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor", UserWarning)
        compiled = torch.compile(mean, backend="eager")
        loss = compiled(features)
        (gradient,) = torch.autograd.grad(loss, features)
    torch._dynamo.reset()
    assert torch.equal(loss, mean(features)) and torch.equal(gradient, plain)
