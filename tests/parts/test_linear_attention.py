"""Linear attention in three forms: one function, whatever the length, the gates, and the texts in a row."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from picolab.errors import BadInput
from picolab.parts.linear_attention import (
    attend_in_chunks,
    attend_in_square,
    attend_step,
    feature_map,
    implied_weights,
    mix_linearly,
)
from picolab.parts.linear_state import LinearState
from picolab.parts.tap import listening

BATCH, HEADS, HEAD_DIM = 2, 3, 5
TIMES = [1, 5, 7, 17, 64, 130]


def inputs(time, kept, seed=0, dtype=torch.float32):
    """Mapped queries and keys, values, and what is kept: nothing forgotten, gates, texts that begin, or both."""
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(BATCH, time, HEADS, HEAD_DIM, generator=generator, dtype=dtype) for _ in "qkv")
    gates = -5 * torch.rand(BATCH, time, HEADS, generator=generator, dtype=dtype) ** 3
    opens = torch.rand(BATCH, time, 1, generator=generator) < 0.2
    opens[:, 0] = True
    log_kept = {
        "all": None,
        "gates": gates,
        "texts": torch.zeros(BATCH, time, 1, dtype=dtype).masked_fill(opens, -torch.inf),
        "gated texts": gates.masked_fill(opens, -torch.inf),
    }[kept]
    return 2 * q, 2 * k, v, log_kept


def in_square(q, k, v, log_kept):
    return attend_in_square(feature_map(q), feature_map(k), v, log_kept)


def in_chunks(chunk):
    return lambda q, k, v, log_kept: attend_in_chunks(feature_map(q), feature_map(k), v, log_kept, chunk=chunk)[0]


def in_steps(q, k, v, log_kept):
    state = q.new_zeros(BATCH, HEADS, HEAD_DIM, HEAD_DIM + 1)
    return attend_step(feature_map(q), feature_map(k), v, log_kept, state)[0]


FORMS = {"chunks of 3": in_chunks(3), "chunks of 16": in_chunks(16), "chunks": in_chunks(64), "steps": in_steps}


def from_the_definition(q, k, v, log_kept):
    """Katharopoulos et al. 2020, equation 8, a number at a time; a weight fades by every gate between."""
    mixed = torch.zeros_like(v)

    def mapped(x):
        return x + 1 if x > 0 else math.exp(x)

    for b, t, h in itertools.product(*(range(n) for n in v.shape[:3])):
        weights = []
        for s in range(t + 1):
            weight = sum(mapped(float(x)) * mapped(float(y)) for x, y in zip(q[b, t, h], k[b, s, h], strict=True))
            if log_kept is not None:
                of_head = log_kept[b, :, h if log_kept.shape[2] > 1 else 0]
                weight *= math.exp(sum(float(x) for x in of_head[s + 1 : t + 1]))
            weights.append(weight)
        for s, weight in enumerate(weights):
            mixed[b, t, h] += v[b, s, h] * weight / sum(weights)
    return mixed


@pytest.mark.parametrize("kept", ["all", "gates", "texts", "gated texts"])
@pytest.mark.parametrize("form", ["square", *FORMS])
def test_every_form_computes_the_definition(form, kept):
    q, k, v, log_kept = inputs(11, kept)
    made = {"square": in_square, **FORMS}[form](q, k, v, log_kept)
    torch.testing.assert_close(made, from_the_definition(q, k, v, log_kept), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("kept", ["all", "gates", "texts", "gated texts"])
@pytest.mark.parametrize("time", TIMES)
def test_the_forms_agree_in_values_and_gradients(time, kept):
    q, k, v, log_kept = inputs(time, kept, seed=time)
    towards = torch.randn(v.shape, generator=torch.Generator().manual_seed(99))

    def with_gradients(form):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        gates = None
        if log_kept is not None and "gate" in kept:
            gates = log_kept.clone().requires_grad_()
            leaves.append(gates)
        mixed = form(*leaves[:3], log_kept if gates is None else gates)
        return [mixed.detach(), *torch.autograd.grad((mixed * towards).sum(), leaves, materialize_grads=True)]

    plain = with_gradients(in_square)
    assert all(x.isfinite().all() for x in plain)
    for name, form in FORMS.items():
        for one, other in zip(with_gradients(form), plain, strict=True):
            # The absolute part is for one token: its weight is 1, and has no slope.
            assert float((one - other).norm()) <= 1e-5 * float(other.norm()) + 1e-6, name
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_gates_that_are_shut_and_gates_that_are_open_side_by_side_lose_no_digits():
    """Gates of e^-60, then open ones: where sums are taken of all and subtracted, as fast code does, the weights of the open ones
    are wrong in the fourth digit, and a quotient of products is 0 / 0."""
    q, k, v, _ = inputs(130, "all")
    gates = torch.full((BATCH, 130, HEADS), -0.01)
    gates[:, 20:40] = -60.0
    exact = attend_in_square(*(x.double() for x in (feature_map(q), feature_map(k), v, gates)))
    for form in (in_square, *FORMS.values()):
        torch.testing.assert_close(form(q, k, v, gates), exact.float(), atol=2e-6, rtol=1e-5)


def test_a_long_text_is_the_same_in_chunks_as_in_float64():
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(1, 3000, 2, 8, generator=generator) for _ in "qkv")
    q, k = feature_map(q), feature_map(k)
    for log_kept in (None, -torch.rand(1, 3000, 2, generator=generator)):
        exact = attend_in_chunks(*(None if x is None else x.double() for x in (q, k, v, log_kept)))[0]
        made = attend_in_chunks(q, k, v, log_kept)[0]
        assert float((made - exact).norm()) < 1e-5 * float(exact.norm())


@pytest.mark.parametrize("kept", ["all", "gates", "gated texts"])
def test_a_text_read_in_pieces_is_the_text_read_at_once(kept):
    q, k, v, log_kept = inputs(33, kept)
    q, k = feature_map(q), feature_map(k)
    whole, last = attend_in_chunks(q, k, v, log_kept, chunk=8)
    state, done = None, []
    for begin, end in itertools.pairwise((0, 5, 6, 22, 33)):
        part = slice(begin, end)
        gates = None if log_kept is None else log_kept[:, part]
        mixed, state = attend_in_chunks(q[:, part], k[:, part], v[:, part], gates, state=state, chunk=8)
        done.append(mixed)
    torch.testing.assert_close(torch.cat(done, 1), whole, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(state, last, atol=1e-5, rtol=1e-5)


def test_implied_weights_are_shares_of_what_is_not_in_the_future_nor_in_another_text():
    q, k, v, log_kept = inputs(9, "gates")
    log_kept = log_kept.clone()
    log_kept[:, 4] = -torch.inf
    weights = implied_weights(feature_map(q), feature_map(k), log_kept)
    assert weights.triu(1).abs().max() == 0 and weights[..., 4:, :4].abs().max() == 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(BATCH, HEADS, 9))
    torch.testing.assert_close(torch.einsum("bhts,bshd->bthd", weights, v), in_square(q, k, v, log_kept))


def test_the_weights_are_seen_whole_or_some_rows_at_a_time_and_what_flows_on_is_what_was_seen():
    q, k, v, log_kept = inputs(10, "gates")
    module = torch.nn.Module()
    whole = implied_weights(feature_map(q), feature_map(k), log_kept)
    for rows, heights in ((None, [10]), (4, [4, 4, 2])):
        seen = []
        with listening(module, lambda site, value, seen=seen: seen.append(value), lambda s: s == "probs", rows=rows):
            mixed, _ = mix_linearly(module, q, k, v, log_kept, None, fresh=True)
        assert [part.shape[2] for part in seen] == heights
        begin = 0
        for part in seen:
            here = whole[:, :, begin : begin + part.shape[2], : part.shape[3]]
            torch.testing.assert_close(part, here, atol=1e-6, rtol=1e-5)
            begin += part.shape[2]
        torch.testing.assert_close(mixed, in_square(q, k, v, log_kept).flatten(2), atol=2e-6, rtol=1e-5)
    with listening(module, lambda site, value: torch.zeros_like(value), lambda s: s == "probs"):
        assert mix_linearly(module, q, k, v, log_kept, None, fresh=True)[0].abs().max() == 0


def test_half_precision_gathers_in_float32():
    q, k, v, _ = inputs(130, "all")
    halves = [x.bfloat16() for x in (q, k, v)]
    exact, _ = mix_linearly(torch.nn.Module(), *(x.float() for x in halves), None, None, fresh=True)
    made, _ = mix_linearly(torch.nn.Module(), *halves, None, None, fresh=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, _ = mix_linearly(torch.nn.Module(), *(x.float() for x in halves), None, None, fresh=True)
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made, exact.bfloat16(), atol=0, rtol=1e-2)
    assert torch.equal(cast, exact)


def test_keys_mapped_to_nothing_leave_zeros_and_no_nan():
    q = k = torch.full((1, 4, 1, 2), -200.0)
    v = torch.ones(1, 4, 1, 2)
    for form in (in_square, in_chunks(3)):
        assert torch.equal(form(q, k, v, None), torch.zeros_like(v))


def test_a_state_keeps_its_size_and_refuses_what_cannot_be():
    state = LinearState(torch.zeros(1), n_layers=2, batch_size=3, n_heads=4, head_dim=5, capacity=9)
    assert state.memory.shape == (2, 3, 4, 5, 6) and state.memory.dtype == torch.float32
    with pytest.raises(BadInput, match=r"\[0, -1, 2\] are not the starts of 3 rows"):
        state.start_at([0, -1, 2])
    with pytest.raises(BadInput, match=r"\[0, 1\] are not the starts of 3 rows"):
        state.start_at([0, 1])
    state.start_at([4, 2, 7])
    assert state.first_start == 2
    state.memory[:, 2] = 7
    state.keep([2, 0])
    assert state.starts.tolist() == [7, 4] and state.first_start == 4
    assert state.memory.shape[1] == 2 and state.memory[:, 0].min() == 7
    state.advance(3)
    with pytest.raises(BadInput, match="3 positions have been read"):
        state.start_at([0, 0])
