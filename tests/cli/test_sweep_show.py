"""A study in a terminal of 80 columns: while it runs and when it is told, no number is cut and no heading is broken."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from picolab.cli.sweep_display import SweepDisplay
from picolab.cli.sweep_show import points_table
from picolab.studies.points import grid, trials_of
from picolab.studies.result import StudyResult
from picolab.studies.work import TrialBegins, TrialEnds
from picolab.train.events import Step

from made_up_study import made_up, result_of, study_named

AXES = {
    "model": ["lstm", "gpt-oss"], "d_model": [16, 32], "context_length": [32], "n_layers": {"values": [1, 2], "only": "lstm"},
    "n_heads": {"values": [2, 4], "only": "gpt-oss"}, "lr": [0.002, 0.008],
}  # fmt: skip


def study_of_many_settings(folder: Path, **parts: Any) -> StudyResult:
    study = study_named("many", axes=AXES, seeds=2, each=["model"], **parts)
    return result_of(study, made_up(study, lambda p, s: len(str(p)) + s / 9, seconds=lambda p: 1234.5), folder)


def shown(what: Any, width: int) -> list[str]:
    page = io.StringIO()
    Console(file=page, width=width, no_color=True).print(what)
    return [line.rstrip() for line in page.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("width", "columns"),
    [(80, "model d_model n_layers n_heads lr loss over seeds seconds"), (60, "point loss over seeds")],
)
def test_no_heading_and_no_number_is_broken(width: int, columns: str, tmp_path: Path) -> None:
    lines = shown(points_table(study_of_many_settings(tmp_path), width), width)
    assert " ".join(lines[1].split()) == columns, "what has one value, and a status that all have, take no room"
    rows = [line for line in lines[2:] if " to " in line]
    assert len(rows) == 16
    assert all(len(line) <= width for line in lines[1:])


def test_points_of_different_conditions_are_not_ranked_together_and_a_failure_has_a_status(tmp_path: Path) -> None:
    result = study_of_many_settings(tmp_path)
    models = [line.split()[0] for line in shown(points_table(result, 80), 80)[2:]]
    assert models == ["lstm"] * 8 + ["gpt-oss"] * 8
    failed = replace(result, points=(replace(result.points[0], status="failed", figures={}), *result.points[1:]))
    lines = shown(points_table(failed, 90), 90)
    assert "status" in lines[1] and sum("failed" in line for line in lines) == 1


def test_the_live_table_keeps_steps_loss_and_seed_of_trials_with_long_names(tmp_path: Path) -> None:
    study = study_named("many", axes=AXES, seeds=2)
    console = Console(file=io.StringIO(), width=80, force_terminal=True, no_color=True)
    display = SweepDisplay(console, study, tmp_path)
    assert shown(display._table(), 80) == ["starting"], "no headings over nothing"
    trials = trials_of(study, grid(study))
    step = Step(
        step=120,
        steps=400,
        tokens=1,
        loss=2.41,
        lr=0.1,
        grad_norm=1.0,
        seconds=1.0,
        tokens_per_second=1.0,
        eta_seconds=72.0,
    )
    for worker, trial in ((0, trials[1]), (1, trials[-1])):
        display(worker, TrialBegins(trial=trial, done=0, of=len(trials)))
        display(worker, step)
    _, head, *rows = shown(display._table(), 80)
    assert head.split() == ["worker", "trial", "step", "loss", "ETA"]
    for row in rows:
        assert row.endswith("seed 1  120/400  2.410  72 s") and "…" in row and "model" in row
    display.done = len(trials) - 1
    done = result_of(study, made_up(study, lambda p, s: 2.0), tmp_path / "done").trials[-1]
    display(1, TrialEnds(trial=trials[-1], outcome=done))
    lines = shown(display._table(), 80)
    assert len(lines) == 1 and "gathering" in lines[0], "nobody works, nobody waits"
