"""A transformer that nobody trained is the count model: on every token that has one to look at, in both precisions."""

import numpy as np
import pytest
import torch

from picolab.counts.count import count_corpus
from picolab.counts.exact import apart, as_transformer, smoothed
from picolab.counts.shape import Shape
from picolab.data.prepare import prepare
from picolab.errors import BadData


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    dataset = prepare("stories", tokenizer="characters")
    tables = count_corpus(dataset, [Shape.of(1, s) for s in range(4)], folder=tmp_path_factory.mktemp("counts"))
    return tables, dataset.validation.ids[: 8 * 128].astype(np.int64).reshape(8, 128)


@pytest.mark.parametrize("skip", [0, 1, 2, 3])
def test_the_constructed_transformer_is_the_count_model(skip, stories):
    tables, text = stories
    log_probs = smoothed(tables[f"n1-s{skip}"])
    model = as_transformer(log_probs, skip=skip)
    assert apart(model, log_probs, text, skip=skip) < 1e-10
    assert apart(model.float(), log_probs, text, skip=skip) < 2e-5
    flat = torch.full_like(log_probs, -np.log(len(log_probs)))
    assert apart(model, flat, text, skip=skip) > 1  # which is far from saying nothing


def test_it_is_a_transformer_with_norms_and_a_tied_head_and_says_so_of_random_text(stories):
    tables, _ = stories
    log_probs = smoothed(tables["n1-s0"])
    model = as_transformer(log_probs)
    random = np.random.default_rng(0).integers(0, len(log_probs), (4, 200))
    assert apart(model, log_probs, random) < 1e-10
    assert model.head.weight is model.embedding.weight and (model.final_norm.weight > 0).all()
    model.blocks[0].attention.v_proj.weight[0, 0] += 0.1
    assert apart(model, log_probs, random) > 1e-3


def test_what_is_no_distribution_is_refused():
    with pytest.raises(BadData, match="no next-token distributions"):
        as_transformer(torch.zeros(4, 4).double())
    with pytest.raises(BadData):
        as_transformer(torch.zeros(4, 5).double())
