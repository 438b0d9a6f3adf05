"""The loss of a model over many batches."""

from __future__ import annotations

import math

import pytest
import torch

from picolab.data.batch import IGNORE, Batch
from picolab.errors import BadData
from picolab.measure.loss import Evaluation, evaluate
from picolab.zoo import create


def batch(rows: int, time: int, *, padding: int = 0, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    tokens, targets = (torch.randint(0, 31, (rows, time), generator=generator) for _ in range(2))
    documents = torch.zeros(rows, time, dtype=torch.int64)
    if padding:
        targets[:, -padding:], documents[:, -padding:] = IGNORE, -1
    return Batch(tokens, targets, documents)


@pytest.mark.parametrize("preset", ["kgram-embed", "lstm", "softmax-pico"])
def test_it_is_the_mean_over_tokens_not_over_batches(preset: str) -> None:
    model = create(preset, vocab_size=31)
    batches = [batch(5, 7), batch(1, 5, padding=3, seed=1)]
    total = 0.0
    for one in batches:
        logits = model(one.tokens, documents=one.documents)
        total += float(
            torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), one.targets.flatten(), ignore_index=IGNORE, reduction="sum"
            ).detach()
        )
    result = evaluate(model, batches)
    assert result.tokens == 5 * 7 + 2
    assert result.nats_per_token == pytest.approx(total / (5 * 7 + 2), abs=1e-5)
    assert result.bits_per_byte is None


def test_bits_per_byte_are_the_same_nats_over_the_bytes_of_the_text() -> None:
    model = create("lstm", vocab_size=31)
    result = evaluate(model, [batch(5, 7)], n_bytes=70)
    assert result.bits_per_byte == pytest.approx(result.total_nats / math.log(2) / 70)


def test_the_model_leaves_in_the_mode_it_came_in_and_is_scored_without_dropout() -> None:
    model = create("softmax-pico", vocab_size=31, dropout=0.5)
    model.train()
    first, second = (evaluate(model, [batch(3, 11)]) for _ in range(2))
    assert model.training
    assert first == second
    assert evaluate(model.eval(), [batch(3, 11)]) == first
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_counts_is_scored_the_same_way() -> None:
    model = create("ngram", vocab_size=31, order=2)
    assert evaluate(model, [batch(5, 7)]).nats_per_token == pytest.approx(math.log(31))
    model.estimate([batch(5, 7)])
    assert evaluate(model, [batch(5, 7)]).nats_per_token < math.log(31)


def test_nothing_to_score_is_said() -> None:
    model = create("lstm", vocab_size=31)
    with pytest.raises(BadData, match=r"^there is no token to score$"):
        evaluate(model, [])
    with pytest.raises(BadData, match=r"^0 bytes of text cannot be scored$"):
        evaluate(model, [batch(5, 7)], n_bytes=0)


def test_perplexity_of_a_uniform_guess_is_the_vocabulary() -> None:
    assert Evaluation(
        nats_per_token=math.log(31), bits_per_byte=None, tokens=1, total_nats=1.0
    ).perplexity == pytest.approx(31)
