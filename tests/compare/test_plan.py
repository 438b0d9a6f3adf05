"""One plan for all models: what is equal is equal, what makes no sense is refused before anything is computed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from picolab.compare.plan import Plan, plan_for, take_up
from picolab.errors import BadCheckpoint, BadInput, BadSetting, PicolabError, UnknownName


def plan(*models: str, **changed: Any) -> Plan:
    asked: dict[str, Any] = {
        "data": "stories", "tokens": 1000, "seeds": 2, "overrides": {}, "prompt": None, "new_tokens": 5, **changed
    }  # fmt: skip
    return plan_for(models, **asked)


def test_counting_joins_every_comparison_once() -> None:
    assert plan("lstm").models == ("lstm", "ngram")
    assert plan("ngram", "lstm").models == ("ngram", "lstm")


def test_all_models_get_the_same_rows_budget_and_order(tmp_path: Path) -> None:
    made = plan("lstm", "gpt2-small", "softmax-pico", overrides={"batch-size": "4"})
    settings = [made.settings(model, seed, tmp_path) for model in made.models for seed in made.seeds]
    assert {one.data.context_length for one in settings} == {256}  # gpt2-small could read 1024
    assert {one.training.tokens for one in settings} == {1000}
    assert {one.training.batch_size for one in settings} == {4}
    assert [one.seed for one in settings] == [0, 1] * 4
    assert len({one.out for one in settings}) == len(settings)


def test_a_field_reaches_the_models_that_have_it(tmp_path: Path) -> None:
    made = plan("lstm", "softmax-pico", overrides={"d_model": "32", "n_heads": "4"})
    assert made.settings("softmax-pico", 0, tmp_path).model.overrides == {"d_model": 32, "n_heads": 4}
    assert made.settings("lstm", 0, tmp_path).model.overrides == {"d_model": 32}
    assert made.settings("ngram", 0, tmp_path).model.overrides == {}


@pytest.mark.parametrize("tokens", [3_000, 40_000, 200_000, 5_000_000])
def test_watching_a_run_costs_a_fraction_of_it(tokens: int, tmp_path: Path) -> None:
    training = plan("lstm", tokens=tokens).settings("lstm", 0, tmp_path).training
    steps = math.ceil(tokens / (training.batch_size * 256))
    assert training.eval_batches is not None
    evaluations = steps // training.eval_every
    assert evaluations * training.eval_batches <= max(steps, 2)  # forward only: a third of a training step each
    assert evaluations >= min(steps, 12)


def test_who_wants_more_evaluations_gets_them(tmp_path: Path) -> None:
    training = plan("lstm", overrides={"eval_every": "3", "eval_batches": "7"}).settings("lstm", 0, tmp_path).training
    assert (training.eval_every, training.eval_batches) == (3, 7)


@pytest.mark.parametrize(
    ("models", "changed", "error", "message", "hint"),
    [
        (("lsmt",), {}, UnknownName, "no preset is called `lsmt`", "did you mean `lstm`?"),
        (("lstm", "lstm"), {}, BadInput, "`lstm` is listed twice", "seeds repeat a model: --seeds 3"),
        ((), {}, BadInput, "no model was given to compare", "for example: ngram kgram-embed lstm softmax-pico"),
        (("lstm",), {"seeds": 0}, BadSetting, "seeds 0 are not one or more different seeds", "--seeds 3 means 0, 1 and 2"),
        (("lstm",), {"seeds": [1, 1]}, BadSetting, "seeds [1, 1] are not one or more different seeds", None),
        (("lstm",), {"tokens": 0}, BadSetting, "tokens 0 and new_tokens 5 must both be positive", "200000 is a good start"),
        (("lstm",), {"overrides": {"seed": "4"}}, BadSetting, "`seed` is set by the comparison itself", "say --seeds"),
        (("lstm",), {"overrides": {"model.n_heads": "4"}}, UnknownName, "no setting of these models is called `n_heads`", None),
        (
            ("softmax-pico",), {"overrides": {"n_heads": "3"}}, BadSetting, "d_model 128 is not a multiple of n_heads 3",
            "n_heads 2 divides it",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(
    models: tuple[str, ...], changed: dict[str, Any], error: type[PicolabError], message: str, hint: str | None
) -> None:
    with pytest.raises(error) as caught:
        plan(*models, **changed)
    assert str(caught.value) == message
    assert hint is None or caught.value.hint == hint


def test_the_same_command_goes_on_and_may_add_models_and_seeds(tmp_path: Path) -> None:
    first = take_up(plan("lstm"), tmp_path / "out")
    assert take_up(first, tmp_path / "out") == first
    more = take_up(plan("softmax-pico", seeds=3), tmp_path / "out")
    assert more.models == ("lstm", "ngram", "softmax-pico")
    assert more.seeds == (0, 1, 2)


def test_another_budget_does_not_mix_with_what_is_there(tmp_path: Path) -> None:
    first = take_up(plan("lstm"), tmp_path / "out")
    with pytest.raises(BadInput) as caught:
        take_up(replace(first, tokens=2000), tmp_path / "out")
    assert str(caught.value) == f"`{tmp_path / 'out'}` holds a comparison with tokens `1000`, not `2000`"


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput) as caught:
        take_up(plan("lstm"), tmp_path)
    assert str(caught.value) == f"`{tmp_path}` exists and holds no comparison"
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_torn_plan_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"models": [')
    with pytest.raises(BadCheckpoint) as caught:
        take_up(plan("lstm"), tmp_path)
    assert str(caught.value) == f"`{tmp_path / 'plan.json'}` is no plan of a comparison"
