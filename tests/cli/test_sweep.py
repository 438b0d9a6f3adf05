"""`picolab sweep` as a person meets it: files, names, folders, a forecast, errors in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from picolab.studies.plots.pictures import PICTURES

STUDY = {
    "study": "small",
    "settings": {
        "model": "lstm", "data": "numeric", "limit_examples": 60, "steps": 3, "d_model": 8, "hidden": 8, "context_length": 16,
        "batch_size": 2, "validation": 0.1, "sample_tokens": 0,
    },
    "axes": {"lr": [0.001, 0.03]},
    "seeds": 2,
}  # fmt: skip


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    return path


def test_a_study_runs_is_told_in_words_and_goes_on_by_its_folder(study, picolab, tmp_path, monkeypatch):
    for name in set(PICTURES) - {"line"}:  # one picture is enough to look at
        monkeypatch.delitem(PICTURES, name)
    ran = picolab("sweep", str(study), "--out", "out")
    assert ran.code == 0
    assert "4/4  lr 0.03, seed 1: loss " in ran.err
    assert ran.out.startswith("small: validation loss in nats a token, lower is better\n")
    for word in ("Take lr ", "out/report.html", "out/study.json", "picolab generate --model out/runs/p000"):
        assert word in ran.out
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "data:image/svg+xml;base64" in page and "http://" not in page.replace("http://www.w3.org", "")
    again = picolab("sweep", "out", "--json")
    assert again.document["complete"] is True
    assert again.document["findings"][0]["kind"] == "effect"
    assert picolab("report", "out").out.strip() == "out/report.html"
    refused = picolab("sweep", "out", "--tiny")
    assert (refused.code, refused.err.splitlines()[0]) == (2, "`out` holds a study already, which goes on as it began")


def test_a_dry_run_says_what_it_takes_and_runs_nothing(study, picolab, tmp_path):
    ran = picolab("sweep", str(study), "--dry-run")
    assert ran.out.startswith("4 runs: 2 points, 2 seeds each\nabout ")
    assert "of disk for checkpoints" in ran.out
    assert not (tmp_path / "runs").exists()
    assert picolab("sweep", str(study), "--dry-run", "--seeds", "5", "--json").document["runs"] == 10


def test_shipped_studies_are_listed_with_how_many_runs_they_have(picolab):
    rows = picolab("ls", "studies", "--json").document
    assert {row["name"] for row in rows} == {
        "architectures", "corpus-size", "hyper-parameters", "overfitting", "sampling", "scaling", "training-budget"
    }  # fmt: skip
    assert all(row["tiny"] < row["runs"] and row["asks"].endswith("?") for row in rows)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["overfiting"], "no study or file is called `overfiting`", "did you mean `overfitting`?"),
        (["none.yaml"], "there is no study `none.yaml`", "`picolab ls studies` lists the shipped ones"),
        (["small.yaml", "--workers", "0"], "0 workers do nothing", "1, or as many as there are cores"),
        (["small.yaml", "--seeds", "two"], "`--seeds` is `two`, not a number or a list", "--seeds 3, or --seeds 0,3,4"),
        (["small.yaml", "--tiny"], "this study has no tiny version", "give it a section `tiny`, or leave out --tiny"),
        (
            ["small.yaml", "--seeds", "9000"],
            "the study asks for 18,000 runs, more than 10,000",
            "leave out values, or draw some: `method: random` with `points: 50`; if it is meant, say --yes",
        ),
    ],
)
def test_a_request_that_cannot_be_met_gets_one_sentence(words, message, hint, study, picolab, tmp_path):
    ran = picolab("sweep", *words)
    assert (ran.code, ran.out) == (2, "")
    assert [line for line in ran.err.splitlines() if line and not line.startswith("small: writing")] == [
        message,
        f"hint: {hint}",
    ]
    assert not (tmp_path / "runs").exists()
