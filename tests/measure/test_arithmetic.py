"""FLOPs and bytes counted from a model are those that somebody else counts while it runs."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from picolab.measure.arithmetic import Look, arithmetic_of, cache_bytes, weight_bytes
from picolab.models.contract import LanguageModel
from picolab.parts.tap import listening
from picolab.weights.kept import keep
from picolab.zoo import create

VOCAB = 97
SMALL: dict[str, Any] = {"d_model": 32, "n_heads": 2, "n_layers": 2, "d_ff": 48}
DECODERS = {
    "softmax-pico": SMALL,
    "llama3-lite": {**SMALL, "n_heads": 4, "n_kv_heads": 2, "head_dim": 6},
    "qwen2-pico": {**SMALL, "n_kv_heads": 1},
    "gpt-oss": {**SMALL, "window": 5},
    "nanochat-d4": SMALL,
    "counted-pico": SMALL,
}
KGRAMS = ("kgram-onehot", "kgram-embed", "kgram-conv")


def model_of(preset: str) -> LanguageModel:
    return create(preset, vocab_size=VOCAB, **DECODERS.get(preset, {}))


def counted_while_writing(model: LanguageModel, first: int, last: int) -> int:
    """FLOPs of the tokens `first` .. `last` of a row, read one at a time."""
    tokens = torch.arange(last)[None] % VOCAB
    cache = model.new_cache(1, last)
    with torch.no_grad():
        if first > 1:
            model(tokens[:, : first - 1], cache=cache)
        with _plain_attention(model), FlopCounterMode(display=False) as counter:
            for t in range(first - 1, last):
                model(tokens[:, t : t + 1], cache=cache)
    return int(counter.get_total_flops())


def _plain_attention(model: LanguageModel) -> Any:
    """Attention as two products, which the counter sees: a fused kernel hides them from it. With sinks it is that already, and
    leaves out what lies behind the window, which nobody could look at if somebody listened."""
    if model.architecture == "gpt_oss":
        return nullcontext()
    return listening(model, lambda site, value: None, lambda site: site.endswith(("scores", "probs")))


@pytest.mark.parametrize("preset", DECODERS)
def test_a_decoder_multiplies_what_the_counter_sees(preset: str) -> None:
    model = model_of(preset)
    ours = arithmetic_of(model)
    # The first token's attention is a product of one number with one vector, which the counter does not see.
    assert ours.forward(11, past=1) == counted_while_writing(model, 2, 12)
    assert ours.forward(1, past=11) == counted_while_writing(model, 12, 12)
    assert ours.forward(12, scored=1) == ours.forward(12) - 11 * 2 * 32 * VOCAB


@pytest.mark.parametrize("preset", KGRAMS[:2])
def test_a_table_that_is_looked_up_costs_nothing(preset: str) -> None:
    model = model_of(preset)
    assert arithmetic_of(model).forward(12) == counted_while_writing(model, 1, 12)


def test_a_state_is_written_by_sums_and_read_by_products() -> None:
    model = create("linear-pico", vocab_size=VOCAB, **SMALL)
    ours = arithmetic_of(model)
    assert ours.states == 2 * 2 * 16 * 17
    assert ours.forward(12) - 2 * 12 * ours.states == counted_while_writing(model, 1, 12)


@pytest.mark.parametrize("preset", [*KGRAMS[:2], "softmax-pico", "llama3-lite", "nanochat-d4", "counted-pico"])
def test_training_multiplies_three_times_but_for_what_is_frozen(preset: str) -> None:
    model, time = model_of(preset), 12
    ours = arithmetic_of(model)
    tokens = torch.arange(time)[None] % VOCAB
    with FlopCounterMode(display=False) as counter:
        model.losses(tokens, tokens, documents=torch.zeros_like(tokens)).mean().backward()
    fused = 12 * sum(look.lanes * look.pairs(time) for look in ours.looks)  # the kernel the counter does not see into
    assert ours.training(time) - fused == counter.get_total_flops()


def test_an_lstm_multiplies_what_the_counter_sees() -> None:
    model, tokens = model_of("lstm"), torch.arange(12)[None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own flags
        with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
            model.losses(tokens, tokens).mean().backward()
    # At the first token there is no state before, so its product has no gradient for one.
    assert arithmetic_of(model).training(12) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_a_model_that_counts_multiplies_nothing() -> None:
    ours = arithmetic_of(create("ngram", vocab_size=VOCAB))
    assert not ours.multiplies
    assert ours.forward(7) == 0


def test_a_window_ends_what_is_seen() -> None:
    assert [Look(lanes=4, window=3).seen(past) for past in (1, 3, 4, 9)] == [1, 3, 3, 3]
    assert Look(lanes=4, window=3).pairs(4, past=1) == 2 + 3 + 3 + 3
    assert Look(lanes=4).pairs(4) == 1 + 2 + 3 + 4


def test_weights_are_read_once_and_tables_by_the_row() -> None:
    tied = model_of("softmax-pico")
    table = tied.position_embedding.weight
    assert weight_bytes(tied) == 4 * (sum(p.numel() for p in tied.parameters()) - table.numel())
    untied = model_of("gpt-oss")
    assert weight_bytes(untied) == 4 * (sum(p.numel() for p in untied.parameters()) - untied.embedding.weight.numel())
    assert weight_bytes(keep(model_of("softmax-pico"), "bfloat16")) == weight_bytes(tied) / 2
    small = weight_bytes(keep(model_of("softmax-pico"), "int8"))
    assert weight_bytes(tied) / 4 < small < weight_bytes(tied) / 3


@pytest.mark.parametrize("preset", ["softmax-pico", "llama3-lite", "linear-pico", "lstm", "kgram-conv"])
def test_what_is_remembered_has_the_bytes_of_a_full_cache(preset: str) -> None:
    model = model_of(preset)
    cache = model.new_cache(1, 9)
    model(torch.arange(9)[None], cache=cache)
    held = {"lstm": lambda: [x for layer in cache.layers for x in layer], "kgram-conv": lambda: [cache.tokens]}
    tensors = held.get(preset, lambda: [cache.memory])()
    assert cache_bytes(model, 9) == sum(x.numel() * x.element_size() for x in tensors)


def test_behind_a_window_nothing_is_read() -> None:
    model = model_of("gpt-oss")  # one layer of two looks five tokens back
    one_token = 2 * 32 * 4
    assert cache_bytes(model, 9) == (9 + 5) * one_token
