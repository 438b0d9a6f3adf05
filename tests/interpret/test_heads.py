"""Heads built by hand: the picture names them, taking them out confirms it, and where nobody reads them it does not."""

import numpy as np
import pytest
import torch

from handmade import TIME, copier, tokenizer
from picolab.errors import BadInput
from picolab.interpret import attention, causes
from picolab.interpret.ablate import losses_of, means_of, without
from picolab.interpret.attention import looks_of, maps_of
from picolab.interpret.causes import causes_of
from picolab.interpret.chance import Band
from picolab.interpret.claims import Effect, claims_of
from picolab.interpret.edges import without_look
from picolab.interpret.heads import PATTERNS, HeadScore, HeadScores, repeated, says, score_heads, usual_length
from picolab.interpret.texts import Texts
from picolab.interpret.together import Together
from picolab.trace.record import record
from picolab.zoo import create

EOT, LENGTH = 12, 10


@pytest.fixture(scope="module")
def model():
    return copier()


@pytest.fixture(scope="module")
def texts():
    return repeated(range(12), opening=(EOT,), length=LENGTH, rows=12, seed=1)


@pytest.fixture(scope="module")
def scores(model, texts):
    return score_heads(model, texts, length=LENGTH)


def test_random_tokens_are_different_and_said_twice(texts):
    for row in texts:
        assert row[0] == EOT and row[1 : LENGTH + 1] == row[LENGTH + 1 :]
        assert len({*row[1:]}) == LENGTH


def test_a_head_built_to_look_at_the_token_before_is_called_so(scores):
    assert [head.name for head in scores.named("previous token")] == ["0.0"]
    assert scores.best("previous token").shares["previous token"].mean > 0.95
    assert any("Previous token: 1 head looks there most, 0.0" in sentence for sentence in says(scores))


def test_a_head_built_to_find_what_followed_is_called_induction(scores):
    assert [head.name for head in scores.named("induction")] == ["1.0"]
    assert scores.best("induction").shares["induction"].mean > 0.95


def test_a_head_that_looks_evenly_scores_what_even_scores(scores):
    even = next(head for head in scores.heads if head.name == "0.1")
    assert even.entropy.mean == pytest.approx(1, abs=1e-5)
    for pattern, share in even.shares.items():
        assert share.mean == pytest.approx(scores.even[pattern], abs=1e-6)


def test_taking_heads_out_confirms_those_that_the_picture_names(model, texts, scores):
    found = causes_of(model, scores, texts)
    assert found.copying.low > 1
    assert {(claim.pattern, claim.head, claim.is_confirmed) for claim in found.claims} == {
        ("previous token", 0, True),
        ("induction", 0, True),
    }
    effects = {effect.name: effect.second_mean for effect in found.effects}
    assert effects["0.0"].low > 1 and effects["1.0"].low > 1
    assert abs(effects["0.1"].mean) < 1e-5 and abs(effects["1.1"].mean) < 1e-5
    assert all(edge.is_confirmed and edge.effect.mean > 1 > edge.control.mean + 0.5 for edge in found.edges)
    assert [edge.back for edge in found.edges] == [1, LENGTH - 1]


def test_a_head_that_only_looks_the_part_is_not_confirmed(texts):
    idle = copier(copies=False)
    scores = score_heads(idle, texts, length=LENGTH)
    assert [head.name for head in scores.named("induction")] == ["1.0"]  # the picture is the same
    found = causes_of(idle, scores, texts, texts)
    assert found.copying.mean == pytest.approx(0, abs=1e-5)
    assert found.claims and not any(claim.is_confirmed for claim in found.claims)
    assert found.edges and not any(edge.is_confirmed for edge in found.edges)
    said = causes.says(found)
    assert said[0].startswith("The model hardly copies")
    assert any("does not confirm" in sentence for sentence in said)


def test_all_heads_at_once_say_whether_a_text_is_read_by_looking_back(model, texts, scores):
    copies = causes_of(model, scores, texts, texts)
    assert copies.every.low > 0.5 and "looking back is what they are predicted by" in causes.says(copies)[-1]
    blind = copier()
    for block in blind.blocks:
        torch.nn.init.zeros_(block.attention.out_proj.weight)
    found = causes_of(blind, score_heads(blind, texts, length=LENGTH), texts, texts)
    assert found.every.mean == 0 and "predicted without looking back" in causes.says(found)[-1]
    assert any("no head matters alone" in sentence for sentence in causes.says(found))


