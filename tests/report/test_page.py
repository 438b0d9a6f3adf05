"""The page as a file: complete in itself, small, escaped, and true to the numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from picolab.compare.result import Comparison
from picolab.report import figures
from picolab.report.comparison import command_of, comparison_page, comparison_report
from picolab.report.dots import dot_plot, ticks
from picolab.report.page import render


def test_the_file_is_written_whole_and_stays_small(comparison: Comparison, tmp_path: Path) -> None:
    path = comparison_report(comparison, tmp_path)
    assert path == tmp_path / "report.html"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert path.stat().st_size < 400_000


def test_nothing_in_the_file_points_outside_of_it(comparison: Comparison) -> None:
    html = render(comparison_page(comparison))
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', html) == []
    assert re.findall(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", html) == []


def test_the_same_comparison_gives_the_same_bytes(comparison: Comparison) -> None:
    assert render(comparison_page(comparison)) == render(comparison_page(comparison))


def test_no_hostile_text_leaves_its_place(comparison: Comparison) -> None:
    hostile = "</script><script>alert(1)</script>"
    rows = tuple(replace(row, says=hostile, family=hostile) for row in comparison.rows)
    changed = replace(
        comparison,
        rows=rows,
        ranking=(hostile, hostile),
        setup=replace(comparison.setup, data=hostile, tokenizer=hostile, machine=hostile, prompt=hostile),
    )
    html = render(comparison_page(changed))
    assert "<script>alert" not in html
    assert html.count("</script>") == 3  # the curves' data, the attention's data, the one program


def test_every_sentence_of_the_ranking_is_on_the_page(comparison: Comparison) -> None:
    text = re.sub(r"<[^>]+>", "", render(comparison_page(comparison)))
    for sentence in comparison.ranking:
        assert sentence in text


def test_a_part_without_data_is_left_out(comparison: Comparison) -> None:
    bare = replace(
        comparison, curves=(), attention=(), rows=tuple(replace(row, samples=(), size=None) for row in comparison.rows)
    )
    html = render(comparison_page(bare))
    for absent in ("How they learned", "Where they look", "What they write", "Where the parameters are"):
        assert absent not in html
    assert "The figures" in html


def test_a_comparison_in_which_all_failed_still_has_a_page(comparison: Comparison) -> None:
    failed = tuple(row for row in comparison.rows if row.loss is None)
    html = render(
        comparison_page(replace(comparison, rows=failed, ranking=("No model finished, so there is nothing to rank.",)))
    )
    assert "No model finished" in html
    assert "the loss is nan at step 37" in html
    assert "Where each model ended" not in html


def test_an_interrupted_comparison_says_so(comparison: Comparison) -> None:
    assert "was interrupted" in render(comparison_page(replace(comparison, complete=False)))
    assert "was interrupted" not in render(comparison_page(comparison))


def test_the_command_repeats_the_comparison(comparison: Comparison) -> None:
    assert command_of(comparison) == (
        "picolab compare softmax-pico lstm ngram kgram-embed gpt2-hot "
        "--data stories --tokens 200000 --seeds 2 --training.batch_size 8"
    )


def test_the_dot_plot_keeps_every_mark_inside_and_in_order(comparison: Comparison) -> None:
    plot = dot_plot(comparison.rows, comparison.setup, {row.model: "m0" for row in comparison.rows})
    assert plot is not None
    means = [row.mean for row in plot.rows]
    assert means == sorted(means)
    places = [*means, *(mark.at for mark in plot.marks), *(at for at, _ in plot.ticks)]
    assert all(0 <= place <= 100 for place in places)
    assert [mark.kind for mark in plot.marks] == ["floor", "baseline"]  # the uniform guess is far off and told in words


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (2.39, 3.31, ["2.4", "2.6", "2.8", "3.0", "3.2"]),
        (0.0, 5.0, ["0", "1", "2", "3", "4", "5"]),
        (10.70, 10.76, None),
    ],
)
def test_ticks_are_round_and_told_apart(low: float, high: float, labels: list[str] | None) -> None:
    made = [label for _, label in ticks(low, high)]
    assert labels is None or made == labels
    assert len(set(made)) == len(made) >= 3


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (figures.short, 950, "950"),
        (figures.short, 12_345, "12.3 k"),
        (figures.short, 999_949, "1.00 M"),
        (figures.short, 6_861_440, "6.86 M"),
        (figures.short, 0, "0"),
        (figures.short, None, "–"),
        (figures.memory, 512, "512 B"),
        (figures.memory, 34.5 * 2**20, "34.5 MiB"),
        (figures.memory, 2**30, "1.00 GiB"),
        (figures.seconds, 0.44, "0.4 s"),
        (figures.seconds, 59.7, "1 min 00 s"),
        (figures.seconds, 7_500, "2 h 05 min"),
        (figures.whole, 50_257, "50,257"),
        (figures.loss, 2.40854, "2.409"),
        (figures.printable, "a\x00\x1bb\n\tc\ud800", "a␀␛b\n\tc?"),
    ],
)
def test_figures_are_written_for_people(write: object, value: object, text: str) -> None:
    assert callable(write)
    assert write(value) == text
