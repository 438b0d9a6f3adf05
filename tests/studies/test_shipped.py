"""Each shipped study, smaller than tiny: its sentences are counted again from study.json, and a changed number is noticed."""

from __future__ import annotations

import copy
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from picolab.recipes.studies import SHIPPED, shipped
from picolab.studies.sweep import sweep
from picolab.train.setup import dataset_of

from recount import check, trials_of, turns

SMALL: dict[str, Any] = {"model.d_model": 16, "model.d_ff": 32, "data.context_length": 32, "training.batch_size": 8}
SMALLER: dict[str, tuple[dict[str, Any], dict[str, tuple[Any, ...]]]] = {
    "architectures": (
        {"training.tokens": 2000, "training.eval_batches": 4, "model.n_heads": 1, "model.d_embed": 8, "model.hidden": 8},
        {"model.preset": ("kgram-embed", "lstm", "mingpt")},
    ),
    "corpus-size": (
        {"training.steps": 20, "data.validation": 0.02, "training.eval_every": 10, "model.d_model": 8},
        {"data.train_examples": (3, 60)},
    ),
    "hyper-parameters": ({"training.steps": 8, "data.limit_examples": 60}, {"model.d_model": (16,)}),
    "overfitting": (
        {"model.d_model": 64, "model.d_ff": 128, "data.context_length": 32, "training.batch_size": 8, "training.steps": 90,
         "training.eval_every": 10},
        {"data.limit_examples": (20,)},
    ),
    "sampling": ({"training.steps": 30, "data.limit_examples": 60}, {}),
    "scaling": ({}, {"model.d_model": (8, 16, 32), "training.tokens": (256, 1024, 4096)}),
    "training-budget": (
        {"data.tokenizer": "bytes", "data.limit_examples": 20}, {"training.steps": (1, 8, 40), "model.preset": ("lstm",)}
    ),
}  # fmt: skip
UNDERSTOOD = {
    "architectures": {"effect", "front", "advice", "other_text"},
    "corpus-size": {"effect", "advice"},
    "hyper-parameters": {"effect", "front", "advice"},
    "overfitting": {"turn", "by_heart", "when_to_stop", "other_text"},
    "sampling": {"effect", "advice"},
    "scaling": {"effect", "power_law", "front", "advice"},
    "training-budget": {"effect", "front", "advice"},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, home: Path) -> dict[str, Path]:
    """Where each study lies, once it has run."""
    return {}


@pytest.fixture
def ran(
    request: pytest.FixtureRequest, folders: dict[str, Path], home: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:  # fmt: skip
    """The folder of a study, which runs once for all tests."""
    monkeypatch.setenv("PICOLAB_HOME", str(home))
    name = request.param
    if name not in folders:
        tiny = shipped(name, tiny=True)
        settings, values = SMALLER[name]
        axes = tuple(replace(axis, values=values.get(axis.name, axis.values)) for axis in tiny.axes)
        named = {axis.name for axis in axes}
        fixed = {key: value for key, value in (tiny.settings | SMALL | settings).items() if key not in named}
        folder = tmp_path_factory.mktemp("shipped") / name
        assert sweep(replace(tiny, axes=axes, settings=fixed), out=folder).complete
        folders[name] = folder
    return folders[name]


def content_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("ran", SHIPPED, indirect=True)
def test_every_sentence_agrees_with_the_rows(ran: Path) -> None:
    content = content_of(ran)
    assert check(content) >= UNDERSTOOD[content["study"]["name"]]
    with (ran / "study.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(content["trials"])
    for line, trial in zip(lines, content["trials"], strict=True):
        assert line["trial"] == trial["name"]
        assert {name: float(line[name]) for name in trial["figures"]} == trial["figures"]


@pytest.mark.parametrize("ran", SHIPPED, indirect=True)
def test_a_sentence_that_does_not_fit_its_rows_is_noticed(ran: Path) -> None:
    content = content_of(ran)
    name = "loss" if "turning" in content["study"]["ask"] else content["study"]["goal"]
    for place in (0, -1):
        other = copy.deepcopy(content)
        trial = other["trials"][place]
        trial["figures"][name] += 0.5
        if "turning" in content["study"]["ask"]:
            trial["course"]["loss"][-1] += 0.5
        with pytest.raises(AssertionError):
            check(other)


@pytest.mark.parametrize("ran", ["overfitting"], indirect=True)
def test_few_texts_are_learned_by_heart_and_the_moment_is_found_on_three_seeds(ran: Path) -> None:
    """Where the curve turns is found again by smoothing it; what is memorised rises."""
    content = content_of(ran)
    rows = trials_of(content).rows
    assert len({row["seed"] for row in rows}) == 3
    for row, place in zip(rows, turns(rows), strict=True):
        losses = np.array(row["course"]["loss"])
        smooth = np.convolve(losses, [0.25, 0.5, 0.25], "valid")  # its first entry is about evaluation 1
        assert abs(1 + int(np.argmin(smooth)) - place) <= 2, "the valley is flat: two evaluations are 16 steps"
        assert smooth[-1] > smooth.min() + 0.1, "after the turn it rises"
        assert np.all(np.diff(row["course"]["train_loss"][1:]) < 0), "while the training loss only falls"
    learned = np.array([row["course"]["memorised"] for row in rows]).mean(axis=0)
    assert learned[-1] > learned[0], "more stands in the training text at the end than at first"
    turn = next(finding for finding in content["findings"] if finding["kind"] == "turn")
    assert turn["figures"]["claimed"] and turn["figures"]["seeds"] == 3


@pytest.mark.parametrize("ran", ["corpus-size"], indirect=True)
def test_every_corpus_size_is_scored_on_the_same_text(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metas = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(ran.glob("runs/*/meta.json"))]
    held_out = {json.dumps([s for s in meta["data"]["splits"] if s["name"] == "validation"]) for meta in metas}
    learned = {s["documents"] for meta in metas for s in meta["data"]["splits"] if s["name"] == "train"}
    assert len(held_out) == 1 and learned == {3, 60}


def test_the_largest_corpus_of_the_full_study_is_all_there_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from picolab.studies.points import settings_of

    monkeypatch.setenv("PICOLAB_HOME", str(home))
    study = shipped("corpus-size")
    most = {"data.train_examples": max(study.axes[0].values)}  # type: ignore[type-var]
    settings = settings_of(study, most, 0, Path(), "x")
    whole = settings.changed(data={"train_examples": None})
    assert dataset_of(settings).train.n_documents == dataset_of(whole).train.n_documents
