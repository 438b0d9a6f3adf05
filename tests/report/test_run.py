"""The page of one run, from the run's folder alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from picolab.compare.curves import Series
from picolab.report.page import render
from picolab.report.run import in_words, run_page, run_report
from picolab.runs.folder import Run
from picolab.runs.settings import resolve
from picolab.train.loop import train

TINY = {
    "data": "numeric", "limit_examples": 300, "context_length": 32, "batch_size": 4, "steps": 6, "warmup": 2,
    "eval_every": 2, "eval_batches": 2, "sample_every": 2, "sample_tokens": 6, "d_model": 16, "d_ff": 32, "n_layers": 1,
    "validation": 0.1, "dtype": "float32",
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("PICOLAB_HOME", str(tmp_path / "cache"))
    return train(resolve("softmax-pico", overrides={**TINY, "out": str(tmp_path / "run")}))


def test_the_page_of_a_run_works_in_a_browser(run: Run, visit: Any) -> None:
    here = visit(run_report(run))
    assert here.page.title() == "softmax-pico learns numeric · picolab"
    assert here.page.locator('.chart [data-model="softmax-pico"]').count() == 1
    assert here.page.get_by_role("tab").all_inner_texts() == ["step 0", "step 2", "step 4", "step 6"]
    assert here.page.get_by_role("radio", name="layer 0, head 1").count() == 1
    here.quiet()


def test_its_numbers_are_those_of_the_run(run: Run) -> None:
    text = re.sub(r"<[^>]+>", "", render(run_page(run)))
    losses = [row["val/loss"] for row in run.metrics() if "val/loss" in row]
    assert f"from {losses[0]:.3f} to {losses[-1]:.3f} nats a token in 6 steps" in text
    assert "picolab train --config run/settings.yaml" in text


def test_a_run_without_a_checkpoint_has_a_page_too(run: Run) -> None:
    for checkpoint in run.checkpoints:
        (checkpoint.path / "model.safetensors").unlink()
    html = render(run_page(run))
    assert "softmax-pico learns numeric" in html
    assert "Where they look" not in html


def series(*loss: float) -> Series:
    steps = tuple(range(len(loss)))
    return Series(step=steps, tokens=tuple(100 * s for s in steps), seconds=tuple(float(s) for s in steps), loss=loss)


def test_a_rise_at_the_end_is_told_with_its_place() -> None:
    said = in_words(series(6.0, 4.0, 2.0), series(6.0, 3.0, 3.5), status="finished", says="")
    assert said[0] == "Held-out loss fell from 6.000 to 3.500 nats a token in 2 steps (200 tokens, 2.0 s)."
    assert said[1] == "It was lowest at step 1, 3.000, and 0.500 higher at the end."
    assert said[2].endswith("the training loss was 2.000 on average, the held-out loss at the end is 1.500 above it.")


def test_a_run_that_still_falls_is_told_to_have_room() -> None:
    said = in_words(Series(), series(6.0, 3.0), status="interrupted", says="stopped at step 1")
    assert said[1] == "The last held-out loss is the lowest one: more steps may bring it lower."
    assert said[-1] == "The run is interrupted: stopped at step 1."


def test_nothing_measured_is_told_as_nothing() -> None:
    assert in_words(Series(), Series(), status="running", says="") == (
        "Nothing has been measured on held-out text yet.",
        "The run is running.",
    )
