"""Attention maps are what the model computed, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from picolab.errors import BadInput
from picolab.measure.attention import attention_of
from picolab.zoo import create

TOKENS = torch.arange(11)[None]


@pytest.mark.parametrize(("preset", "layers", "heads"), [("softmax-pico", 2, 2), ("qwen2-pico", 2, 4)])
def test_every_row_is_a_distribution_over_the_past(preset: str, layers: int, heads: int) -> None:
    model = create(preset, vocab_size=31)
    maps = attention_of(model, TOKENS)
    assert maps is not None
    assert (maps.layers, maps.heads) == (layers, heads)
    assert maps.probs.shape == (layers, heads, 11, 11)
    torch.testing.assert_close(maps.probs.sum(-1), torch.ones(layers, heads, 11))
    assert maps.probs.triu(1).abs().max() == 0


def test_watching_changes_nothing() -> None:
    model = create("softmax-pico", vocab_size=31).eval()
    with torch.no_grad():
        before = model(TOKENS)
        attention_of(model, TOKENS)
        assert torch.equal(model(TOKENS), before)


def test_a_model_without_attention_has_no_maps() -> None:
    for preset in ("lstm", "kgram-embed", "ngram"):
        assert attention_of(create(preset, vocab_size=31), TOKENS) is None


def test_one_text_at_a_time() -> None:
    with pytest.raises(BadInput, match=r"^2 rows of tokens were given$"):
        attention_of(create("softmax-pico", vocab_size=31), TOKENS.repeat(2, 1))
