"""Every model of the zoo obeys the laws of a language model: it is tested by being listed."""

import math

import pytest
import torch

from picolab.data.batch import IGNORE, Batch
from picolab.errors import BadSetting, UnknownName
from picolab.objectives.next_token import next_token
from picolab.parts.cross_entropy import token_losses_plainly
from picolab.parts.tap import listening
from picolab.zoo import PRESETS, build, create, settings_of

from zoo_twins import CONTEXT, TWINS, VOCAB, adversarial, fresh, some_tokens

every_model = pytest.mark.parametrize("name", TWINS)


@every_model
@torch.no_grad()
def test_it_cannot_see_the_future(name):
    model, tokens = adversarial(name), some_tokens()
    before = model(tokens)
    for position in range(1, tokens.shape[1]):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 7) % VOCAB
        after = model(changed)
        assert torch.equal(after[:, :position], before[:, :position])
        assert not torch.equal(after[:, position], before[:, position])


@every_model
@torch.no_grad()
@pytest.mark.parametrize("chunks", [[1] * 17, [5, 1, 1, 7, 3], [16, 1]])
def test_cached_and_uncached_agree(name, chunks):
    model, tokens = adversarial(name), some_tokens()
    cache = model.new_cache(2, CONTEXT)
    pieces = [model(piece, cache=cache) for piece in tokens.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), atol=2e-5, rtol=1e-5)
    assert cache.length == 17


@every_model
@torch.no_grad()
def test_a_row_does_not_depend_on_the_rows_beside_it(name):
    model, tokens = adversarial(name), some_tokens(batch=3)
    together = model(tokens)
    for row in range(3):
        torch.testing.assert_close(model(tokens[row : row + 1]), together[row : row + 1], atol=2e-5, rtol=1e-5)


@every_model
@torch.no_grad()
def test_a_packed_document_is_the_document_alone(name):
    model, tokens = adversarial(name), some_tokens()
    documents = torch.tensor([[0] * 4 + [1] * 1 + [2] * 12, [0] * 9 + [1] * 5 + [-1] * 3])
    packed = model(tokens, documents=documents)
    for row, (start, stop) in ((0, (0, 4)), (0, (4, 5)), (0, (5, 17)), (1, (0, 9)), (1, (9, 14))):
        alone = model(tokens[row : row + 1, start:stop])
        torch.testing.assert_close(packed[row : row + 1, start:stop], alone, atol=2e-5, rtol=1e-5)


@every_model
def test_the_first_loss_is_that_of_guessing(name):
    model, tokens = fresh(name), some_tokens(batch=64)
    loss = next_token(model, Batch(tokens, tokens.roll(-1, 1), torch.zeros_like(tokens)))
    assert loss.mean.item() == pytest.approx(math.log(VOCAB), rel=0.02)
    assert loss.count == tokens.numel()


@every_model
def test_every_parameter_is_reached_by_a_gradient(name):
    model, tokens = adversarial(name), some_tokens(batch=8)
    next_token(model, Batch(tokens, tokens.roll(-1, 1), torch.zeros_like(tokens))).mean.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.to_dense().abs().sum() > 0, parameter_name


@every_model
def test_losses_are_the_cross_entropy_of_its_logits(name):
    model, tokens = adversarial(name), some_tokens()
    targets = tokens.roll(-1, 1)
    targets[0, 3:5] = IGNORE
    logits = model(tokens)
    plain = token_losses_plainly(logits, torch.eye(VOCAB), targets)
    torch.testing.assert_close(model.losses(tokens, targets), plain, atol=2e-5, rtol=1e-5)


@every_model
def test_it_learns_one_batch_by_heart(name):
    model, tokens = fresh(name), some_tokens(batch=2)
    batch = Batch(tokens, tokens.roll(-1, 1), torch.zeros_like(tokens))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    first = next_token(model, batch).mean.item()
    for _ in range(150):
        optimizer.zero_grad()
        loss = next_token(model, batch).mean
        loss.backward()
        optimizer.step()
    # A window of three tokens that occurs twice with two different ends cannot be learned by a 3-gram.
    assert loss.item() < 0.3 < first


@every_model
@torch.no_grad()
def test_being_watched_changes_nothing(name):
    model, tokens = adversarial(name), some_tokens()
    seen = {}
    plain = model(tokens)
    with listening(model, lambda site, value: seen.update({site: value})):
        watched = model(tokens)
    assert (watched - plain).norm() < 1e-6 * plain.norm()
    assert seen["logits"] is watched and "embed" in seen
    with listening(model, lambda site, value: None, wanted=lambda site: not site.endswith(("scores", "probs"))):
        assert torch.equal(model(tokens), plain)


