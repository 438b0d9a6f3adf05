"""Counting parameters: every number once, shares that add up."""

from __future__ import annotations

import torch
from torch import nn

from picolab.measure.parameters import Parameters, Part, count_parameters, part_of
from picolab.zoo import create


def test_total_is_trainable_and_frozen_and_tied_weights_count_once() -> None:
    model = create("softmax-pico", vocab_size=50257)
    counted = count_parameters(model)
    assert counted.total == 6_861_440
    assert (counted.trainable, counted.frozen) == (6_861_440, 0)
    assert sum(part.count for part in counted.by_part.values()) == counted.total


def test_frozen_weights_are_counted_as_frozen_and_stay_in_the_total() -> None:
    model = create("lstm", vocab_size=31)
    before = count_parameters(model)
    frozen = next(iter(model.parameters()))
    frozen.requires_grad_(False)
    after = count_parameters(model)
    assert after.total == before.total == after.trainable + after.frozen
    assert after.frozen == frozen.numel()


def test_buffers_are_no_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    counted = count_parameters(model)
    assert counted.total == 3 * 2 + 2 + 2 + 2
    assert counted.buffers == 2 + 2 + 1  # running mean, running variance, how many batches were seen


def test_shares_add_up_to_exactly_one_hundred_after_rounding() -> None:
    third = Part(count=1, share=1 / 3)
    counted = Parameters(total=3, trainable=3, frozen=0, buffers=0, by_part={"a": third, "b": third, "c": third})
    assert sorted(counted.percentages().values()) == [33.3, 33.3, 33.4]
    for preset in ("kgram-embed", "lstm", "softmax-pico"):
        tenths = [
            round(10 * share) for share in count_parameters(create(preset, vocab_size=977)).percentages().values()
        ]
        assert sum(tenths) == 1000


def test_a_model_that_only_counts_has_no_parameters() -> None:
    counted = count_parameters(create("ngram", vocab_size=31))
    assert (counted.total, counted.percentages()) == (0, {})


def test_layers_of_one_kind_are_one_part() -> None:
    assert part_of("blocks.3.mlp.up_proj.weight") == "blocks.mlp"
    assert part_of("embedding.weight") == "embedding"
    assert part_of("scale") == "scale"
    model = nn.ParameterList([nn.Parameter(torch.zeros(2))])
    assert count_parameters(model).total == 2
