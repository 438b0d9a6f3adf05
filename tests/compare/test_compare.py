"""The whole comparison, on real data, with real runs on disk."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from picolab.compare import outcome as outcomes
from picolab.compare import sequences
from picolab.compare.compare import Report, RunBegins, RunEnds, compare
from picolab.compare.result import Comparison
from picolab.errors import Diverged
from picolab.measure.loss import evaluate
from picolab.report.comparison import comparison_page
from picolab.report.page import render
from picolab.runs.folder import Run
from picolab.train.events import Step
from picolab.weights.checkpoint import load_model
from picolab.zoo import PRESETS

TINY = {
    "context_length": "32", "batch_size": "4", "warmup": "2",
    "limit_examples": "300", "dtype": "float32", "sample_tokens": "4", "eval_batches": "2", "validation": "0.1",
}  # fmt: skip

SMALLER = {
    "kgram-embed": {"hidden": 16},
    "lstm": {"d_model": 16, "hidden": 16},
    "softmax-pico": {"d_model": 16, "d_ff": 32, "n_layers": 1},
}

Compare = Callable[..., Comparison]

DRAWN = ("test_every_model_is_judged_with_every_seed_and_the_files_are_there",)
"""Tests that look for pictures; the others draw none."""


@pytest.fixture
def small(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """`compare` on 300 integer sequences, a few steps a run, everything under a temporary folder."""
    monkeypatch.setenv("PICOLAB_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sequences, "DOCUMENTS", 40)
    monkeypatch.setattr(sequences, "LONGER_DOCUMENTS", 10)
    if request.node.originalname not in DRAWN:
        for name in ("draw_plots", "draw_sequence_plots"):
            monkeypatch.setattr(f"picolab.compare.compare.{name}", lambda comparison, folder: [])
    for preset, sizes in SMALLER.items():
        entry = PRESETS[preset]
        monkeypatch.setitem(PRESETS, preset, replace(entry, settings={**entry.settings, **sizes}))

    def run(models: tuple[str, ...] = ("kgram-embed", "softmax-pico"), **changed: Any) -> Comparison:
        asked = {
            "data": "numeric:numbers=32:longest=8:documents=2000",
            "tokens": 600,
            "out": tmp_path / "out",
            "new_tokens": 5,
            **changed,
        }
        asked["overrides"] = TINY
        return compare(models, **asked)

    return run


def test_every_model_is_judged_with_every_seed_and_the_files_are_there(small: Compare, tmp_path: Path) -> None:
    told: list[Any] = []
    comparison = small(report=told.append)
    assert comparison.complete
    assert {row.model for row in comparison.rows} == {"kgram-embed", "softmax-pico", "ngram"}
    for row in comparison.rows:
        assert row.loss is not None
        assert row.loss.seeds == 2
        assert 0 < row.loss.mean < 2 * comparison.setup.uniform
        assert [sample.sampler for sample in row.samples] == ["greedy", "p=0.95", "p=1"]
        assert len({sample.prompt for sample in row.samples}) == 1
        assert row.size is not None
        assert row.size.total == row.size.trainable + row.size.frozen
    assert comparison.setup.floor is not None
    best = comparison.rows[0]
    assert best.excess is not None and best.loss is not None
    assert best.excess.mean == pytest.approx(best.loss.mean - comparison.setup.floor)
    assert [one.model for one in comparison.attention] == ["softmax-pico"]
    out = tmp_path / "out"
    assert Comparison.load(out) == comparison
    assert {path.name for path in out.iterdir()} == {
        "plan.json", "comparison.json", "comparison.csv", "details.json", "outcomes", "runs", "plots"
    }  # fmt: skip
    assert len([event for event in told if isinstance(event, RunBegins)]) == 6
    assert [event.number for event in told if isinstance(event, RunEnds)] == [1, 2, 3, 4, 5, 6]
    assert "Where they look" in render(comparison_page(comparison))


def test_a_row_is_what_its_run_on_disk_says(small: Compare, tmp_path: Path) -> None:
    comparison = small(("kgram-embed",), seeds=[3])
    figures = next(row for row in comparison.rows if row.model == "kgram-embed").runs[0]
    run = Run.open(tmp_path / "out" / figures.run)
    assert run.status == "finished"
    assert run.settings.seed == 3
    assert figures.tokens == run.metrics()[-1]["tokens"]
    assert abs((figures.tokens or 0) - 600) < 200  # the budget, in whole steps
    last = run.last()
    assert last is not None
    held = outcomes.Loader(_validation(run), batch_size=1, context_length=32, seed=9).epoch()
    assert figures.loss == pytest.approx(evaluate(load_model(last.path), held).nats_per_token, abs=1e-5)


def test_a_seed_gives_all_models_the_same_text_in_the_same_order(small: Compare, tmp_path: Path) -> None:
    small()
    tokens = {}
    for seed in (0, 1):
        for model in ("kgram-embed", "softmax-pico"):
            rows = Run.open(tmp_path / "out" / "runs" / f"{model}_seed-{seed}").metrics()
            tokens[model, seed] = [row["tokens"] for row in rows if "train/loss" in row]
    assert tokens["kgram-embed", 0] == tokens["softmax-pico", 0]
    assert tokens["kgram-embed", 0] != tokens["kgram-embed", 1]


def test_the_same_command_again_trains_nothing_and_says_the_same(small: Compare) -> None:
    first = small()
    told: list[Any] = []
    again = small(report=told.append)
    assert again == first
    assert all(isinstance(event, RunEnds) and event.kept for event in told)


def test_a_model_added_later_joins_those_that_are_there(small: Compare) -> None:
    small(("kgram-embed",))
    told: list[Any] = []
    comparison = small(("lstm",), report=told.append)
    assert {row.model for row in comparison.rows} == {"kgram-embed", "ngram", "lstm"}
    assert {event.model for event in told if isinstance(event, RunBegins)} == {"lstm"}


def test_a_run_that_diverges_is_a_row_with_its_reason(
    small: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = outcomes.train

    def hot(settings: Any, **more: Any) -> Run:
        if settings.model.preset == "kgram-embed" and settings.seed == 1:
            settings = settings.changed(optimizer={"lr": 1e30, "min_lr": 1e30, "clip": 0.0, "warmup": 0})
        return train(settings, **more)

    monkeypatch.setattr(outcomes, "train", hot)
    comparison = small()
    row = next(row for row in comparison.rows if row.model == "kgram-embed")
    assert [run.status for run in row.runs] == ["finished", "failed"]
    assert row.loss is not None
    assert row.loss.seeds == 1
    assert any(sentence.startswith("kgram-embed did not finish with seed 1: ") for sentence in comparison.ranking)
    assert row.runs[1].reason in comparison.table()
    monkeypatch.setattr(outcomes, "train", _never)
    assert small() == comparison  # the reason is on disk: nothing is tried again


def test_a_model_that_never_finished_is_a_row_too(small: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    train = outcomes.train

    def broken(settings: Any, **more: Any) -> Run:
        run = train(settings, **more)
        if settings.model.preset == "softmax-pico":
            raise Diverged("the loss is nan at step 3")
        return run

    monkeypatch.setattr(outcomes, "train", broken)
    comparison = small()
    assert comparison.rows[-1].model == "softmax-pico"
    assert comparison.rows[-1].loss is None
    assert "Did not finish." in render(comparison_page(comparison))


@pytest.mark.parametrize("at", ["in a step", "between runs"])
def test_interrupted_it_keeps_what_is_finished_and_goes_on_from_there(small: Compare, tmp_path: Path, at: str) -> None:
    comparison = small(report=_interrupt(at))
    assert not comparison.complete
    assert Comparison.load(tmp_path / "out") == comparison
    done = {(row.model, run.seed) for row in comparison.rows for run in row.runs}
    assert 0 < len(done) < 6
    told: list[Any] = []
    whole = small(report=told.append)
    assert whole.complete
    assert {(event.model, event.run.seed) for event in told if isinstance(event, RunEnds) and event.kept} == done
    undisturbed = small(out=tmp_path / "other")
    assert [(row.model, row.loss, row.samples) for row in whole.rows] == [
        (row.model, row.loss, row.samples) for row in undisturbed.rows
    ]


def test_interrupted_before_anything_finished_it_still_answers(small: Compare) -> None:
    def at_once(event: object) -> None:
        if isinstance(event, RunBegins):
            raise KeyboardInterrupt

    comparison = small(report=at_once)
    assert not comparison.complete
    assert comparison.rows == ()
    assert "No model finished" in render(comparison_page(comparison))


def test_a_run_killed_while_its_folder_was_made_is_begun_again(small: Compare, tmp_path: Path) -> None:
    half = tmp_path / "out" / "runs" / "ngram_seed-0"
    small(("kgram-embed",), seeds=1)
    (tmp_path / "out" / "outcomes" / "ngram_seed-0.json").unlink()
    (half / "meta.json").unlink()
    comparison = small(("kgram-embed",), seeds=1)
    assert comparison.complete
    assert (half / "meta.json").exists()


def test_the_summary_is_plain_json(small: Compare, tmp_path: Path) -> None:
    small(("kgram-embed",), seeds=1)
    content = json.loads((tmp_path / "out" / "comparison.json").read_text(), parse_constant=_refuse)
    assert content["complete"] is True
    assert {row["model"] for row in content["rows"]} == {"kgram-embed", "ngram"}


def _validation(run: Run) -> Any:
    from picolab.compare.compare import dataset_of

    return dataset_of(run.settings).validation


def _interrupt(at: str) -> Report:
    """Ctrl-C in the third run, where a person would press it."""
    begun = 0

    def listen(event: object) -> None:
        nonlocal begun
        begun += isinstance(event, RunBegins)
        if begun == 3 and at == "between runs":
            raise KeyboardInterrupt
        # The third run counts n-grams in one go and has no steps: the signal comes in the fourth.
        if begun == 4 and isinstance(event, Step) and event.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    return listen


def _never(*_: Any, **__: Any) -> Run:
    raise AssertionError("a run was trained again")


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
