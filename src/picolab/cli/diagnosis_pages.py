"""`--html` of `picolab diff` and `picolab doctor`: the same findings as a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from picolab.cli import console
from picolab.runs.machine import command_line

if TYPE_CHECKING:
    from picolab.diagnose.laws.law import Finding
    from picolab.diagnose.verdict import Verdict
    from picolab.text.tokenizer import Tokenizer


def write_diff(
    verdict: Verdict, html: Path, *, reference: str, target: str, engine: str, words: Tokenizer | None
) -> None:
    """The page of a comparison."""
    from picolab.report.diagnosis.diff_page import write_diff_page

    wrote = write_diff_page(
        verdict,
        html,
        reference=reference,
        target=target,
        engine=engine,
        spell=_speller(words),
        command=command_line(),
        made=_made(),
    )
    console.progress().print(f"page  {wrote}", soft_wrap=True)


def write_doctor(findings: Sequence[Finding], html: Path, *, model: str, notes: Sequence[str]) -> None:
    """The page of an examination."""
    from picolab.report.diagnosis.doctor_page import write_doctor_page

    wrote = write_doctor_page(findings, html, model=model, notes=notes, command=command_line(), made=_made())
    console.progress().print(f"page  {wrote}", soft_wrap=True)


def _speller(words: Tokenizer | None) -> Callable[[int], str]:
    """What a token is called: its text, or its number where there is no tokenizer or it has none."""

    def spell(token: int) -> str:
        if words is None or not 0 <= token < words.vocab_size:
            return str(token)
        return words.token_bytes(token).decode("utf-8", "replace") or f"<{token}>"

    return spell


def _made() -> str:
    from picolab import __version__

    return f"Made by picolab {__version__}."
