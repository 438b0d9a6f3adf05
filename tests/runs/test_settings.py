"""Settings: four layers, one winner, and a sentence for every value that makes no sense."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from picolab.errors import BadInput, BadSetting, UnknownName
from picolab.runs import names
from picolab.runs.settings import differences, dump_settings, known_settings, load_settings, resolve
from picolab.zoo import ARCHITECTURES


def test_a_later_layer_wins(tmp_path: Path) -> None:
    file = tmp_path / "exp.yaml"
    file.write_text("model: lstm\noptimizer:\n  lr: 5e-4\n  clip: 2\nsteps: 7\n")
    settings = resolve("gpt2-small", file, {"lr": "0.25"})
    assert settings.optimizer.lr == 0.25  # command line
    assert settings.optimizer.clip == 2 and settings.model.preset == "lstm" and settings.training.steps == 7  # file
    assert settings.optimizer.weight_decay == 0.1  # default
    assert resolve("gpt2-small").model.preset == "gpt2-small"


@pytest.mark.parametrize(
    "spelling", ["batch_size", "batch-size", "--batch-size", "training.batch_size", "--training.batch-size"]
)
def test_every_spelling_of_a_name_is_the_same_setting(spelling: str) -> None:
    assert resolve(overrides={spelling: "6"}).training.batch_size == 6


def test_names_of_other_programs_are_understood() -> None:
    settings = resolve(
        overrides={
            "n_embd": "64",
            "block_size": "32",
            "learning_rate": "0.01",
            "max_iters": "9",
            "num-hidden-layers": "3",
        }
    )
    assert settings.model.overrides == {"d_model": 64, "n_layers": 3}
    assert (settings.data.context_length, settings.optimizer.lr, settings.training.steps) == (32, 0.01, 9)


def test_every_field_of_an_architecture_may_stand_alone() -> None:
    of_models = {field.name for entry in ARCHITECTURES.values() for field in fields(entry.config)}
    assert set(names.MODEL_FIELDS) == of_models - {"vocab_size", "context_length"}
    leaves = [name.rpartition(".")[2] for name in known_settings() if name != "seed" and name != "data.seed"]
    assert not set(names.MODEL_FIELDS) & set(leaves)
    assert len(set(leaves)) == len(leaves), "a leaf that two sections share cannot stand alone"


def test_an_alias_names_a_setting_that_exists() -> None:
    for alias, name in names.ALIASES.items():
        assert name in known_settings() or name.removeprefix("model.") in names.MODEL_FIELDS, alias


def test_the_bare_seed_is_the_run_s() -> None:
    settings = resolve(overrides={"seed": "3", "data.seed": "4"})
    assert (settings.seed, settings.data.seed) == (3, 4)


def test_fields_of_the_model_become_numbers_and_truths() -> None:
    given = {"model.tied": "true", "model.norm_eps": "1e-6", "model.k": "3", "model.form": "conv"}
    assert resolve(overrides=given).model.overrides == {"tied": True, "norm_eps": 1e-6, "k": 3, "form": "conv"}


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"lerning_rate": "1"}, "no setting is called `lerning_rate`", "did you mean `learning_rate`?"),
        ({"optimiser.lr": "1"}, "no setting is called `optimiser.lr`", "did you mean `optimizer.lr`?"),
        (
            {"lr": "0"},
            "`optimizer.lr` is '0', and it should be greater than 0",
            "`optimizer.lr`: highest learning rate",
        ),
        ({"steps": "0"}, "`training.steps` is '0', and it should be greater than or equal to 1", None),
        ({"batch-size": "-1"}, "`training.batch_size` is '-1', and it should be greater than or equal to 1", None),
        ({"batch-size": "six"}, "`training.batch_size` is 'six', and it should be a valid integer", None),
        ({"betas": "0.9,1.5"}, "`optimizer.betas` is '1.5', and it should be less than 1", None),
        ({"lr": "nan"}, "`optimizer.lr` is 'nan', and it should be a finite number", None),
        ({"dtype": "bfloat"}, "`training.dtype` is `bfloat`", "did you mean `bfloat16`?"),
        ({"steps": "2", "tokens": "3"}, "`training.steps` 2 and `training.tokens` 3 are both set", None),
        (
            {"steps": "2", "max_iters": "3"},
            "`max_iters` and `steps` are the same setting, `training.steps`",
            "give it once",
        ),
        ({"min_lr": "1"}, "`optimizer.min_lr` 1 is above `optimizer.lr` 0.001", None),
        ({"accumulate": "3"}, "`training.batch_size` 8 cannot be cut into `training.accumulate` 3 equal pieces", None),
        (
            {"validation": "0.6", "test": "0.4"},
            "`data.validation` 0.6 and `data.test` 0.4 leave nothing to train on",
            None,
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(given: dict[str, str], message: str, hint: str | None) -> None:
    with pytest.raises(BadInput) as caught:
        resolve(overrides=given)
    assert str(caught.value).startswith(message)
    assert caught.value.hint if hint is None else caught.value.hint == hint


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "a: [1\n", "model:\n  k:\n    deep: 1\n"])
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "exp.yaml"
    file.write_text(text)
    with pytest.raises(BadInput):
        resolve(config_file=file)


def test_a_missing_file_and_an_unknown_key_in_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no settings file"):
        resolve(config_file=tmp_path / "no.yaml")
    (tmp_path / "exp.yaml").write_text("training: {stepz: 3}\n")
    with pytest.raises(UnknownName, match="stepz"):
        resolve(config_file=tmp_path / "exp.yaml")


def test_saved_settings_are_read_back_as_they_were(tmp_path: Path) -> None:
    settings = resolve("lstm", overrides={"tokens": "5000", "betas": "0.8,0.9", "model.hidden": "12", "lr": "1e-5"})
    (tmp_path / "settings.yaml").write_text(dump_settings(settings))
    assert load_settings(tmp_path / "settings.yaml") == settings


def test_the_length_of_a_run_is_one_choice_of_its_layer(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(dump_settings(resolve(overrides={"tokens": "5000"})))
    later = resolve(config_file=tmp_path / "settings.yaml", overrides={"steps": "3"})
    assert (later.training.steps, later.training.tokens) == (3, None)


def test_the_folder_of_a_run_is_no_part_of_what_it_does() -> None:
    assert "out: null" in dump_settings(resolve(overrides={"out": "runs/here"}))
    assert differences(resolve(overrides={"out": "a"}), resolve(overrides={"out": "b", "name": "c"})) == {}


def test_differences_name_both_values() -> None:
    assert differences(resolve(overrides={"lr": "0.1"}), resolve(overrides={"lr": "0.2", "d_model": "8"})) == {
        "optimizer.lr": (0.1, 0.2),
        "model.d_model": (None, 8),
    }


def test_a_change_is_checked_like_any_setting() -> None:
    settings = resolve()
    assert settings.changed(training={"steps": 4}, seed=9).training.steps == 4
    with pytest.raises(BadSetting):
        settings.changed(optimizer={"lr": -1.0})


def test_settings_are_read_without_torch() -> None:
    asked = "import sys, picolab.runs.settings, picolab.runs.folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
