import pytest
import torch
from torch import nn

from picolab.errors import BadInput, BadSetting
from picolab.parts.attention import (
    attend,
    attend_by_products,
    attend_plainly,
    attend_visibly,
    look,
    positions_within,
    width_of_heads,
)
from picolab.parts.cache import KeyValueCache
from picolab.parts.tap import listening


def _qkv(batch, time, past, heads, kv_heads, head_dim, dtype=torch.float64):
    shapes = ((batch, time, heads, head_dim), (batch, past, kv_heads, head_dim), (batch, past, kv_heads, head_dim))
    return tuple(torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes)


def _causal(time, past):
    return (torch.arange(past) <= torch.arange(time)[:, None] + past - time)[None, None]


@pytest.mark.parametrize("fast", [attend, attend_by_products])
@pytest.mark.parametrize(
    ("time", "past", "heads", "kv_heads", "head_dim"),
    [(7, 7, 6, 2, 10), (5, 17, 4, 4, 6), (17, 17, 3, 1, 5), (1, 7, 4, 2, 6)],
)
def test_the_fast_ones_are_the_plain_one(fast, time, past, heads, kv_heads, head_dim):
    qkv = _qkv(2, time, past, heads, kv_heads, head_dim)
    mask = None if time == past else _causal(time, past)
    plain, quick = attend_plainly(*qkv, mask, scale=0.3), fast(*qkv, mask, scale=0.3)
    torch.testing.assert_close(quick, plain)
    weighting = torch.randn_like(plain)
    for a, b in zip(
        torch.autograd.grad((quick * weighting).sum(), qkv),
        torch.autograd.grad((plain * weighting).sum(), qkv),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("fast", [attend, attend_by_products])
def test_documents_of_a_packed_row_are_masked_alike(fast):
    documents = torch.tensor([[0, 0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 1, -1, -1]])
    mask = look(torch.zeros(2, 7, dtype=torch.long), context_length=9, documents=documents).mask()
    qkv = _qkv(2, 7, 7, 4, 2, 6)
    torch.testing.assert_close(fast(*qkv, mask, scale=0.3), attend_plainly(*qkv, mask, scale=0.3))


def test_grouped_heads_read_neighbouring_key_heads():
    q, k, v = _qkv(1, 5, 5, 6, 2, 4)
    together = attend_plainly(q, k, v, None, scale=1.0)
    alone = attend_plainly(q[:, :, 3:], k[:, :, 1:], v[:, :, 1:], None, scale=1.0)
    torch.testing.assert_close(together[:, :, 3:], alone)


def test_a_window_of_three_sees_itself_and_two_before():
    sight = look(torch.zeros(1, 7, dtype=torch.long), context_length=9)
    mask = sight.mask(window=3)
    assert mask is not None
    assert mask[0, 0, 5].nonzero().flatten().tolist() == [3, 4, 5]
    assert sight.mask(window=7) is None


def test_a_large_sink_takes_all_the_attention_and_a_small_one_none():
    q, k, v = _qkv(1, 5, 5, 2, 2, 4)
    without = attend_plainly(q, k, v, None, scale=1.0)
    sinks = torch.tensor([50.0, -50.0], dtype=torch.float64)
    with_sinks = attend_plainly(q, k, v, None, scale=1.0, sinks=sinks)
    assert with_sinks[:, :, 0].abs().max() < 1e-12
    torch.testing.assert_close(with_sinks[:, :, 1], without[:, :, 1])


def test_positions_restart_at_every_document():
    documents = torch.tensor([[0, 0, 1, 1, 1, -1, -1]])
    assert positions_within(documents).tolist() == [[0, 1, 0, 1, 2, 0, 1]]


def test_a_text_longer_than_the_context_is_refused():
    with pytest.raises(BadInput, match="9 positions are more than the model's context of 8"):
        look(torch.zeros(1, 9, dtype=torch.long), context_length=8)


def test_heads_that_do_not_divide_are_refused_with_one_that_does():
    with pytest.raises(BadSetting, match="d_model 100 is not a multiple of n_heads 12") as error:
        width_of_heads(100, 12)
    assert error.value.hint == "n_heads 10 divides it"


def test_a_full_cache_refuses_more():
    cache = KeyValueCache.of(torch.zeros(1), 1, 1, 4, 2, 6)
    cache.extend(0, torch.zeros(1, 3, 2, 6), torch.zeros(1, 3, 2, 6))
    cache.advance(3)
    with pytest.raises(BadInput, match="holds 4 positions and 5 are needed"):
        cache.extend(0, torch.zeros(1, 2, 2, 6), torch.zeros(1, 2, 2, 6))


@pytest.mark.parametrize("rows", [None, 1, 3, 40])
@pytest.mark.parametrize("with_sinks", [False, True])
@pytest.mark.parametrize(("time", "past", "window"), [(7, 7, None), (5, 17, None), (17, 17, 4), (1, 7, None)])
def test_what_is_seen_of_attention_is_what_was_computed(time, past, window, with_sinks, rows):
    q, k, v = _qkv(2, time, past, 6, 2, 10)
    mask = None if time == past else _causal(time, past)
    if window is not None:
        mask = _causal(time, past).triu(1 - window)
    sinks = torch.randn(6, dtype=torch.float64) if with_sinks else None
    module, seen = nn.Module(), {"scores": [], "probs": []}
    with listening(module, lambda site, value: seen[site].append(value)):
        shown = attend_visibly(q, k, v, mask, scale=0.3, module=module, sinks=sinks, rows=rows)
    plain = attend_plainly(q, k, v, mask, scale=0.3, sinks=sinks)
    torch.testing.assert_close(shown, plain)
    for a, b in zip(
        torch.autograd.grad(shown.square().sum(), (q, k, v)),
        torch.autograd.grad(plain.square().sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    assert len(seen["probs"]) == len(seen["scores"]) == -(-time // min(rows or time, time))
    repeated = k.repeat_interleave(3, dim=2)
    start = 0
    for scores, probs in zip(seen["scores"], seen["probs"], strict=True):
        stop, keys = start + scores.shape[2], past - time + start + scores.shape[2]
        expected = 0.3 * torch.einsum("bthd,bphd->bhtp", q[:, start:stop], repeated[:, :keys])
        torch.testing.assert_close(scores, expected)
        hidden = ~(_causal(time, past) if mask is None else mask)[:, :, start:stop, :keys]
        total = expected.masked_fill(hidden, -torch.inf).exp().sum(-1)
        if sinks is not None:
            total = total + sinks.exp()[None, :, None]
        torch.testing.assert_close(probs, expected.masked_fill(hidden, -torch.inf).exp() / total[..., None])
        start = stop
    assert start == time


def test_a_listener_may_replace_what_it_sees_of_attention():
    q, k, v = _qkv(1, 5, 5, 4, 2, 6)
    module, newest = nn.Module(), torch.eye(5, dtype=torch.float64).expand(1, 4, 5, 5)
    with listening(module, lambda site, value: newest if site == "probs" else None):
        mixed = attend_visibly(q, k, v, None, scale=0.3, module=module)
    torch.testing.assert_close(mixed, v.repeat_interleave(2, dim=2))


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize(("time", "past", "window"), [(17, 17, None), (5, 17, None), (17, 17, 4)])
def test_blocks_in_one_memory_are_those_that_a_gradient_flows_through(time, past, window, replaced):
    q, k, v = _qkv(2, time, past, 6, 2, 10)
    mask = None if time == past and window is None else _causal(time, past).triu(past - time + 1 - (window or past))
    seen = ([], [])
    for grad, into in zip((True, False), seen, strict=True):

        def see(site, value, into=into):
            into.append(value.detach().clone())
            return value * 0.5 if replaced else None

        module = nn.Module()
        with torch.set_grad_enabled(grad), listening(module, see):
            into.append(attend_visibly(q, k, v, mask, scale=0.3, module=module, rows=3).detach())
    assert len(seen[0]) == len(seen[1]) == 1 + 2 * -(-time // 3)
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b)
