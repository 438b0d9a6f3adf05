"""A failure shrinks to the least that still shows it, and what is written runs by itself and fails for the same reason."""

import copy
import dataclasses

import pytest
import torch

from picolab.diagnose.minimise import minimise
from picolab.diagnose.shrink import Cut, cut_down
from picolab.diagnose.tiny import sharp, some_schedule
from picolab.errors import BadInput
from picolab.zoo import build

SCHEDULE = some_schedule(time=9)


def with_settings(model, **changed):
    """The same weights in a model of other settings."""
    other = build(model.architecture, dataclasses.asdict(model.config) | changed).eval()
    other.load_state_dict(model.state_dict(), strict=False)
    return other


def smallest(reference, target):
    return minimise(reference, target, SCHEDULE.tokens, SCHEDULE.prefill)


def test_a_wrong_theta_remains_in_one_block_one_head_and_the_words_that_are_read():
    minimal = smallest(sharp("llama"), with_settings(sharp("llama"), rope_theta=10_000.0))
    config = minimal.reference.config
    assert minimal.verdict.born[0].cause == "rope-theta"
    assert (config.n_layers, config.n_heads, config.n_kv_heads, config.vocab_size) == (1, 1, 1, 2)
    assert config.head_dim == 10 and len(minimal.text.tokens) == 2 == config.context_length


def test_a_window_needs_more_tokens_than_it_is_long():
    minimal = smallest(sharp("mistral"), with_settings(sharp("mistral"), window=7))
    assert minimal.verdict.born[0].cause == "mask-window"
    assert len(minimal.text.tokens) == 6  # the sixth is the first that a window of 5 keeps from the first


def test_a_fault_of_one_block_keeps_that_block():
    sick = copy.deepcopy(sharp("gpt2"))
    matrix = sick.blocks[1].attention.out_proj.weight
    matrix.data = matrix.data.T.contiguous()
    minimal = smallest(sharp("gpt2"), sick)
    assert minimal.cut.blocks == (1,) and minimal.verdict.born[0].cause == "weight-transposed"


def test_a_fault_of_the_second_step_keeps_a_step():
    sick = copy.deepcopy(sharp("llama"))
    right = sick.rope.forward
    sick.rope.forward = lambda positions: right(positions - 1 if positions.shape[-1] == 1 else positions)
    asked = []

    def target(tokens, prefill):
        asked.append((tokens, prefill))
        return recorded(sick, tokens, prefill)

    minimal = minimise(sharp("llama"), target, SCHEDULE.tokens[:5], 3)
    assert len(asked) == len({*asked}) + 1  # no case is tried twice; the smallest is read once more, to be told
    assert minimal.cut is None and minimal.verdict.born[0].phase == "decode"
    assert len(minimal.text.tokens) - minimal.text.prefill == 1 and minimal.text.prefill <= 2


def recorded(model, tokens, prefill):
    from picolab.trace.elsewhere import record_engine
    from picolab.trace.engines.here import Here

    return record_engine(Here(model), tokens, prefill=prefill)


def test_what_does_not_differ_has_no_smaller_failure():
    with pytest.raises(BadInput, match="do not differ"):
        smallest(sharp("llama"), copy.deepcopy(sharp("llama")))


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2", "qwen3", "gpt_oss", "nanochat"])
def test_what_is_left_of_a_model_computes_what_the_whole_computes_of_its_words(name):
    model = sharp(name)
    whole = Cut.whole(model)
    small = cut_down(model, dataclasses.replace(whole, words=(3, 5, 8, 20), positions=4))
    kept = model(torch.tensor([[5, 20, 3]]))[..., [3, 5, 8, 20]]
    torch.testing.assert_close(small(torch.tensor([[1, 3, 0]])), kept, atol=1e-5, rtol=1e-5)
