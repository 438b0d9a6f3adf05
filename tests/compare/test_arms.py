"""A preset stands in a comparison several times, each time with settings and a name of its own."""

import json

import pytest

from picolab.compare.arms import arm_of, folder_of
from picolab.compare.plan import PLAN, plan_for, run_name, take_up
from picolab.errors import BadInput, UnknownName
from picolab.runs.settings import resolve


def planned(*models, **more):
    usual = {"data": "numeric", "tokens": 4000, "seeds": 1, "overrides": {}, "prompt": None, "new_tokens": 5}
    return plan_for(models, **{**usual, **more})


@pytest.mark.parametrize(
    ("word", "name", "preset", "fields"),
    [
        ("lstm", "lstm", "lstm", {}),
        ("softmax-pico:n_layers=4", "softmax-pico:n_layers=4", "softmax-pico", {"n_layers": "4"}),
        ("deep=softmax-pico:n_layers=4, n_heads=4", "deep", "softmax-pico", {"n_layers": "4", "n_heads": "4"}),
        ("mine=lstm", "mine", "lstm", {}),
        ("a+b=counted-pico:corrected=scale+embedding", "a+b", "counted-pico", {"corrected": "scale+embedding"}),
    ],
)
def test_a_word_names_a_preset_and_what_it_changes(word, name, preset, fields):
    arm = arm_of(word)
    assert (arm.name, arm.preset, arm.fields) == (name, preset, fields)
    assert arm_of(arm.word) == arm


@pytest.mark.parametrize(
    ("word", "error", "says"),
    [
        ("lstn", UnknownName, "no preset is called `lstn`"),
        ("x=lstn:a=1", UnknownName, "no preset is called `lstn`"),
        ("lstm:hidden", BadInput, "has the part `hidden`"),
        ("lstm:=3", BadInput, "has the part `=3`"),
        ("ngram=lstm", BadInput, "`ngram` is no name"),
        ("ngram=ngram:order=2", BadInput, "`ngram` is a preset, and this is another model"),
        ("a/b=lstm", BadInput, "`a/b` is no name"),
    ],
)
def test_what_names_no_model_is_refused(word, error, says):
    with pytest.raises(error, match=says):
        arm_of(word)


def test_an_arm_runs_with_its_own_fields_and_they_win(tmp_path):
    plan = planned("softmax-pico", "deep=softmax-pico:n_layers=3", overrides={"n_layers": "1", "d_model": "64"})
    fields = {model: plan.settings(model, 0, tmp_path).model.overrides for model in plan.models if model != "ngram"}
    assert fields == {"softmax-pico": {"n_layers": 1, "d_model": 64}, "deep": {"n_layers": 3, "d_model": 64}}
    assert plan.settings("deep", 0, tmp_path).model.preset == "softmax-pico"
    assert plan.settings("deep", 0, tmp_path).name == "deep_seed-0"
    assert plan.models[-1] == "ngram" and plan.arms == {"deep": "softmax-pico:n_layers=3"}
    assert resolve("softmax-pico", overrides={}).model.overrides == {}


def test_an_arm_of_the_baseline_does_not_replace_it():
    assert planned("short=ngram:order=2", "lstm").models == ("short", "lstm", "ngram")


def test_two_arms_must_not_meet_in_one_folder():
    assert folder_of("softmax-pico:n_layers=4") == "softmax-pico-n_layers-4" != run_name("a b", 3) == "a-b_seed-3"
    with pytest.raises(BadInput, match="is listed twice"):
        planned("a b=lstm", "a-b=lstm:hidden=8")


def test_a_field_that_no_model_has_is_refused_before_anything_runs():
    with pytest.raises(BadInput, match="layers"):
        planned("x=lstm:layers=2")


def test_a_plan_with_arms_is_taken_up_and_a_name_keeps_its_meaning(tmp_path):
    take_up(planned("x=lstm:hidden=8"), tmp_path / "c")
    more = take_up(planned("y=lstm:hidden=16"), tmp_path / "c")
    assert more.arms == {"x": "lstm:hidden=8", "y": "lstm:hidden=16"} and more.models == ("x", "ngram", "y")
    with pytest.raises(BadInput, match="knows `x` as lstm:hidden=8, not lstm:hidden=9"):
        take_up(planned("x=lstm:hidden=9"), tmp_path / "c")
    content = json.loads((tmp_path / "c" / PLAN).read_text())
    del content["arms"]  # as an earlier version wrote it
    content["models"] = ["ngram"]
    (tmp_path / "c" / PLAN).write_text(json.dumps(content))
    assert take_up(planned("x=lstm:hidden=9"), tmp_path / "c").arms == {"x": "lstm:hidden=9"}
