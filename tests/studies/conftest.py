"""Studies small enough for a test: an LSTM of 16 numbers a layer learns 60 integer sequences for a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from picolab.studies.read import study_of
from picolab.studies.study import Study

SETTINGS: dict[str, Any] = {
    "model": "lstm", "data": "numeric", "limit_examples": 60, "steps": 4, "d_model": 8, "hidden": 8, "context_length": 16,
    "batch_size": 2, "validation": 0.1, "sample_tokens": 0, "warmup": 1, "eval_every": 2, "dtype": "float32",
}  # fmt: skip

DRAWN = ("test_every_trial_runs_once_and_the_files_say_what_the_result_says", "test_one_seed_draws_no_band")
"""Tests that look at pictures; the others do without, which spares two seconds a study."""

MakeStudy = Callable[..., Study]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data, made once for all these tests."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def content(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a YAML file would hold: two learning rates, two depths, two seeds."""
    monkeypatch.setenv("PICOLAB_HOME", str(home))
    return {
        "study": "small",
        "settings": dict(SETTINGS),
        "axes": {"lr": [0.001, 0.03], "n_layers": [1, 2]},
        "seeds": 2,
    }


@pytest.fixture
def make_study(content: dict[str, Any]) -> MakeStudy:
    """The small study with some parts changed; settings are laid over its own."""

    def make(settings: dict[str, Any] | None = None, **parts: Any) -> Study:
        return study_of({**content, **parts, "settings": {**SETTINGS, **(settings or {})}})

    return make


@pytest.fixture(autouse=True)
def _no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.originalname not in DRAWN:
        monkeypatch.setattr("picolab.studies.sweep.draw_plots", lambda result, folder: [])
