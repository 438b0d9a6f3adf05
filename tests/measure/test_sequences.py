"""Excess over the exact distribution: nothing for a model that is exactly right, and what it should be for others."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from picolab.data.loader import Loader
from picolab.data.numeric import WALK, World, rules, sample, terms
from picolab.data.numeric_floor import agreed, following, position_floors
from picolab.data.store import TokenStore
from picolab.errors import BadInput
from picolab.measure.loss import evaluate
from picolab.measure.sequences import score_sequences
from picolab.text.integers import integer_tokenizer, range_tokenizer
from picolab.zoo import create

WORLD = World(numbers=30, shortest=4, longest=8, difference=4, ratio=3, width=2)
WORDS = range_tokenizer(0, 29)
DOCUMENTS = [example.numbers for example in sample(WORLD, 120, seed=2)]


class Known(torch.nn.Module):
    """A model that answers from the exact law, spoiled by `change`, a function of the probabilities of numbers and end."""

    def __init__(self, change=lambda p: p, tokenizer=WORDS):
        super().__init__()
        self.change, self.tokenizer = change, tokenizer
        self.config = type("Config", (), {"context_length": 64})()
        self.device = torch.device("cpu")

    def forward(self, tokens):
        logits = torch.full((*tokens.shape, self.tokenizer.vocab_size), -torch.inf)
        numbers = [int(self.tokenizer.encode(str(x))[0]) for x in range(30)]
        back = {token: x for x, token in enumerate(numbers)}
        for i, row in enumerate(tokens.tolist()):
            length = next((t for t, token in enumerate(row[1:], 1) if token == self.tokenizer.eot), len(row))
            prefix = [back[token] for token in row[1:length]]
            for t, exact in enumerate(next(following([prefix], WORLD))):
                p = self.change(torch.tensor(exact))
                logits[i, t, [*numbers, self.tokenizer.eot]] = p.log().float()
            logits[i, length:] = 0
        return logits


def test_a_model_that_knows_the_law_has_no_excess_and_every_determined_number_right():
    scores = score_sequences(Known(), WORDS, DOCUMENTS, WORLD)
    assert [score.family for score in scores] == list(WORLD.families)
    assert sum(score.documents for score in scores) == 120
    assert sum(score.positions for score in scores) == sum(len(d) + 1 for d in DOCUMENTS)
    for score in scores:
        assert score.excess < 1e-6 and score.ending < 1e-6 and score.accuracy in (1.0, None)
    # Of rules without chance most numbers are determined once three have been read; of walks few.
    shares = {score.family: score.determined / score.positions for score in scores}
    assert min(share for family, share in shares.items() if family != WALK) > 3 * shares[WALK]


def test_a_number_is_determined_where_the_rules_that_fit_agree_not_where_others_are_rarer():
    # `7 14` is geometric or alternating, 27 such rules against 870; `7 14 28` only the first.
    world = World(numbers=30, shortest=3, longest=8, difference=2, ratio=2, families=("geometric", "alternating"))
    (after_two,) = following([(7, 14)], world)
    assert after_two[-1][28] / after_two[-1][:-1].sum() > 0.97
    rows = [(7, 14, 28), (7, 14, 7, 14), (1, 2, 4, 8)]
    brute = [
        [len({terms(r, world, 8)[t : t + 1] for r in every(world) if terms(r, world, t) == row[:t]} - {()}) <= 1
         for t in range(len(row) + 1)]
        for row in rows
    ]  # fmt: skip
    assert [found.tolist() for found in agreed(rows, world)] == brute
    assert brute[0] == [False, False, False, True] and brute[1] == [False, False, False, True, True]
    # Only walks fit: nothing disagrees.
    assert next(agreed([(3, 4, 3, 5)], WORLD)).tolist() == [False, False, False, True, True]


def test_what_only_the_rarity_of_other_rules_decides_is_not_held_against_a_model():
    world, words = World(shortest=3, families=("geometric", "alternating")), range_tokenizer(0, 127)
    model = create("softmax-pico", vocab_size=words.vocab_size, context_length=16, d_model=8, n_layers=1)

    def determined(*document):
        (score,) = score_sequences(model, words, [document], world)
        return score.determined

    assert next(following([(21, 42)], world))[-1][84] > 0.99
    assert determined(21, 42, 84) == 0 and determined(11, 22, 44, 88) == 1 and determined(1, 2, 4, 8, 16, 32, 64) == 4


def every(world):
    return [rule for family in world.families for rule in rules(world, family)]


def test_the_floor_is_the_mean_over_documents_of_the_surprise_that_the_exact_law_has():
    documents = [example.numbers for example in sample(WORLD, 4000, seed=5)]
    uniform = Known(lambda p: torch.full_like(p, 1 / len(p)))
    scores = score_sequences(uniform, WORDS, documents[:100], WORLD)
    count = sum(score.positions for score in scores)
    assert sum(score.loss * score.positions for score in scores) / count == pytest.approx(math.log(31), abs=1e-6)
    entropy = np.concatenate([-(p * np.log(np.where(p, p, 1))).sum(1) for p in following(documents, WORLD)])
    surprise = np.concatenate(position_floors([" ".join(map(str, d)) for d in documents], WORLD))
    assert surprise.mean() == pytest.approx(entropy.mean(), abs=0.02)
    first = np.concatenate([-(p * np.log(np.where(p, p, 1))).sum(1) for p in following(documents[:100], WORLD)])
    assert sum(score.floor * score.positions for score in scores) / count == pytest.approx(first.mean(), abs=1e-9)


def test_expected_excess_is_what_a_model_loses_above_the_floor_on_many_documents():
    model = create("lstm", vocab_size=WORDS.vocab_size, context_length=64, seed=3)
    documents = [example.numbers for example in sample(WORLD, 2000, seed=7)]
    scores = score_sequences(model, WORDS, documents, WORLD)
    excess = sum(score.excess * score.positions for score in scores) / sum(score.positions for score in scores)
    texts = [" ".join(map(str, numbers)) for numbers in documents]
    store = TokenStore.of(WORDS.encode_batch(texts), eot=WORDS.eot)
    evaluation = evaluate(model, Loader(store, batch_size=16, context_length=64, seed=0).epoch())
    floor = sum(float(nats.sum()) for nats in position_floors(texts, WORLD))
    assert evaluation.tokens == store.n_tokens
    assert excess == pytest.approx(evaluation.nats_per_token - floor / evaluation.tokens, abs=0.03)


def test_excess_is_split_into_when_a_text_ends_and_which_number_comes():
    def late(p):
        """Half as sure of the end; which number comes stays right."""
        end = p[-1] / 2
        return torch.cat(
            [p[:-1] / p[:-1].sum() * (1 - end) if p[:-1].sum() else (1 - end) * torch.ones(30).double() / 30, end[None]]
        )

    for score in score_sequences(Known(late), WORDS, DOCUMENTS, WORLD):
        assert score.ending == pytest.approx(score.excess, abs=1e-6) and score.ending > 0.01
        assert score.accuracy in (1.0, None)

    def evenly(p):
        """The end is right; of numbers it knows nothing."""
        return torch.cat([(p[:-1].sum() / 30).expand(30), p[-1:]])

    for score in score_sequences(Known(evenly), WORDS, DOCUMENTS, WORLD):
        assert score.ending < 1e-6 and score.excess > 0.3
        assert score.accuracy is None or score.accuracy < 0.2


def test_beyond_a_length_only_which_number_comes_is_asked():
    world = World(
        numbers=30, shortest=14, longest=14, difference=2, width=2, families=("counting", "alternating", WALK)
    )
    documents = [example.numbers for example in sample(world, 60, seed=0)]

    class Ends(Known):
        """Sure that every text is over; and among numbers, right about the alternating ones."""

        def forward(self, tokens):
            logits = torch.full((*tokens.shape, WORDS.vocab_size), -50.0)
            logits[:, 2:].scatter_(2, tokens[:, 1:-1, None], 0.0)
            logits[..., WORDS.eot] = 40.0
            return logits

    scores = {s.family: s for s in score_sequences(Ends(), WORDS, documents, world, beyond=8)}
    assert {s.profile[0].position for s in scores.values()} == {8}
    assert {s.profile[-1].position for s in scores.values()} == {13}
    assert scores["alternating"].excess < 0.5 and scores["alternating"].accuracy == 1.0  # some may be walks
    assert scores["counting"].excess > 10 and scores["counting"].accuracy == 0.0
    assert all(s.ending == 0 for s in scores.values())
    assert scores[WALK].floor > 0.5


def test_a_profile_adds_up_to_the_family():
    uniform = Known(lambda p: torch.full_like(p, 1 / len(p)))
    for score in score_sequences(uniform, WORDS, DOCUMENTS, WORLD):
        assert sum(point.count for point in score.profile) == score.positions
        for name in ("floor", "excess"):
            mean = sum(getattr(point, name) * point.count for point in score.profile) / score.positions
            assert mean == pytest.approx(getattr(score, name), rel=1e-9)
        assert [point.position for point in score.profile] == list(range(len(score.profile)))


def test_numbers_that_a_small_corpus_never_shows_are_left_out():
    few = integer_tokenizer(" ".join(map(str, d)) for d in DOCUMENTS if 29 not in d)
    documents = [d for d in DOCUMENTS if 29 not in d]

    class All(Known):
        def forward(self, tokens):
            return torch.zeros(*tokens.shape, few.vocab_size)

    scores = score_sequences(All(tokenizer=few), few, DOCUMENTS, WORLD)
    assert sum(score.documents for score in scores) == len(documents) < 120
    assert all(math.isfinite(score.excess) for score in scores)


def test_sequences_longer_than_the_context_are_refused():
    model = create("softmax-pico", vocab_size=WORDS.vocab_size, context_length=8, n_layers=1, d_model=8, n_heads=1)
    with pytest.raises(BadInput, match="sequences of 9 tokens are longer than the model's context of 8"):
        score_sequences(model, WORDS, [tuple(range(8))], WORLD)
