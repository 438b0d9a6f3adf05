"""The k-gram MLP in its three forms."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from picolab.errors import BadSetting, UnknownName
from picolab.models.kgram import Config, KGram
from picolab.parts.onehot import onehot_product_plainly
from picolab.parts.tap import listening

FORMS = ["onehot", "embed", "conv"]


def small(form, **settings):
    torch.manual_seed(0)
    sizes = {"vocab_size": 17, "context_length": 32, "k": 3, "d_embed": 5, "hidden": 7, "n_hidden": 2, **settings}
    return KGram(Config(form=form, **sizes)).double()


def some_tokens(batch=2, time=11):
    return torch.randint(0, 17, (batch, time), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_it_reads_the_newest_k_tokens_and_no_other(form, k):
    model, tokens = small(form, k=k), some_tokens(1)
    before = model(tokens)[0, 7]
    for place in range(11):
        changed = tokens.clone()
        changed[0, place] = (tokens[0, place] + 1) % 17
        moved = not torch.equal(model(changed)[0, 7], before)
        assert moved == (7 - k < place <= 7), f"token {place} and the prediction after token 7"


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_slot_is_not_token_0(form):
    model = small(form)
    short, long = torch.tensor([[5]]), torch.tensor([[0, 0, 5]])
    assert not torch.allclose(model(short)[0, -1], model(long)[0, -1])


@pytest.mark.parametrize("form", FORMS)
def test_packed_documents_are_read_as_if_each_stood_alone(form):
    model, tokens = small(form), some_tokens(1)
    documents = torch.tensor([[0, 0, 0, 0, 1, 2, 2, 2, 2, -1, -1]])
    packed = model(tokens, documents=documents)
    for start, stop in [(0, 4), (4, 5), (5, 9)]:
        alone = model(tokens[:, start:stop])
        torch.testing.assert_close(packed[:, start:stop], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunks", [[1] * 11, [4, 1, 6], [1, 10]])
def test_cached_and_uncached_agree(form, chunks):
    model, tokens = small(form), some_tokens()
    cache = model.new_cache(2, 11)
    read = torch.cat([model(part, cache=cache) for part in tokens.split(chunks, dim=1)], dim=1)
    torch.testing.assert_close(read, model(tokens), rtol=0, atol=1e-12)


def test_the_onehot_form_is_the_mlp_over_literal_onehots():
    model, tokens = small("onehot"), some_tokens()
    empty = torch.full((2, 2), -1)
    context = torch.cat((empty, tokens), dim=1).unfold(1, 3, 1).flip(-1)
    x = F.silu(onehot_product_plainly(context, model.input.weight) + model.input.bias)
    for block in model.blocks:
        x = F.silu(F.linear(x, block.up_proj.weight, block.up_proj.bias))
    torch.testing.assert_close(model(tokens), x @ model.head.weight.T, rtol=0, atol=1e-12)


def test_the_conv_form_is_pytorchs_causal_convolution():
    model, tokens = small("conv"), some_tokens()
    x = F.pad(model.input.embedding(tokens).transpose(1, 2), (2, 0))
    kernel = model.input.kernel.permute(1, 2, 0).flip(-1)  # PyTorch's last tap meets the newest token
    expected = F.silu(F.conv1d(x, kernel, model.input.bias)).transpose(1, 2)
    seen = {}
    with listening(model, lambda site, value: seen.__setitem__(site, value.detach())):
        model(tokens)
    torch.testing.assert_close(seen["embed"], expected, rtol=0, atol=1e-12)


def test_the_conv_form_is_the_embed_form_with_a_hidden_layer_more():
    conv, side_by_side = small("conv", n_hidden=1), small("embed", n_hidden=2)
    with torch.no_grad():
        side_by_side.input.embedding.weight.copy_(conv.input.embedding.weight)
        side_by_side.blocks[0].up_proj.weight.copy_(conv.input.kernel.permute(1, 0, 2).flatten(1))
        side_by_side.blocks[0].up_proj.bias.copy_(conv.input.bias)
        side_by_side.blocks[1].load_state_dict(conv.blocks[0].state_dict())
        side_by_side.head.load_state_dict(conv.head.state_dict())
    torch.testing.assert_close(conv(some_tokens()), side_by_side(some_tokens()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("hidden", [16, 1024])
def test_the_first_loss_is_that_of_a_uniform_guess(form, hidden):
    torch.manual_seed(0)
    model = KGram(Config(form=form, vocab_size=17, hidden=hidden))
    tokens = torch.randint(0, 17, (8, 129))
    loss = model.losses(tokens[:, :-1], tokens[:, 1:]).mean().item()
    assert loss == pytest.approx(math.log(17), rel=0.02)


@pytest.mark.parametrize("form", FORMS)
def test_each_place_has_its_site(form):
    model, seen = small(form), []
    with listening(model, lambda site, value: seen.append(site)):
        model(some_tokens())
    assert seen == ["embed", "blocks.0.up", "blocks.0.act", "blocks.1.up", "blocks.1.act", "logits"]


def test_it_learns_a_rule_that_needs_its_whole_window():
    generator = torch.Generator().manual_seed(0)
    row = torch.randint(0, 3, (16, 40), generator=generator)
    for t in range(2, 40):  # the next token is the sum of the last and the one before it
        row[:, t] = (row[:, t - 1] + row[:, t - 2]) % 3
    for form in FORMS:
        torch.manual_seed(0)
        model = KGram(Config(form=form, vocab_size=3, k=2, d_embed=8, hidden=32))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(100):
            loss = model.losses(row[:, 1:-1], row[:, 2:])[:, 1:].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.05, form


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UnknownName, match="^no form of k-gram is called `one-hot`$") as caught:
        Config(form="one-hot")
    assert caught.value.hint == "did you mean `onehot`?"
    with pytest.raises(UnknownName, match="^no activation is called `relu`$"):
        Config(activation="relu")
    with pytest.raises(BadSetting, match="^k 0 is not between 1 and context_length 256$"):
        Config(k=0)
    with pytest.raises(BadSetting, match="^k 9 is not between 1 and context_length 8$"):
        Config(k=9, context_length=8)
