"""The preference objective against formulas written out token by token, and the ways its batches may be cut and packed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from picolab.data.batch import IGNORE
from picolab.data.pairs import PairBatch, TokenPair, batch_of, pack
from picolab.errors import BadSetting
from picolab.models.contract import LanguageModel
from picolab.objectives import dpo
from picolab.objectives.dpo import Dpo, response_logps
from picolab.zoo import create

VOCAB = 53
SIZES: dict[str, dict[str, Any]] = {
    "softmax-pico": {"d_model": 24, "d_ff": 40, "n_heads": 3, "context_length": 40},
    "lstm": {},
    "kgram-embed": {},
    "qwen2-pico": {"d_model": 24, "d_ff": 40, "context_length": 40},
}


def a_model(preset: str = "softmax-pico") -> LanguageModel:
    model = create(preset, vocab_size=VOCAB, seed=1, **SIZES[preset])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return model.double()


def some_pairs(count: int = 7, seed: int = 0) -> list[TokenPair]:
    rng = np.random.default_rng(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.integers(0, VOCAB, rng.integers(low, high)).tolist())

    return [TokenPair(ids(1, 9), ids(1, 20), ids(1, 20), "x") for _ in range(count)]


def a_batch(pairs: list[TokenPair]) -> PairBatch:
    reference = torch.randn(len(pairs), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) * 3 - 60
    return batch_of(pairs, reference, fill=0)


def token_by_token(model: LanguageModel, pair: TokenPair, side: int) -> torch.Tensor:
    """ln p(response | prompt), one response alone, one token after the other."""
    whole = [*pair.prompt, *pair.sides[side]]
    total = torch.zeros((), dtype=torch.float64)
    for place in range(len(pair.prompt), len(whole)):
        logits = model(torch.tensor([whole[:place]]))[0, -1]
        total = total + logits[whole[place]] - logits.logsumexp(0)
    return total


def written_out(model: LanguageModel, pairs: list[TokenPair], batch: PairBatch, o: dict[str, Any]) -> torch.Tensor:
    """The loss as the papers write it, without anything of ours."""
    beta, e = o.get("beta", 0.1), o.get("label_smoothing", 0.0)
    losses, imitated, tokens = [], [], 0
    for pair, (ref_chosen, ref_rejected) in zip(pairs, batch.reference.tolist(), strict=True):
        chosen, rejected = (token_by_token(model, pair, side) for side in (0, 1))
        a, b = chosen - ref_chosen, rejected - ref_rejected
        if o.get("per_token"):
            a, b = a / len(pair.chosen), b / len(pair.rejected)
        if o.get("variant") == "ipo":
            losses.append((a - b - 1 / (2 * beta)) ** 2)
        else:
            right, wrong = (1 / (1 + torch.exp(-beta * sign * (a - b))) for sign in (1, -1))
            losses.append(-(1 - e) * torch.log(right) - e * torch.log(wrong))
        imitated.append(-chosen)
        tokens += len(pair.chosen)
    return torch.stack(losses).mean() + o.get("imitation", 0.0) * torch.stack(imitated).sum() / tokens


FORMS: dict[str, dict[str, Any]] = {
    "dpo": {},
    "steeper": {"beta": 0.5},
    "smoothed": {"label_smoothing": 0.2},
    "per token": {"per_token": True, "beta": 2.0},
    "ipo": {"variant": "ipo"},
    "ipo per token": {"variant": "ipo", "per_token": True},
    "with imitation": {"imitation": 0.7},
}


@pytest.mark.parametrize("form", FORMS)
def test_loss_and_gradient_are_those_of_the_formula_written_out(form: str) -> None:
    model, pairs = a_model(), some_pairs(5)
    batch = a_batch(pairs)
    ours = Dpo(**FORMS[form])(model, batch).mean
    ours.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    theirs = written_out(model, pairs, batch, FORMS[form])
    theirs.backward()
    assert abs(ours.item() - theirs.item()) < 1e-9 * max(1, abs(theirs.item()))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("preset", SIZES)
def test_responses_packed_together_are_scored_as_if_each_were_alone(preset: str) -> None:
    model, pairs = a_model(preset).eval(), some_pairs(9, seed=2)
    batch = a_batch(pairs)
    packed = pack(batch)
    assert packed.documents is not None and packed.tokens.shape[0] < 18, "nothing was packed, so nothing is proved"
    with torch.no_grad():
        found = response_logps(model, batch)
        alone = torch.stack([torch.stack([token_by_token(model, pair, side) for side in (0, 1)]) for pair in pairs])
    torch.testing.assert_close(found, alone, rtol=1e-9, atol=1e-9)


def test_responses_of_one_length_stay_a_row_each_and_need_no_mask() -> None:
    pairs = [TokenPair((1, 2), (3, 4, 5), (5, 4, 3), "x"), TokenPair((7,), (1, 2, 3, 4), (4, 3, 2, 9), "x")]
    assert pack(a_batch(pairs)).documents is None


def test_only_response_tokens_are_counted() -> None:
    batch = a_batch(some_pairs(4))
    assert int((batch.targets != IGNORE).sum()) == batch.n_tokens == int(batch.response.sum())
    model, pair = a_model(), some_pairs(1)[0]
    with torch.no_grad():
        reference = torch.tensor([[-3.0, -4.0]], dtype=torch.float64)
        loss = Dpo()(model, batch_of([pair], reference, fill=0))
        filled = Dpo()(model, batch_of([pair], reference, fill=9))
    assert loss.mean == filled.mean, "what stands in padding must not matter"


def test_logits_that_do_not_fit_are_made_again_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = a_model(), a_batch(some_pairs())
    Dpo()(model, batch).mean.backward()
    kept = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    monkeypatch.setattr(dpo, "CHUNK_ELEMENTS", 10)
    Dpo()(model, batch).mean.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, kept[name], rtol=1e-7, atol=1e-10, msg=name)


@pytest.mark.parametrize("form", ["dpo", "with imitation"])
def test_a_step_in_parts_is_the_step_as_a_whole(form: str) -> None:
    model, batch = a_model(), a_batch(some_pairs(6))
    objective = Dpo(**FORMS[form])
    whole = objective(model, batch)
    parts = [objective(model, batch.part(rows)) for rows in (slice(0, 2), slice(2, 6))]
    assert math.isclose(whole.total, sum(part.total for part in parts), rel_tol=1e-12)
    assert sum(part.count for part in parts) == whole.count == 6
    for name, value in whole.figures.items():
        assert math.isclose(value, sum(part.figures[name] for part in parts), rel_tol=1e-12), name


def test_a_model_that_is_its_reference_has_loss_ln_2_and_no_reward() -> None:
    model, pairs = a_model(), some_pairs()
    with torch.no_grad():
        reference = response_logps(model, a_batch(pairs))
        for objective in (Dpo(), Dpo(variant="ipo"), Dpo(per_token=True, beta=3.0)):
            loss = objective(model, batch_of(pairs, reference, fill=0))
            assert math.isclose(loss.mean, objective.at_start, rel_tol=1e-12)
    assert Dpo().at_start == math.log(2)
    assert loss.figures["rewards/chosen"] == loss.figures["rewards/margins"] == loss.figures["rewards/accuracies"] == 0


def test_figures_have_the_names_and_the_meaning_of_trl() -> None:
    model, pairs = a_model(), some_pairs()
    batch = a_batch(pairs)
    with torch.no_grad():
        loss = Dpo(beta=0.3)(model, batch)
        logps = torch.stack([torch.stack([token_by_token(model, pair, side) for side in (0, 1)]) for pair in pairs])
    rewards = 0.3 * (logps - batch.reference)
    wanted = {
        "rewards/chosen": rewards[:, 0].sum(),
        "rewards/rejected": rewards[:, 1].sum(),
        "rewards/margins": (rewards[:, 0] - rewards[:, 1]).sum(),
        "rewards/accuracies": (rewards[:, 0] > rewards[:, 1]).double().sum(),
        "logps/chosen": logps[:, 0].sum(),
        "logps/rejected": logps[:, 1].sum(),
    }
    assert loss.figures.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(loss.figures[name], value, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"beta": 0.0}, "`beta` is 0"),
        ({"beta": -1.0}, "`beta` is -1"),
        ({"beta": math.nan}, "`beta` is nan"),
        ({"label_smoothing": 0.5}, "`label_smoothing` is 0.5"),
        ({"label_smoothing": 0.1, "variant": "ipo"}, "has no meaning with `ipo`"),
        ({"imitation": -0.1}, "`imitation` is -0.1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(BadSetting, match=says) as raised:
        Dpo(**wrong)
    assert raised.value.hint
