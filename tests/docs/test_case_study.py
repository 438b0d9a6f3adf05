"""The engine that babbles: what the study shows is what its commands print now, and it tells the story it claims."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "guides" / "case-study-babbling-engine.md"


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text(encoding="utf-8")


def outputs(page):
    return [found[1] for found in re.finditer(r"<!-- shown.*? -->\n```text\n(.*?)```\n", page, re.DOTALL)]


def test_every_output_of_the_study_is_what_its_commands_print_now(page, monkeypatch):
    """Texts to the letter, verdicts to the word; the babble and the digits are the processor's, and need only be what they are."""
    monkeypatch.setenv("NO_COLOR", "1")
    spec = importlib.util.spec_from_file_location("show_findings", DOCS / "findings" / "show.py")
    show = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(show)
    made, stands = story(outputs(show.regenerated(PAGE))), story(outputs(page))
    assert made == stands, "run python docs/findings/show.py case-study-babbling-engine"


def story(shown):
    """What does not hang on a training's last digits, and that the babble is no text."""
    right, babble, *rest = shown
    assert babble.replace("Ġ", " ") != right and "Ġ" in babble
    return right, *(re.sub(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", "#", text) if "Ġ" not in text else text for text in rest)


def test_the_study_leads_from_babble_to_one_cause_and_from_the_repair_to_the_same_text(page):
    right, babble, named, nearly, proof, broken, repaired = outputs(page)
    assert "Ġ" in babble and babble.replace("Ġ", " ") != right
    assert named.count("born at") == 1 and "   cause   rope-pairing: " in named and "(0,1)(2,3)" in named
    assert nearly != right and proof.startswith("noise: ")
    assert broken.startswith("BROKEN  tokenizer")
    assert repaired.strip() == right.strip()


def test_the_lines_the_study_quotes_stand_in_its_scripts(page):
    scripts = "".join(
        (DOCS / "guides" / "babbling" / name).read_text(encoding="utf-8") for name in ("engine.py", "fixed.py")
    )
    quoted = [line for block in re.findall(r"```py\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(quoted) == 7 and all(line.strip() in scripts for line in quoted)
