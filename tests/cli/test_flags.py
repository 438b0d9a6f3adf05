"""The spellings people bring."""

from __future__ import annotations

import pytest

from picolab.cli.app import build_app
from picolab.cli.flags import settings_given, spelled_our_way
from picolab.errors import BadInput, UnknownName
from picolab.runs.settings import resolve

APP = build_app()


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ("train --model lstm --steps 3", "train --model lstm --steps 3"),
        ("train --batch_size 3", "train --batch-size 3"),
        ("train --batch_size=3", "train --batch-size=3"),
        ("train --optimizer.lr 3e-4 --steps 2", "train --set optimizer.lr=3e-4 --steps 2"),
        ("train --optimizer.lr=3e-4", "train --set optimizer.lr=3e-4"),
        ("train --n-embd 64", "train --set n-embd=64"),
        ("train --tied", "train --set tied=true"),
        ("train --tied --steps 2", "train --set tied=true --steps 2"),
        ("train --compact-vocab --steps 2", "train --compact-vocab --steps 2"),
        ("train --model.dropout -1", "train --set model.dropout=-1"),
        ("compare lstm --n_layers 1 --json", "compare lstm --set n_layers=1 --json"),
        ("generate --model x --max_new_tokens 5", "generate --model x --max-new-tokens 5"),
        ("generate --model x --prompt --", "generate --model x --prompt --"),
        ("--version", "--version"),
        ("nonsense --foo", "nonsense --foo"),
    ],
)
def test_a_command_line_in_our_spelling(given, ours):
    assert spelled_our_way(APP, given.split()) == ours.split()


def test_a_verb_without_settings_takes_none():
    with pytest.raises(UnknownName, match="no option of `picolab generate` is called `--optimizer.lr`"):
        spelled_our_way(APP, ["generate", "--optimizer.lr", "3"])


def test_what_is_given_reaches_the_settings():
    spelled = spelled_our_way(APP, ["train", "--optimizer.lr", "3e-4", "--n_embd", "64", "--tied", "--d-ff=128"])
    pairs = [word for word in spelled[1:] if word != "--set"]
    settings = resolve("softmax-pico", None, settings_given(pairs, steps=7, lr=None, compact_vocab=True))
    assert settings.optimizer.lr == 3e-4
    assert settings.model.overrides == {"d_model": 64, "tied": True, "d_ff": 128}
    assert (settings.training.steps, settings.data.compact_vocab) == (7, True)


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(BadInput, match="has no value"):
        settings_given(["lr"])
