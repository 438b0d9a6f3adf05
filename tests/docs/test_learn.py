"""Every output in the lessons is what their commands print now; and the comparison sees what is out of step."""

import importlib.util
from pathlib import Path

import pytest

LESSONS = Path(__file__).parents[2] / "docs" / "learn"


@pytest.fixture(scope="module")
def show():
    spec = importlib.util.spec_from_file_location("show", LESSONS / "show.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_output_in_the_lessons_is_what_the_commands_print_now(show, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    pages = show.regenerated(tmp_path)
    assert len(pages) == 7
    stale = [name for name, text in pages.items() if text != (LESSONS / name).read_text(encoding="utf-8")]
    assert not stale, "run python docs/learn/show.py and look at what changed"


def test_every_lesson_ends_with_a_command_and_a_question_whose_answer_is_shown():
    for page in sorted(LESSONS.glob("[1-9]-*.md")):
        last = page.read_text(encoding="utf-8").split("## Try it")[1]
        assert "```sh\npicolab " in last and "**Question.**" in last, page.name
        assert "<!-- shown" in last.split("<summary>Answer</summary>")[1], page.name


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("mean 0.471  std 2.55", "mean 0.472\n std 2.54", True),
        ("mean 0.471", "mean 0.571", False),
        ("looks at 5", "looks at 6", False),
        ("looks at `6`", "looks at `4`", False),
        ("13 % of", "14 % of", True),
        ("parts/attention.py:255", "parts/attention.py:256", False),
        ("within 1.2e-07", "within 2.4e-07", True),
        ("one word", "one more word", False),
    ],
)
def test_what_counts_as_the_same_output(show, old, new, same):
    assert show.alike(old, new) is same
