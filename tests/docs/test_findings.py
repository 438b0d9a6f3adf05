"""Every law and every cause has a page that is in step with the catalogues, and whose example prints what it shows."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from picolab.cli.app import main
from picolab.diagnose.causes.catalogue import CATALOGUE
from picolab.diagnose.laws.catalogue import LAWS
from picolab.diagnose.pages import page_of

ROOT = Path(__file__).parents[2]
FINDINGS = ROOT / "docs" / "findings"
CAUSES = [*(cause.name for cause in CATALOGUE), "dtype-noise"]
WITHOUT_PATIENT = {"device"}
"""Asks an accelerator."""


@pytest.fixture(scope="module")
def scripts():
    def load(name):
        spec = importlib.util.spec_from_file_location(name, FINDINGS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return {name: load(name) for name in ("generate_findings", "patients", "show")}


def output(name):
    text = (FINDINGS / f"{name}.md").read_text(encoding="utf-8")
    return re.search(r"<!-- shown -->\n```text\n(.*?)```\n<!-- end -->", text, re.DOTALL)[1]


def test_every_page_is_what_the_catalogues_say_and_none_is_left_over(scripts):
    made = scripts["generate_findings"].pages()
    there = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in FINDINGS.glob("*.md")}
    assert set(made) == set(there)
    assert [name for name in made if made[name] != there[name]] == [], "run python docs/generate.py"


def test_the_page_that_a_finding_or_a_cause_names_exists():
    for name in [*CAUSES, *(law.name for law in LAWS)]:
        assert (ROOT / page_of(name)).is_file(), name
    assert page_of("unknown") is None


@pytest.mark.parametrize("what", ["laws", "causes"])
def test_ls_names_the_page_of_everything_it_lists(what, capsys):
    assert main(["ls", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all((ROOT / row["page"]).is_file() for row in rows)


def test_every_name_of_the_plan_is_a_cause_or_has_a_reason_not_to_be(scripts):
    pages = scripts["generate_findings"]
    for name in pages.DESIGNED:
        assert (name in CAUSES) != (name in pages.NO_PAGE), name


def test_every_real_bug_has_a_source_and_is_an_example_of_what_exists(scripts):
    pages = scripts["generate_findings"]
    laws = {law.name for law in LAWS}
    for bug in pages._all_bugs():
        assert pages._url(bug["source"]).startswith("https://github.com/")
        assert set(bug.get("causes", ())) <= set(CAUSES) and set(bug.get("laws", ())) <= laws, bug
        assert bug.get("causes") or bug.get("laws"), bug


@pytest.mark.parametrize("name", CAUSES)
def test_on_a_causes_page_diff_names_that_cause_first(name):
    first = next(
        line for line in output(name).splitlines() if line.startswith(("   cause ", "   lead ", "   unknown "))
    )
    assert first.startswith(f"   cause   {name}: ")


def test_on_a_laws_page_doctor_says_that_this_law_is_broken(scripts):
    assert {law.name for law in LAWS} - set(scripts["patients"].PATIENTS) == WITHOUT_PATIENT
    for law in LAWS:
        if law.name not in WITHOUT_PATIENT:
            assert output(law.name).startswith(f"BROKEN  {law.name}  "), law.name


@pytest.mark.parametrize(
    "name",
    [
        "rope-theta",
        "head-order",
        "token-ids",
        "cache-stale",
        "dtype-noise",
        "causality",
        "tokenizer",
        "cache",
        "loss-curve",
    ],
)
def test_what_an_example_shows_is_what_it_prints_now(name, scripts, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    page = FINDINGS / f"{name}.md"
    assert scripts["show"].regenerated(page) == page.read_text(encoding="utf-8"), "run python docs/findings/show.py"


def test_an_example_that_prints_something_else_is_seen(scripts, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    page = tmp_path / "causality.md"
    page.write_text(
        (FINDINGS / "causality.md").read_text(encoding="utf-8").replace("BROKEN", "holds"), encoding="utf-8"
    )
    assert scripts["show"].regenerated(page) != page.read_text(encoding="utf-8")
