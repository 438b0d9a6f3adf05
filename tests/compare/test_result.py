"""A comparison on disk: JSON that says what its schema says, CSV for a spreadsheet, pictures for a paper."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from compare.test_ranking import row, setup
from picolab.compare.curves import Curve, Series
from picolab.compare.plots import draw_plots
from picolab.compare.ranking import in_words, rank
from picolab.compare.result import Attention, Comparison
from picolab.errors import BadCheckpoint


@pytest.fixture
def comparison() -> Comparison:
    rows = rank([row("ngram", 3.0, 3.1, 3.0, baseline=True), row("a", 2.0, 2.1, None), row("b", None, None, None)])
    points = Series(step=(0, 1, 2), tokens=(0, 64, 128), seconds=(0.0, 0.1, 0.2), loss=(5.5, 4.0, 2.0))
    return Comparison(
        complete=True,
        setup=setup(floor=1.5),
        rows=rows,
        ranking=in_words(rows, setup(floor=1.5)),
        curves=tuple(Curve(model="a", seed=seed, train=points, validation=points) for seed in (0, 1)),
        attention=(Attention(model="a", seed=0, tokens=("x", "y"), weights=(((1000, 400, 600),),)),),
    )


def test_what_is_saved_is_what_is_loaded(comparison: Comparison, tmp_path: Path) -> None:
    comparison.save(tmp_path)
    assert Comparison.load(tmp_path) == comparison
    assert sorted(file.name for file in tmp_path.iterdir()) == ["comparison.csv", "comparison.json", "details.json"]


def test_the_summary_holds_what_its_schema_names_and_no_number_that_json_lacks(comparison: Comparison) -> None:
    summary = comparison.summary()
    assert (
        summary.keys()
        == Comparison.schema()["properties"].keys()
        == {"format", "complete", "setup", "rows", "ranking", "families", "lengths"}
    )
    assert summary["format"] == "picolab-comparison/1"
    text = json.dumps(summary, allow_nan=False)
    assert json.loads(text)["rows"][2]["loss"] is None


def test_the_table_has_a_line_for_every_model_failed_ones_too(comparison: Comparison) -> None:
    lines = list(csv.DictReader(io.StringIO(comparison.table())))
    assert [line["model"] for line in lines] == ["a", "ngram", "b"]
    assert float(lines[0]["loss_mean"]) == pytest.approx(2.05)
    assert (lines[0]["seeds_finished"], lines[0]["seeds_failed"]) == ("2", "1")
    assert lines[0]["reason"] == "seeds 2: the loss is nan at step 7"
    assert lines[2]["loss_mean"] == ""


def test_pictures_are_drawn_the_same_every_time(comparison: Comparison, tmp_path: Path) -> None:
    written = draw_plots(comparison, tmp_path / "one")
    names = [
        "loss.png",
        "loss.svg",
        "loss-log.png",
        "loss-log.svg",
        "training-loss.png",
        "training-loss.svg",
        "final.png",
        "final.svg",
    ]
    assert [path.name for path in written] == names
    for path, again in zip(written, draw_plots(comparison, tmp_path / "two"), strict=True):
        assert path.read_bytes() == again.read_bytes()
    assert "exact floor 1.50" in (tmp_path / "one" / "loss.svg").read_text()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("comparison.json", None, "`{folder}` has no comparison.json"),
        ("details.json", None, "`{folder}` has no details.json"),
        ("comparison.json", "", "the comparison in `{folder}` cannot be read: Expecting value: line 1 column 1 (char 0)"),
        ("comparison.json", '{"format": "old"}', "`{folder}/comparison.json` has format `old`, not `picolab-comparison/1`"),
        ("comparison.json", "[]", "`{folder}/comparison.json` has format `None`, not `picolab-comparison/1`"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_comparison_is_refused(
    comparison: Comparison, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    comparison.save(tmp_path)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_text(content)
    with pytest.raises(BadCheckpoint) as caught:
        Comparison.load(tmp_path)
    assert str(caught.value) == message.format(folder=tmp_path)
