"""The page of an examination: which laws are broken, what was measured, what to look at; then those that hold, and those not asked.

Findings -> one sentence | the broken laws with their evidence | the laws that hold, each with its numbers | what was not asked
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from picolab.diagnose.laws.catalogue import LAWS
from picolab.diagnose.laws.law import Finding
from picolab.diagnose.pages import page_of
from picolab.report import figures
from picolab.report.diagnosis.diff_page import SCRIPTS, STYLES
from picolab.report.diagnosis.evidence import Shown, shown_evidence
from picolab.report.page import Fact, render
from picolab.runs import atomic


@dataclass(frozen=True, kw_only=True, slots=True)
class LawShown:
    """One law and what was found; `rule` is the law itself, `page` where more is told of it."""

    name: str
    id: str
    rule: str
    found: str
    hint: str
    page: str
    evidence: tuple[Shown, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorPage:
    """What the page shows; `skipped` are (reason, laws)."""

    kind: str
    title: str
    lead: str
    facts: tuple[Fact, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    broken: tuple[LawShown, ...]
    holding: tuple[LawShown, ...]
    skipped: tuple[tuple[str, tuple[str, ...]], ...]
    command: str
    made: str
    names: tuple[str, ...] = ()


def write_doctor_page(
    findings: Sequence[Finding], path: Path, *, model: str, notes: Sequence[str] = (), command: str = "", made: str = ""
) -> Path:
    """Write the page of an examination."""
    page = doctor_page(findings, model=model, notes=notes, command=command, made=made)
    with atomic.reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, render(page, "doctor.html.j2", styles=STYLES, scripts=SCRIPTS))
    return path


def doctor_page(
    findings: Sequence[Finding], *, model: str, notes: Sequence[str] = (), command: str = "", made: str = ""
) -> DoctorPage:
    """The page as data."""
    broken = [finding for finding in findings if finding.status == "fail"]
    holding = [finding for finding in findings if finding.status == "pass"]
    return DoctorPage(
        kind="examination of a model",
        title=f"Is {Path(model.strip('`')).name or model} in order?",
        lead=in_words(findings),
        facts=_facts(findings),
        warnings=(),
        notes=tuple(notes),
        broken=tuple(_law(finding) for finding in broken),
        holding=tuple(_law(finding) for finding in holding),
        skipped=_skipped(findings),
        command=command,
        made=made,
    )


def in_words(findings: Sequence[Finding]) -> str:
    """The outcome in a sentence or two."""
    asked = [finding for finding in findings if finding.status != "skip"]
    broken = [finding for finding in asked if finding.status == "fail"]
    if not asked:
        return "Nothing could be asked of it."
    if not broken:
        return f"Yes, as far as can be asked without a reference: {len(asked)} laws that every correct language model obeys hold."
    names = ", ".join(finding.law for finding in broken)
    laws = "1 law" if len(broken) == 1 else f"{len(broken)} laws"
    verb = "is" if len(broken) == 1 else "are"
    return f"No: {laws} of {len(asked)} that every correct language model obeys {verb} broken ({names})."


def _facts(findings: Sequence[Finding]) -> tuple[Fact, ...]:
    count = {status: sum(finding.status == status for finding in findings) for status in ("pass", "fail", "skip")}
    asked = count["pass"] + count["fail"]
    return (
        Fact(label="Verdict", value="sick" if count["fail"] else "healthy" if asked else "nothing asked"),
        Fact(label="Broken", value=str(count["fail"]), note=f"of {asked} laws"),
        Fact(label="Hold", value=str(count["pass"])),
        Fact(label="Not asked", value=str(count["skip"]), note="the model does not offer what they need"),
        Fact(label="Time", value=figures.seconds(sum(finding.seconds for finding in findings))),
    )


def _law(finding: Finding) -> LawShown:
    law = next((law for law in LAWS if law.name == finding.law), None)
    return LawShown(
        name=finding.law,
        id=law.id if law is not None else "",
        rule=law.says if law is not None else "",
        found=finding.says,
        hint=finding.hint,
        page=page_of(finding.law) or "",
        evidence=shown_evidence(finding.evidence),
    )


def _skipped(findings: Sequence[Finding]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        if finding.status == "skip":
            reasons.setdefault(finding.says, []).append(finding.law)
    return tuple((reason, tuple(laws)) for reason, laws in reasons.items())