@every_model
@torch.no_grad()
def test_its_settings_build_its_twin(name):
    model = adversarial(name)
    twin = build(model.architecture, settings_of(model))
    twin.load_state_dict(model.state_dict())
    tokens = some_tokens()
    assert torch.equal(twin.eval()(tokens), model(tokens))


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2", "gpt_oss", "nanochat", "linear", "linear gated"])
@torch.no_grad()
def test_every_row_of_attention_sums_to_one_and_none_of_it_falls_on_the_future(name):
    model, tokens = adversarial(name), some_tokens()
    probs = {}
    with listening(model, lambda site, value: probs.update({site: value}), wanted=lambda site: site.endswith("probs")):
        model(tokens)
    assert len(probs) == 3
    for site, value in probs.items():
        assert value.shape == (2, 6, 17, 17), site
        assert value.triu(1).abs().max() == 0
        total = value.sum(-1)
        assert total.max() < 1 + 1e-5
        if name != "gpt_oss":  # a sink takes its share
            assert total.min() > 1 - 1e-5


@pytest.mark.parametrize(
    ("preset", "sizes"),
    [
        ("mingpt", {"d_model": 384, "n_heads": 6, "n_layers": 6, "d_ff": 1536, "tied": True}),
        ("gpt2-small", {"d_model": 768, "n_heads": 12, "n_layers": 8, "d_ff": 3072, "tied": True}),
        ("gpt-oss", {"d_model": 512, "n_heads": 8, "n_layers": 8, "d_ff": 2048, "tied": False}),
        ("llama3-lite", {"d_model": 1024, "n_heads": 16, "n_layers": 8, "d_ff": 8192, "tied": False}),
        (
            "softmax-pico",
            {"d_model": 128, "n_heads": 2, "n_layers": 2, "d_ff": 512, "tied": True, "context_length": 256},
        ),
    ],
)
def test_presets_have_the_published_sizes(preset, sizes):
    with torch.device("meta"):
        settings = settings_of(build(PRESETS[preset].architecture, PRESETS[preset].settings))
    assert {name: settings[name] for name in sizes} == sizes


def test_softmax_pico_with_gpt2s_vocabulary_has_6_861_440_parameters():
    model = create("softmax-pico", vocab_size=50257)
    assert sum(p.numel() for p in model.parameters()) == 6_861_440


def test_linear_pico_has_the_parameters_of_softmax_pico_and_with_gates_those_of_the_gates_more():
    softmax, linear, gated = (
        {name: tuple(p.shape) for name, p in model.named_parameters()}
        for model in (
            create("softmax-pico", vocab_size=129),
            create("linear-pico", vocab_size=129),
            create("linear-pico", vocab_size=129, gated=True),
        )
    )
    assert linear == softmax
    more = {f"blocks.{i}.attention.gate_proj.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
    assert {name: shape for name, shape in gated.items() if name not in more} == softmax and more < set(gated)


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"llama3-lite", "gpt2-small", "ngram"}))
def test_every_preset_starts_at_the_loss_of_guessing_over_gpt2s_vocabulary(preset):
    model = create(preset, vocab_size=50257, seed=1)
    tokens = torch.randint(0, 50257, (2, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = model.losses(tokens, tokens.roll(-1, 1)).mean().item()
    assert loss == pytest.approx(math.log(50257), rel=0.02)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_random_state_alone():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    a, b, c = (create("lstm", vocab_size=50, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True))


def test_unknown_names_are_refused_with_the_nearest_known_one():
    with pytest.raises(UnknownName, match="no preset is called `lsmt`") as error:
        create("lsmt", vocab_size=50)
    assert error.value.hint == "did you mean `lstm`?"
    with pytest.raises(UnknownName, match="no setting of lstm is called `n_layer`") as error:
        create("lstm", vocab_size=50, n_layer=2)
    assert error.value.hint == "did you mean `n_layers`?"


@pytest.mark.parametrize(("name", "value"), [("n_layers", 2.5), ("n_layers", True), ("tied", 1), ("n_layers", -1)])
def test_settings_of_the_wrong_type_are_refused(name, value):
    with pytest.raises(BadSetting, match=f"`{name}` is {value}"):
        create("softmax-pico", vocab_size=50, **{name: value})
