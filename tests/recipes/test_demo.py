"""The demo on a tiny budget: the same code, seconds instead of a minute."""

from dataclasses import replace

import pytest

from picolab.compare import sequences
from picolab.recipes import demo

NUMBERS = demo.PARTS[0]


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("PICOLAB_HOME", str(tmp_path / "home"))
    fewer = {NUMBERS.data: f"{NUMBERS.data}:documents=1000"}
    parts = tuple(replace(part, tokens=4000, data=fewer.get(part.data, part.data)) for part in demo.PARTS)
    monkeypatch.setattr(demo, "PARTS", parts)
    monkeypatch.setattr(sequences, "DOCUMENTS", 40)
    monkeypatch.setattr(sequences, "LONGER_DOCUMENTS", 10)


def test_it_ends_with_two_comparisons_predictions_and_a_page(tmp_path):
    events = []
    found = demo.demo(tmp_path / "demo", report=events.append)
    assert found.complete and events
    assert [name for name, _ in found.parts] == ["numbers", "stories"]
    for name, comparison in found.parts:
        assert len(comparison.rows) == 4 and all(row.loss is not None for row in comparison.rows)
        assert (tmp_path / "demo" / name / "report.html").exists()
    assert {p.model for p in found.predictions} == {"ngram", "kgram-embed", "lstm", "softmax-pico"}
    for prediction in found.predictions:
        for choices in (prediction.before, prediction.after):
            chances = [chance for _, chance in choices]
            assert len(chances) == 3 and chances == sorted(chances, reverse=True) and 0 < sum(chances) <= 1
    page = found.report.read_text(encoding="utf-8")
    assert "What follows 2 4 6 8?" in page
    assert 'href="numbers/report.html"' in page and 'href="stories/report.html"' in page
    for _, comparison in found.parts:
        for row in comparison.rows:
            assert row.model in page


def test_what_counting_learned_is_what_the_rule_says(tmp_path, monkeypatch):
    numbers = replace(NUMBERS, tokens=60_000, models=("ngram",))
    monkeypatch.setattr(demo, "PARTS", (numbers,))
    (prediction,) = demo.demo(tmp_path / "demo").predictions
    assert prediction.right and prediction.after[0][0] == demo.ANSWER
    assert prediction.before[0][1] < 0.1


def test_an_interrupted_demo_goes_on_where_it_stopped(tmp_path, monkeypatch):
    for name in ("draw_plots", "draw_sequence_plots"):  # pictures are looked for above
        monkeypatch.setattr(f"picolab.compare.compare.{name}", lambda comparison, folder: [])

    def stop(event):
        if type(event).__name__ == "RunBegins" and event.model == "lstm":
            raise KeyboardInterrupt

    begun = demo.demo(tmp_path / "demo", report=stop)
    assert not begun.complete and len(begun.parts) == 1
    kept = []
    found = demo.demo(
        tmp_path / "demo", report=lambda e: kept.append(e.kept) if type(e).__name__ == "RunEnds" else None
    )
    assert found.complete and kept[:2] == [True, True] and not any(kept[2:])
