"""The guide to attention from counts: its outputs are what its commands print now, and they show what it claims."""

import importlib.util
import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "guides" / "counted-attention.md"


def test_every_output_of_the_guide_is_what_its_commands_print_now(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    spec = importlib.util.spec_from_file_location("show_findings", DOCS / "findings" / "show.py")
    show = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(show)
    text = show.regenerated(PAGE)
    assert text == PAGE.read_text(encoding="utf-8"), "run python docs/findings/show.py counted-attention"
    counted, exact, looks = re.findall(r"<!-- shown.*? -->\n```text\n(.*?)```\n", text, re.DOTALL)
    assert len(counted.splitlines()) == 5
    assert exact.count("exact True in float64, True in float32") == 4
    assert looks.count("the token before  1.000") == 2 and looks.count("2 tokens back     1.000") == 2