def test_heads_that_stand_in_for_each_other_are_confirmed_together(texts):
    model = copier(twice=True)
    scores = score_heads(model, texts, length=LENGTH)
    assert {head.name for head in scores.named("induction")} == {"1.0", "1.1"}
    found = causes_of(model, scores, texts)
    alone = {claim.name: claim.effect.mean for claim in found.claims if claim.pattern == "induction"}
    (both,) = found.together
    assert both.pattern == "induction" and set(both.heads) == {(1, 0), (1, 1)}
    assert both.is_confirmed and both.effect.mean > 1.5 * max(alone.values())
    assert max(map(abs, both.others)) < 1e-5
    assert any("Taken out together the 2 heads called induction matter" in sentence for sentence in causes.says(found))


def test_without_all_heads_the_model_is_the_one_whose_output_projections_are_zero(model, texts):
    other = copier()
    with torch.no_grad():
        for block in other.blocks:
            block.attention.out_proj.weight.zero_()
    everything = [(layer, head) for layer in (0, 1) for head in (0, 1)]
    with without(model, everything):
        mine = losses_of(model, texts).nats
    assert np.allclose(mine, losses_of(other, texts).nats, atol=1e-6)


def test_a_head_taken_out_is_back_afterwards(model, texts):
    before = losses_of(model, texts).nats
    with without(model, [(0, 0)]), without_look(model, (1, 0), 3):
        assert not np.allclose(losses_of(model, texts).nats, before)
    assert np.array_equal(losses_of(model, texts).nats, before)


def test_a_loss_above_guessing_is_no_copying_however_much_it_falls():
    model = copier()
    with torch.no_grad():
        model.head.weight.mul_(-1)  # now what followed is the last thing it would say
    rows = repeated(range(12), opening=(EOT,), length=LENGTH, rows=8)
    found = causes_of(model, score_heads(model, rows, length=LENGTH), rows)
    assert not found.copies and found.second.mean > found.guess == pytest.approx(np.log(14))
    assert not any(claim.is_confirmed for claim in found.claims)


def test_in_a_heads_place_is_its_mean_and_the_other_heads_are_as_they_were(model, texts):
    means = means_of(model, texts)
    with record(model, "blocks.1.attention.mixed") as before:
        model(torch.tensor(texts))
    with without(model, [(1, 0)], means), record(model, "blocks.1.attention.mixed") as after:
        model(torch.tensor(texts))
    lanes = means[1].shape[0] // 2
    changed, kept = (r["blocks.1.attention.mixed"] for r in (after, before))
    assert torch.equal(changed[..., :lanes], means[1][:lanes].expand_as(changed[..., :lanes]))
    assert means[1][:lanes].abs().max() > 0.01
    assert torch.equal(changed[..., lanes:], kept[..., lanes:])


def a_band(mean):
    return Band(mean=mean, low=mean - 0.01, high=mean + 0.01, count=9)


@pytest.mark.parametrize(
    ("effect", "other", "says"),
    [
        (0.5, 0.1, "and taking it out confirms that it matters"),
        (0.5, 0.6, "and it matters, but a head not so called matters more"),
        (0.0, -0.1, "but taking it out does not confirm that it matters"),
    ],
)
def test_a_claim_is_confirmed_only_where_no_head_without_the_name_matters_more(effect, other, says):
    none = dict.fromkeys(PATTERNS, a_band(0.0))
    heads = (
        HeadScore(layer=0, head=0, shares=none | {"induction": a_band(0.9)}, entropy=a_band(0.1)),
        HeadScore(layer=0, head=1, shares=none, entropy=a_band(1.0)),
    )
    effects = [
        Effect(
            layer=0, head=head, second_mean=a_band(mean), second_zero=a_band(mean), first_mean=a_band(0.0),
            data_mean=None, data_zero=None,
        )
        for head, mean in enumerate((effect, other))
    ]  # fmt: skip
    scores = HeadScores(heads=heads, even=dict.fromkeys(PATTERNS, 0.1), length=10, rows=9)
    (claim,) = claims_of(scores, effects, copies=True)
    assert says in claim.says
    assert claim.is_confirmed == ("confirms that" in says and "not" not in says)


def test_heads_together_are_confirmed_only_where_every_draw_of_others_costs_less():
    def confirmed(*others):
        heads = ((0, 0), (0, 1))
        return Together(pattern="induction", heads=heads, measure="m", effect=a_band(0.5), others=others).is_confirmed

    assert confirmed(0.1, 0.4) and not confirmed(0.1, 0.6)


