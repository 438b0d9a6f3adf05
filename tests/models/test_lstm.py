"""The LSTM: its state, its documents, its cache."""

from __future__ import annotations

import math

import pytest
import torch

from picolab.errors import BadInput, BadSetting
from picolab.models.lstm import LSTM, Config
from picolab.parts.tap import listening


def small(**settings):
    torch.manual_seed(0)
    sizes = {"vocab_size": 17, "context_length": 32, "d_model": 5, "hidden": 7, "n_layers": 2, **settings}
    return LSTM(Config(**sizes)).double().eval()


def some_tokens(batch=2, time=17):
    return torch.randint(0, 17, (batch, time), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("n_layers", [1, 3])
def test_packed_documents_are_read_as_if_each_stood_alone(n_layers):
    model, tokens = small(n_layers=n_layers), some_tokens()
    documents = torch.tensor([[0] * 3 + [1] * 1 + [2] * 13, [0] * 9 + [1] * 4 + [-1] * 4])
    packed = model(tokens, documents=documents)
    for row, start, stop in [(0, 0, 3), (0, 3, 4), (0, 4, 17), (1, 0, 9), (1, 9, 13)]:
        alone = model(tokens[row : row + 1, start:stop])[0]
        torch.testing.assert_close(packed[row, start:stop], alone, rtol=0, atol=1e-12)


def test_gradients_of_packed_documents_are_the_sum_of_each_alone():
    model, tokens = small(), some_tokens(1)
    documents = torch.tensor([[0] * 6 + [1] * 11])
    model.losses(tokens, tokens, documents=documents).sum().backward()
    packed = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for part in tokens.split([6, 11], dim=1):
        model.losses(part, part).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, packed[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chunks", [[1] * 17, [5, 1, 11], [16, 1]])
def test_cached_and_uncached_agree(chunks):
    model, tokens = small(), some_tokens()
    cache = model.new_cache(2, 17)
    read = torch.cat([model(part, cache=cache) for part in tokens.split(chunks, dim=1)], dim=1)
    torch.testing.assert_close(read, model(tokens), rtol=0, atol=1e-12)
    assert cache.length == 17


def test_it_remembers_the_first_token_and_cannot_see_the_future():
    model, tokens = small(n_layers=1), some_tokens(1)
    changed = tokens.clone()
    changed[0, 0] = (tokens[0, 0] + 1) % 17
    assert not torch.equal(model(changed)[0, 16], model(tokens)[0, 16])
    changed = tokens.clone()
    changed[0, 9] = (tokens[0, 9] + 1) % 17
    assert torch.equal(model(changed)[0, :9], model(tokens)[0, :9])


@pytest.mark.parametrize("settings", [{}, {"hidden": 128}, {"tied": True}, {"d_model": 512, "n_layers": 2}])
def test_the_first_loss_is_that_of_a_uniform_guess(settings):
    torch.manual_seed(0)
    model = LSTM(Config(vocab_size=17, **settings))
    tokens = torch.randint(0, 17, (8, 65))
    loss = model.losses(tokens[:, :-1], tokens[:, 1:]).mean().item()
    assert loss == pytest.approx(math.log(17), rel=0.02)


def test_a_state_as_wide_as_the_head_needs_no_projection():
    names = {name for name, _ in small(hidden=5).named_parameters()}
    assert not any(name.startswith("out_proj") for name in names)
    assert "out_proj.weight" in {name for name, _ in small(hidden=7).named_parameters()}


def test_each_layer_has_its_site():
    model, seen = small(), {}
    with listening(model, lambda site, value: seen.__setitem__(site, tuple(value.shape))):
        model(some_tokens())
    assert seen == {
        "embed": (2, 17, 5),
        "blocks.0.state": (2, 17, 7),
        "blocks.1.state": (2, 17, 7),
        "logits": (2, 17, 17),
    }


def test_what_a_listener_hands_back_flows_on():
    model, tokens = small(), some_tokens()
    with listening(model, lambda site, value: value * 0 if site == "blocks.0.state" else None):
        silenced = model(tokens)
    assert not torch.allclose(silenced, model(tokens))


def test_dropout_is_off_when_the_model_is_evaluated():
    model, tokens = small(dropout=0.5), some_tokens()
    assert torch.equal(model(tokens), model(tokens))
    model.train()
    assert not torch.equal(model(tokens), model(tokens))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(BadSetting, match="^n_layers 0 is not positive$"):
        Config(n_layers=0)
    with pytest.raises(BadSetting, match=r"^dropout 1.0 is not between 0 and 1$"):
        Config(dropout=1.0)
    model, tokens = small(), some_tokens()
    with pytest.raises(BadInput, match="^packed documents and a cache cannot be combined$"):
        model(tokens, cache=model.new_cache(2, 17), documents=tokens)
