"""The recipe on a tiny budget: every arm trains from the same start, and the page shows what the words say."""

import dataclasses

import pytest
import torch

from picolab.cli.report import report
from picolab.compare.plan import RUNS, run_name
from picolab.compare.result import Comparison
from picolab.errors import BadInput, UnknownName
from picolab.recipes import counted_attention as recipe
from picolab.runs.folder import Run
from picolab.zoo import create

QUICK = {"d_ff": "16", "d_model": "96", "context_length": "32", "eval_every": "4"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PICOLAB_HOME", str(folder / "home"))
        arms = ("counted", "counted-start")
        made = recipe.counted_attention(
            folder / "out", tiny=True, arms=arms, tokens=8 * 32 * 12, seeds=(0,), overrides=QUICK
        )
    return made, folder / "out"


def test_the_arms_and_both_ends_and_the_baseline_are_there(found):
    made, folder = found
    assert {row.model for row in made.comparison.rows} == {
        "zero", "trainable", "counted", "counted-start", "ngram",
    }  # fmt: skip
    assert all(row.loss is not None for row in made.comparison.rows)
    assert made.gain.of("zero").mean == 0 and made.gain.of("trainable").mean in (1, None)
    assert Comparison.load(folder).setup.arms["counted-start"] == "counted-pico:frozen=false"


def test_the_page_tells_the_findings_and_shows_the_heads_side_by_side(found):
    made, folder = found
    page = made.report.read_text(encoding="utf-8")
    assert made.report == folder / "report.html" and "Heads side by side" in page and "data:image/svg+xml" in page
    for name in ("Gain recovered", "of zero to trainable", "131,072 frozen", "counted-pico, frozen=false"):
        assert name.replace("131,072", "73,728") in page
    assert all(sentence.replace("'", "&#39;") in page for sentence in made.findings)
    assert "picolab compare counted counted-start --recipe counted-attention --tiny" in page


def test_the_page_built_again_is_the_page(found, capsys):
    made, folder = found
    before = made.report.read_text(encoding="utf-8")
    made.report.write_text("", encoding="utf-8")
    assert report(str(folder)) == 0 and str(made.report) in capsys.readouterr().out
    assert made.report.read_text(encoding="utf-8") == before


def test_frozen_attention_is_frozen_and_what_others_learn_started_alike(found):
    _, folder = found
    state = {}
    for arm in ("zero", "counted", "counted-start", "trainable"):
        run = Run.open(folder / RUNS / run_name(arm, 0))
        settings = run.settings.model.overrides
        assert settings["attention"] == {"zero": "zero", "trainable": "usual"}.get(arm, "counted")
        assert settings["frozen"] is (arm in ("zero", "counted"))
        fields = {name: value for name, value in settings.items() if name != "vocab_size"}
        state[arm] = create(run.settings.model.preset, vocab_size=71, seed=0, **fields).state_dict()
    for name, tensor in state["zero"].items():
        if ".mlp" in name or "norm" in name:
            assert all(torch.equal(tensor, other[name]) for other in state.values()), name


def test_every_arm_is_one_that_the_model_knows():
    for spec in recipe.ARMS.values():
        preset, _, rest = spec.partition(":")
        fields = dict(part.split("=") for part in rest.split(",") if part)
        fields = {name: {"true": True, "false": False}.get(value, value) for name, value in fields.items()}
        model = create(preset, vocab_size=71, d_model=96, d_ff=16, **fields)
        assert model.config.embedding == "counted"  # the same in every arm
    assert len(set(recipe.ARMS.values())) == len(recipe.ARMS) == 12


def test_what_the_arms_differ_in_is_not_for_changing(tmp_path):
    with pytest.raises(BadInput, match="is what the arms of this recipe differ in"):
        recipe.counted_attention(tmp_path, overrides={"attention": "zero"})
    with pytest.raises(UnknownName, match="no arm of this recipe is called `cuonted`"):
        recipe.counted_attention(tmp_path, arms=["cuonted"])


def test_both_scales_have_settings_that_runs_know():
    for scale in (recipe.TINY, recipe.FULL):
        assert recipe._settings(scale, {})["training.eval_every"].isdecimal()
        assert dataclasses.asdict(scale)["tokens"] > 50_000
