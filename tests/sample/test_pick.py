"""The choice of a token: the fast filters against their definitions, and what people rely on."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from picolab.errors import BadSetting, Diverged
from picolab.sample.pick import Sampler, distribution_plainly, invert, nucleus, nucleus_plainly

# Steps of 1/64: scores that differ also differ as probabilities, so that ties are ties everywhere.
scores = st.lists(st.integers(-1280, 1280).map(lambda n: n / 64), min_size=1, max_size=17)
level_scores = st.lists(st.integers(-2, 2).map(float), min_size=1, max_size=17)  # many equal ones
shares = st.floats(0, 1)


def one_row(sampler: Sampler, logits: list[float], history: list[int] | None = None) -> list[float]:
    rows = None if history is None else [history]
    return sampler.distribution(torch.tensor([logits], dtype=torch.float64), rows)[0].tolist()


@given(
    logits=scores | level_scores,
    temperature=st.floats(0.05, 5) | st.just(0.0),
    top_k=st.none() | st.integers(1, 20),
    top_p=st.none() | shares,
    min_p=st.none() | shares,
    penalty=st.floats(0.5, 2),
    data=st.data(),
)
def test_the_fast_distribution_is_the_plain_one(logits, temperature, top_k, top_p, min_p, penalty, data):
    history = data.draw(st.lists(st.integers(0, len(logits) - 1), max_size=5))
    sampler = Sampler(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=penalty)
    plain = distribution_plainly(sampler, logits, history)
    # On a border exactly, the last bit of a sum decides; a hair to either side both must say the same.
    for nudge in (-1e-9, 1e-9):
        moved = [None if x is None else min(max(x + nudge, 0.0), 1.0) for x in (top_p, min_p)]
        near = Sampler(temperature=temperature, top_k=top_k, top_p=moved[0], min_p=moved[1], repetition_penalty=penalty)
        assume(distribution_plainly(near, logits, history) == plain)
    assert one_row(sampler, logits, history) == pytest.approx(plain, abs=1e-12)


@given(counts=st.lists(st.integers(0, 64), min_size=1, max_size=17).filter(any), p=shares)
def test_the_fast_nucleus_is_the_plain_one_on_every_border(counts, p):
    # Halves and quarters add without rounding, so borders are hit exactly.
    total = 2 ** math.ceil(math.log2(sum(counts)))
    counts.append(total - sum(counts))
    probs = [count / total for count in counts]
    for share in (p, *torch.tensor(sorted(probs, reverse=True)).double().cumsum(0).tolist()):
        kept = nucleus(torch.tensor([probs], dtype=torch.float64), share)[0]
        assert {i for i, stays in enumerate(kept.tolist()) if stays} == nucleus_plainly(probs, share)


@given(logits=scores, p=st.floats(0.01, 0.999))
def test_a_nucleus_reaches_its_mass_and_without_its_last_token_would_not(logits, p):
    full = one_row(Sampler(), logits)
    kept = sorted((x for x, y in zip(full, one_row(Sampler(top_p=p), logits), strict=True) if y > 0), reverse=True)
    assert math.fsum(kept) >= p - 1e-12
    assert math.fsum(kept[:-1]) < p + 1e-12


def test_the_token_that_crosses_the_mass_is_kept_and_the_rest_renormalised():
    logits = [math.log(x) for x in (0.5, 0.3, 0.15, 0.05)]
    assert one_row(Sampler(top_p=0.6), logits) == pytest.approx([0.5 / 0.8, 0.3 / 0.8, 0, 0])
    assert one_row(Sampler(top_p=0.5 - 1e-9), logits) == [1, 0, 0, 0]


@given(logits=scores)
def test_a_nucleus_of_everything_is_everything(logits):
    assert one_row(Sampler(top_p=1.0), logits) == one_row(Sampler(), logits)


@pytest.mark.parametrize(
    "sampler", [Sampler(temperature=0), Sampler(top_k=1), Sampler(top_p=0), Sampler(top_p=1e-9), Sampler(min_p=1)]
)
@given(logits=scores)
def test_the_narrowest_setting_is_the_most_likely_token(sampler, logits):
    assume(sorted(logits)[-1] > sorted([-math.inf, *logits])[-2] + 1e-4)
    assert one_row(sampler, logits) == [float(x == max(logits)) for x in logits]


def test_among_equals_the_lower_id_wins():
    level = [0.0] * 7
    assert one_row(Sampler(temperature=0), level) == [1, 0, 0, 0, 0, 0, 0]
    assert one_row(Sampler(top_k=3), level) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0])
    assert one_row(Sampler(top_p=0.3), level) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0])


def test_a_temperature_sharpens_and_the_tiniest_does_not_overflow():
    assert one_row(Sampler(temperature=0.5), [0.0, math.log(3)]) == pytest.approx([0.1, 0.9])
    assert one_row(Sampler(temperature=5e-324), [1.0, 3.0, 2.0]) == [0, 1, 0]


def test_min_p_keeps_what_is_likely_beside_the_best():
    logits = [math.log(x) for x in (0.5, 0.3, 0.15, 0.05)]
    assert one_row(Sampler(min_p=0.25), logits) == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0])


def test_a_repetition_penalty_makes_what_was_read_less_likely_whatever_its_sign():
    penalised = one_row(Sampler(repetition_penalty=2.0), [2.0, -2.0, 1.0], [0, 1, 0])
    assert penalised == pytest.approx(one_row(Sampler(), [1.0, -4.0, 1.0]))


def test_rows_do_not_see_each_other():
    logits = torch.randn(5, 17, generator=torch.Generator().manual_seed(0))
    history = [[1, 2], [], [3], [16, 0, 0], [5]]
    sampler = Sampler(temperature=0.7, top_k=9, top_p=0.8, min_p=0.05, repetition_penalty=1.3)
    together = sampler.distribution(logits, history)
    alone = torch.cat([sampler.distribution(logits[i : i + 1], history[i : i + 1]) for i in range(5)])
    assert torch.equal(together, alone)
    generators = [torch.Generator().manual_seed(i) for i in range(5)]
    picked = sampler.pick(logits, generators, history)
    again = [sampler.pick(logits[i : i + 1], torch.Generator().manual_seed(i), history[i : i + 1]) for i in range(5)]
    assert picked.tolist() == torch.cat(again).tolist()


def test_tokens_come_as_often_as_they_are_probable():
    logits = torch.tensor([[math.log(x) for x in (0.5, 0.3, 0.2)]]).expand(20000, 3)
    counts = Counter(Sampler().pick(logits, torch.Generator().manual_seed(0)).tolist())
    assert [counts[i] / 20000 for i in range(3)] == pytest.approx([0.5, 0.3, 0.2], abs=0.015)


def test_the_ends_of_the_unit_interval_meet_tokens_that_are_possible():
    probs = torch.tensor([[0.0, 0.7, 0.0, 0.3, 0.0]], dtype=torch.float64).expand(4, 5)
    uniform = torch.tensor([0.0, 0.7, 1 - 2**-53, 1.0], dtype=torch.float64)
    assert invert(probs, uniform).tolist() == [1, 3, 3, 3]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_went_bad_are_refused(bad):
    with pytest.raises(Diverged, match="row 1: the model's logits are not finite"):
        Sampler().distribution(torch.tensor([[0.0, 1.0], [bad, 0.0]]))


def test_an_impossible_token_is_fine_as_long_as_one_is_possible():
    assert one_row(Sampler(), [-math.inf, 0.0]) == [0, 1]
    with pytest.raises(Diverged):
        one_row(Sampler(), [-math.inf, -math.inf])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": -1}, "`temperature` is -1, not a number from 0 up"),
        ({"temperature": math.nan}, "`temperature` is nan, not a number from 0 up"),
        ({"top_k": 0}, "`top_k` is 0, not a whole number from 1 up"),
        ({"top_p": 1.5}, "`top_p` is 1.5, not a share from 0 to 1"),
        ({"min_p": -0.1}, "`min_p` is -0.1, not a share from 0 to 1"),
        ({"repetition_penalty": 0}, "`repetition_penalty` is 0, not a number above 0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_with_its_value(setting, message):
    with pytest.raises(BadSetting) as caught:
        Sampler(**setting)
    assert str(caught.value) == message
    assert caught.value.hint


def test_one_generator_too_few_is_refused():
    with pytest.raises(BadSetting, match="1 generators for 2 rows"):
        Sampler().pick(torch.zeros(2, 3), [torch.Generator()])
