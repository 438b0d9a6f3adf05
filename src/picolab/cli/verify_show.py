"""How is a verification told? A table of the checks, a line about those that are not plainly right, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.text import Text

from picolab.cli import console

if TYPE_CHECKING:
    from picolab.diagnose.haiku import Haiku
    from picolab.diagnose.verify_result import Check, Verification

RESULTS = {"pass": "same", "fail": "DIFFERS", "skip": "skipped"}
COLOURS = {"pass": "green", "fail": "bold red", "skip": "dim"}

WORTH_TELLING = ("greedy", "tokenizer")
"""Checks whose sentence says more than the table."""


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is being done; in a pipe, nothing."""
    terminal = console.progress()
    if not terminal.is_terminal:
        yield lambda said: None
        return
    with terminal.status(what) as status:
        yield status.update


def show(found: Sequence[tuple[str, Verification]], others: Sequence[dict[str, str]], seed: int) -> None:
    """Every engine's table and verdict, then which engines were not asked."""
    for number, (_, verification) in enumerate(found):
        if number:
            console.show("")
        _show_one(verification)
    if others:
        console.show("")
    for other in others:
        hint = f" ({other['hint']})" if other["hint"] else ""
        console.show(Text(f"not compared with {other['engine']}: {other['why']}{hint}", style="dim"))
    console.progress().print(f"seed {seed}: --seed {seed} draws the same texts again", style="dim", soft_wrap=True)


def _show_one(verification: Verification) -> None:
    title = f"{verification.here} against {verification.there}"
    rows = [_row(check) for check in verification.checks]
    console.show(console.table(title, ("check", "what", "apart", "allowed", ""), rows, right=("apart", "allowed")))
    told = [c for c in verification.checks if c.status != "pass" or (c.name in WORTH_TELLING and "alike" in c.says)]
    for check in told:
        console.show(Text.assemble((f"{check.name}: ", COLOURS[check.status]), console.quoted(check.says)))
    for note in verification.notes:
        console.show(Text(note, style="dim"))
    style = "bold green" if verification.verdict == "equal" else "bold red"
    console.show(Text(f"{verification.verdict}: {verification.says}", style=style))


def _row(check: Check) -> tuple[str, ...]:
    return (
        check.name,
        check.compared,
        "-" if check.worst is None else f"{check.worst:.1e}",
        "-" if check.tolerance is None else f"{check.tolerance:.1e}",
        RESULTS[check.status],
    )


def show_haiku(haiku: Haiku) -> None:
    """Both texts and what was found about them."""
    for word, text in ((haiku.word, haiku.text), (haiku.other_word, haiku.other_text)):
        console.show(Text(f"asked for `{word}`:", style="dim"))
        console.show(console.quoted(text or "(nothing)"))
        console.show("")
    rows = [(a.name, "yes" if a.holds else "NO", a.says) for a in haiku.assertions]
    console.show(console.table(f"{haiku.engine}, {haiku.asked_as}", ("must be", "", "found"), rows))
    failed = [a.name for a in haiku.assertions if not a.holds]
    if failed:
        verdict = f"failed: {', '.join(failed)}; `picolab verify` without --haiku says whether the engine or the model is to blame"
    else:
        verdict = "passed: the model does what it is asked"
    console.show(Text(verdict, style="bold red" if failed else "bold green"))
