import pytest
import torch

from picolab.parts.norm import LayerNorm, RMSNorm, layer_norm_plainly, rms_norm_plainly


@pytest.mark.parametrize("lanes", [5, 7, 17])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_fast_rms_norm_is_the_plain_one(lanes, weighted):
    norm = RMSNorm(lanes, eps=3e-3, weighted=weighted)
    if weighted:
        torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, lanes, requires_grad=True)
    fast, plain = norm(x), rms_norm_plainly(x, norm.weight, 3e-3)
    torch.testing.assert_close(fast, plain)
    weighting = torch.randn_like(fast)
    for a, b in zip(_gradients(fast, weighting, x), _gradients(plain, weighting, x), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("lanes", [5, 7, 17])
def test_the_fast_layer_norm_is_the_plain_one(lanes):
    norm = LayerNorm(lanes, eps=3e-3)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 3, lanes, requires_grad=True)
    fast, plain = norm(x), layer_norm_plainly(x, norm.weight, norm.bias, 3e-3)
    torch.testing.assert_close(fast, plain)
    weighting = torch.randn_like(fast)
    for a, b in zip(_gradients(fast, weighting, x), _gradients(plain, weighting, x), strict=True):
        torch.testing.assert_close(a, b)


def test_rms_norm_of_bfloat16_is_computed_in_float32():
    x = torch.randn(4, 512).bfloat16()
    wide = rms_norm_plainly(x.float(), None, 1e-6)
    assert (rms_norm_plainly(x, None, 1e-6).float() - wide).abs().max() < 2**-8 * wide.abs().max()


def test_a_normed_vector_has_unit_size():
    x = 100 * torch.randn(3, 64)
    assert rms_norm_plainly(x, None, 0.0).square().mean(-1).allclose(torch.ones(3))
    assert layer_norm_plainly(x, None, None, 0.0).mean(-1).abs().max() < 1e-5


def _gradients(y, weighting, *inputs):
    return torch.autograd.grad((y * weighting).sum(), inputs, retain_graph=True)
