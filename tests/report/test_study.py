"""The page of a study says nothing that is not so, and can be read on a telephone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from picolab.report.study import study_page, study_report
from picolab.studies.result import StudyResult

from made_up_study import DATA, made_up, result_of, study_named


def study_of_two_texts(folder: Path, *, held_out: dict[str, bool], seeds: int = 2) -> StudyResult:
    """Two models on two texts; of which anything was held out is given."""
    models, texts = ["kgram-onehot", "llama3-lite"], ["numeric", "stories-shipped"]
    study = study_named(axes={"model": models, "data": texts, "batch_size": [4]}, seeds=seeds)
    outcomes = made_up(
        study, lambda p, s: models.index(p["model.preset"]) + s / 99, best_loss=lambda p: 1.0, tokens=lambda p: 4096.0,
        parameters=lambda p: 9e3 * (1 + models.index(p["model.preset"])),
    )  # fmt: skip
    return result_of(
        study, [replace(o, data={**DATA, "held_out": held_out[str(o.point["data.spec"])]}) for o in outcomes], folder
    )


def test_what_was_not_held_out_is_named_and_nothing_else(tmp_path: Path) -> None:
    for name, held_out, says in (
        ("all", {"numeric": True, "stories-shipped": True}, None),
        ("none", {"numeric": False, "stories-shipped": False}, "Nothing was held out of this data"),
        (
            "one",
            {"numeric": False, "stories-shipped": True},
            "Nothing was held out with data numeric: there models are scored",
        ),
    ):
        warnings = study_page(study_of_two_texts(tmp_path / name, held_out=held_out)).warnings
        assert [warning.startswith(str(says)) for warning in warnings] == ([] if says is None else [True]), name


def test_the_table_repeats_nothing_and_breaks_no_name_between_a_setting_and_its_value(tmp_path: Path) -> None:
    page = study_page(study_of_two_texts(tmp_path, held_out={"numeric": True, "stories-shipped": True}))
    assert page.table is not None
    assert [heading for heading, _ in page.table.columns] == ["Point", "loss", "parameters"], (
        "the others are alike everywhere"
    )
    assert page.table.lines[0].name == "model\N{NO-BREAK SPACE}kgram-onehot, data\N{NO-BREAK SPACE}numeric"
    facts = {fact.label: (fact.value, fact.note) for fact in page.facts}
    assert facts["batch_size"] == ("4", "its only value")
    assert facts["data"] == ("2 values", "numeric, stories-shipped")


def test_a_study_of_one_seed_speaks_of_no_band(tmp_path: Path) -> None:
    page = study_page(study_of_two_texts(tmp_path, held_out={"numeric": True, "stories-shipped": True}, seeds=1))
    said = " ".join([*(picture.says for picture in page.pictures), page.table.caption if page.table else ""])
    assert "band spans" not in said and "range" not in said and "spread" not in said


@pytest.mark.parametrize("width", [390, 1280])
def test_pictures_and_table_keep_to_the_window_and_their_letters_stay_legible(
    width: int, tmp_path: Path, visit: Any
) -> None:
    result = study_of_two_texts(tmp_path, held_out={"numeric": True, "stories-shipped": True})
    here = visit(study_report(result, tmp_path), ready="main h1", width=width)
    assert here.page.evaluate("document.documentElement.scrollWidth") <= width
    widths = here.page.eval_on_selector_all(".picture img", "all => all.map(one => one.getBoundingClientRect().width)")
    assert widths and min(widths) > 400, "10 points of 5 inches shrunk to 350 pixels would be 7 pixels high"
    if width == 1280:
        assert here.page.eval_on_selector("#h-table ~ .scroll", "box => box.scrollWidth <= box.clientWidth"), (
            "all columns are seen"
        )
    assert here.page.locator("#figures .chip").count() == 0
    here.quiet()
