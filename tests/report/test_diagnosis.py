"""The pages of `diff` and `doctor`: what they show is what was found, and a browser can read every number of it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from picolab.diagnose.diff import diff
from picolab.diagnose.exhibit import piece_of, position_errors
from picolab.diagnose.laws.catalogue import LAWS
from picolab.diagnose.laws.law import Finding, Patient, examine
from picolab.diagnose.strange import STRANGE
from picolab.diagnose.verdict import Verdict
from picolab.diagnose.walk import Key, difference, walk
from picolab.report.diagnosis.diff_page import diff_page, write_diff_page
from picolab.report.diagnosis.doctor_page import doctor_page, write_doctor_page
from picolab.report.diagnosis.error_picture import shade
from picolab.report.diagnosis.evidence import said

from faulty_twins import FEW, SCHEDULE, anatomy, example, faulty, of_model, recording, twin

HOSTILE = "</script><script>window.hurt = 1</script>"


def two_faults() -> Verdict:
    return diff(
        twin("qwen2"), faulty("qwen2", example("qwen2", "rope-pairing"), example("qwen2", "activation")), show=True
    )


@pytest.fixture(scope="module")
def verdict() -> Verdict:
    return two_faults()


def shown(path: Path, name: str) -> Any:
    found = re.search(rf'id="{name}">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_error_by_position_is_the_difference_of_the_place(verdict: Verdict) -> None:
    assert verdict.exhibit is not None
    natural = walk(anatomy("qwen2"), SCHEDULE)
    faults = [example("qwen2", "rope-pairing"), example("qwen2", "activation")]
    wrong = walk(anatomy("qwen2"), SCHEDULE, faults=faults)
    for place in verdict.exhibit.places:
        prefill, step = (Key(phase, n, place.site) for phase, n in (("prefill", 0), ("decode", 1)))
        assert max(place.by_position[:13]) == pytest.approx(difference(natural[prefill], wrong[prefill], place.site))
        assert place.by_position[14] == pytest.approx(difference(natural[step], wrong[step], place.site))
    assert len(verdict.exhibit.places) == len({key.site for key in natural})


def test_a_place_adds_error_only_where_its_own_line_is_wrong(verdict: Verdict) -> None:
    assert verdict.exhibit is not None
    adding = {place.site for place in verdict.exhibit.places if place.added > place.may_add}
    kinds = {"attention.q_rope", "attention.k_rope", "mlp.act"}
    assert adding == {f"blocks.{layer}.{kind}" for layer in range(3) for kind in kinds}
    assert all(place.after <= place.allowed for place in verdict.exhibit.places)
    assert sum(place.error > place.allowed for place in verdict.exhibit.places) > 40


def test_a_piece_shows_target_reference_and_the_mistake_where_they_are_furthest_apart(verdict: Verdict) -> None:
    assert verdict.exhibit is not None
    first, second = verdict.exhibit.pieces
    assert first is not None and second is not None and first.after is not None
    natural = walk(anatomy("qwen2"), SCHEDULE)
    wrong = walk(anatomy("qwen2"), SCHEDULE, faults=[example("qwen2", "rope-pairing")])
    site, head = first.site, int(first.what.split()[1])
    assert site == "blocks.0.attention.q_rope" and first.rows == tuple(range(13))
    for rows, values in ((first.reference, natural), (first.target, wrong), (first.after, wrong)):
        right = values[Key("prefill", 0, site)][0, :, head]
        assert torch.allclose(torch.tensor(rows), right, rtol=1e-4, atol=1e-6)
    assert second.site == "blocks.0.mlp.act" and second.after == second.target != second.reference


def test_scores_of_keys_that_come_later_are_not_part_of_a_piece() -> None:
    key = Key("prefill", 0, "blocks.0.attention.scores")
    made = torch.randn(1, 2, 13, 13)
    target = made.clone()
    target[:, :, 2, 9] = 100.0  # above the diagonal: nobody compares it
    target[:, 1, 5, 3] += 1.0
    piece = piece_of(key, made, target, None, SCHEDULE)
    assert piece is not None and piece.what == "head 1 of 2" and piece.across == "key"
    assert piece.target[2][9] is None and piece.target[5][3] == pytest.approx(float(target[0, 1, 5, 3]), rel=1e-4)


def test_a_value_of_other_positions_or_shape_has_no_errors_by_position() -> None:
    assert position_errors(torch.ones(1, 3, 4), torch.ones(1, 5, 4), "embed") == []
    assert position_errors(torch.ones(1, 3, 4), torch.ones(1, 3, 5), "embed") == []
    assert position_errors(torch.ones(1, 3, 4), torch.zeros(1, 2, 4), "embed") == [1.0, 1.0]
    value = torch.ones(1, 3, 4)
    value[0, 1, 2] = math.nan
    assert position_errors(torch.ones(1, 3, 4), value, "embed") == [0.0, math.inf, 0.0]


def test_shades_tell_rounding_from_error_and_small_from_large() -> None:
    shades = [shade(error, 1e-5) for error in (None, 1e-6, 1e-4, 5e-3, 0.05, 0.2, 0.5, 3.0, math.inf)]
    assert shades == [-1, 0, 1, 2, 3, 4, 5, 6, 6]


def test_the_lead_names_every_mistake_and_claims_a_proof_only_where_there_is_one(verdict: Verdict) -> None:
    lead = diff_page(verdict, reference="a", target="b").lead
    assert "turned in pairs (0,1)(2,3).." in lead and "gelu" in lead and "gives the target's logits" in lead
    unknown = diff(twin("llama"), faulty("llama", STRANGE[4]), show=True)
    page = diff_page(unknown, reference="a", target="b")
    assert "no cause of the catalogue explains it" in page.lead and page.proof is None
    assert "Nothing explains what is born at blocks.0.attention.scores" in page.left
    assert len(page.faults[0].panels) == 3  # nothing is undone
    same = diff(twin("llama"), faulty("llama"), show=True)
    assert "No line is wrong" in diff_page(same, reference="a", target="b").lead


def test_a_page_of_a_few_arrays_and_one_of_two_bundles_show_what_is_there(tmp_path: Path) -> None:
    few = diff(twin("llama"), faulty("llama", example("llama", "cache-offset"), sites=FEW), show=True)
    page = diff_page(few, reference="a", target="b")
    assert len(page.data["places"]) == 6 and page.faults[0].when == "in decode step 0"
    assert len(page.faults[0].lines) > 5
    bundles = diff(
        recording(walk(anatomy("llama"), SCHEDULE)), faulty("llama", example("llama", "rope-theta")), show=True
    )
    page = diff_page(bundles, reference="a", target="b")
    assert page.picture is not None and all(place["added"] is None for place in page.data["places"])
    assert "what a line adds itself" not in write_diff_page(
        bundles, tmp_path / "b.html", reference="a", target="b"
    ).read_text(encoding="utf-8")


def test_without_being_asked_a_verdict_has_no_pictures() -> None:
    assert diff(twin("llama"), of_model(twin("llama"))).exhibit is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_a_comparison_opens_quietly_and_reads_out_its_numbers(
    verdict: Verdict, visit: Any, tmp_path: Path, scheme: str
) -> None:
    path = write_diff_page(
        verdict, tmp_path / "d.html", reference="a", target=HOSTILE, spell=lambda token: f"{token}{HOSTILE}"
    )
    here = visit(path, scheme=scheme, ready=".errors svg")
    assert here.page.locator(".fault h3").all_inner_texts() == ["rope-pairing", "activation"]
    assert here.page.locator(".errors .birth text").all_text_contents() == ["1", "2"]
    assert "100 %" in here.page.locator(".fault .certain").first.inner_text()
    assert "docs/findings/rope-pairing.md" in here.page.locator(".fault").first.inner_text()
    here.page.locator("#errors").focus()
    here.page.keyboard.press("Home")
    assert here.page.locator("#errors-say").inner_text().startswith("embed: error 0")
    for _ in range(5):
        here.page.keyboard.press("ArrowRight")
    says = here.page.locator("#errors-say").inner_text()
    assert says.startswith("blocks.0.attention.q_rope: error 1.3") and "with the mistakes made 0" in says
    heat = here.page.locator('.panels[data-fault="1"] .heat').nth(2)
    heat.hover()
    data = shown(path, "piece-data-1")
    rows, columns = len(data["rows"]), len(data["columns"])
    says = here.page.locator("#piece-1").inner_text()
    assert re.match(rf"position {rows // 2}, lane {columns // 2}: reference ", says), says
    assert here.page.locator('.panels[data-fault="1"] .spot').evaluate_all("all => all.every(x => !x.hidden)")
    assert here.page.evaluate("window.hurt") is None
    here.quiet()


def test_pictures_fit_a_telephone(verdict: Verdict, visit: Any, tmp_path: Path) -> None:
    here = visit(
        write_diff_page(verdict, tmp_path / "d.html", reference="a", target="b"), width=390, ready=".errors svg"
    )
    assert here.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_of_an_examination_tells_broken_laws_first(visit: Any, tmp_path: Path) -> None:
    findings = [
        Finding(
            law="cache", status="fail", says=f"logits differ {HOSTILE}", hint="the `length`", evidence={"worst": 0.25}
        ),
        Finding(law="loss-by-position", status="pass", says="it falls", evidence={"losses": [4.0, 3.5, 3.2, 3.0, 2.9]}),
        Finding(law="template", status="skip", says="there is no tokenizer"),
        Finding(law="tokenizer", status="skip", says="there is no tokenizer"),
    ]
    page = doctor_page(findings, model="runs/a/b")
    assert page.title == "Is b in order?" and page.lead.startswith("No: 1 law of 2") and "(cache)" in page.lead
    assert page.skipped == (("there is no tokenizer", ("template", "tokenizer")),)
    here = visit(write_doctor_page(findings, tmp_path / "x.html", model="runs/a/b"), ready="h2")
    broken = here.page.locator(".broken-law").inner_text()
    assert "prefill and decode" in broken and "0.25" in broken and "docs/findings/cache.md" in broken
    assert here.page.locator(".law .spark").count() == 1
    assert here.page.evaluate("window.hurt") is None
    here.quiet()


def test_the_page_of_a_healthy_model_says_so_and_holds_every_law_that_was_asked() -> None:
    quick = [law for law in LAWS if law.name in ("finite", "causality", "prefix", "cache", "template")]
    page = doctor_page(examine(Patient.of(twin("llama")), quick), model="llama")
    assert page.lead.startswith("Yes") and not page.broken
    assert [law.name for law in page.holding] == ["finite", "causality", "prefix", "cache"]
    assert [laws for _, laws in page.skipped] == [("template",)]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1000000.0, "1000000"),
        (0.123456, "0.1235"),
        (3.2e-7, "3.20e-07"),
        (math.inf, "infinite"),
        (True, "yes"),
        ([(0, 1), (2, 3)], "(0, 1), (2, 3)"),
        ([1.0, 2.0, 3.0, 4.0, 5.5], "1 to 5.5"),
        ({"a": 1}, "a: 1"),
        ([], "none"),
    ],
)
def test_evidence_is_told_in_words(value: Any, words: str) -> None:
    assert said(value) == words