def test_the_mean_is_that_of_every_text_read_alone(model, texts):
    uneven = [row[: 3 + i] for i, row in enumerate(texts)]
    with record(model, "blocks.*.attention.mixed") as recording:
        for row in uneven:
            model(torch.tensor([row]))
    for layer, mean in means_of(model, uneven).items():
        seen = [e.value[0] for e in recording.entries if e.site == f"blocks.{layer}.attention.mixed"]
        assert torch.allclose(mean, torch.cat(seen).mean(0), atol=1e-6)


def test_losses_do_not_depend_on_the_texts_beside(model, texts):
    uneven = [row[: 4 + i] for i, row in enumerate(texts)]
    together = losses_of(model, uneven).nats
    for at, row in enumerate(uneven):
        alone = losses_of(model, [row]).nats[0]
        assert np.allclose(together[at, : len(row) - 1], alone, atol=1e-6)
        assert np.isnan(together[at, len(row) - 1 :]).all()


def test_a_look_taken_away_goes_to_the_others(model, texts):
    row = texts[0]
    with without_look(model, (0, 0), 1):
        maps = maps_of(model, row)
    assert np.diagonal(maps[0][0], -1).max() == 0
    assert np.allclose(maps[0].sum(-1), 1, atol=1e-5)
    assert np.array_equal(maps[0][1], maps_of(model, row)[0][1])  # the other head looks as before


@pytest.mark.parametrize("gated", [False, True])
def test_linear_attention_is_looked_at_and_cut_as_any_other(gated, texts):
    linear = create("linear-pico", vocab_size=14, seed=0, d_model=16, n_heads=2, d_ff=16, gated=gated).eval()
    maps = maps_of(linear, texts[0])
    assert len(maps) == 2 and all(np.allclose(one.sum(-1), 1, atol=1e-5) for one in maps)
    with without_look(linear, (0, 1), 1):
        cut = maps_of(linear, texts[0])
        lost = losses_of(linear, texts).nats
    assert np.abs(np.diagonal(cut[0][1], -1)).max() == 0
    assert np.allclose(cut[0].sum(-1), 1, atol=1e-5)
    rest = np.where(np.eye(21, k=-1) == 1, 0, maps[0][1])
    assert np.allclose(cut[0][1], rest / rest.sum(-1, keepdims=True), atol=1e-5)
    assert np.array_equal(cut[0][0], maps[0][0])
    assert not np.allclose(lost, losses_of(linear, texts).nats, atol=1e-7)  # what was changed flows on
    found = causes_of(linear, score_heads(linear, texts, length=LENGTH), texts)
    assert len(found.effects) == 4


def test_maps_are_the_attention_of_the_pass_itself(model, texts):
    with record(model, "blocks.*.attention.probs") as recording:
        model(torch.tensor([texts[0]]))
    for layer, weights in enumerate(maps_of(model, texts[0])):
        assert np.allclose(weights, recording[f"blocks.{layer}.attention.probs"][0].double().numpy())


def test_over_texts_of_any_length_the_heads_habits_are_found(model, texts):
    uneven = tuple(tuple(row[: 4 + i]) for i, row in enumerate(texts))
    looks = looks_of(model, Texts(ids=uneven, group=(0,) * len(uneven), names=("a",), source="a"))
    place, share = looks.heads[0].favourite
    assert place == "the token before" and share.mean > 0.95
    even = looks.heads[1]
    for distance, band in enumerate(even.back):
        assert band.mean == pytest.approx(looks.even[attention.words(distance)], abs=1e-6)
    assert even.first.mean == pytest.approx(looks.even["the first token"], abs=1e-6)
    assert attention.says(looks)[0].startswith("Head 0.0 looks most at the token before")


@pytest.mark.parametrize("preset", ["lstm", "kgram-embed"])
def test_a_model_without_attention_has_no_heads(preset):
    model = create(preset, vocab_size=14, seed=0)
    with pytest.raises(BadInput, match="has no attention"):
        maps_of(model, [1, 2, 3])


def test_too_few_tokens_cannot_be_said_twice(model):
    with pytest.raises(BadInput, match="3 tokens are too few to be said twice"):
        repeated([1, 2, 3])
    with pytest.raises(BadInput, match="too few"):
        usual_length(model, 6, 1)
    assert usual_length(model, None, 1) == (TIME - 1) // 2
    assert tokenizer().vocab_size == 14
