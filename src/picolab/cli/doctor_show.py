"""What `picolab doctor` says on a terminal: what could not be asked, what holds, what is broken, the verdict.

not asked: poison: the model offers no `new_cache` ..
holds   causality        6 tokens were changed; no earlier logit moved ..
BROKEN  cache            read token by token, logits differ from ..
                         look at: positions while decoding ..
sick: 1 of 27 laws broken (cache)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from picolab.cli import console

if TYPE_CHECKING:
    from picolab.diagnose.laws.law import Finding

MARKS = {"pass": ("holds", "green"), "fail": ("BROKEN", "bold red"), "skip": ("not asked", "dim")}


def show(findings: Sequence[Finding]) -> None:
    """Every finding, the worst nearest to the verdict."""
    told = [finding for finding in findings if finding.status != "skip"]
    told.sort(key=lambda finding: finding.status == "fail")  # what is broken stands where one looks: at the end
    _show_skipped([finding for finding in findings if finding.status == "skip"])
    if told:
        console.show(_table(told))
    broken = [finding.law for finding in told if finding.status == "fail"]
    if broken:
        words = f"sick: {len(broken)} of {len(told)} laws broken ({', '.join(broken)})"
        console.show(Text(words, style="bold red"))
    elif told:
        console.show(Text(f"healthy: {len(told)} laws hold", style="bold green"))
    else:
        console.show(Text("nothing could be asked", style="bold"))


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        word, style = MARKS[finding.status]
        said = console.quoted(finding.says)
        if finding.status == "fail" and finding.hint:
            said = Text.assemble(said, "\n", ("look at: ", "italic"), finding.hint)
        table.add_row(Text(word, style=style), finding.law, said)
    return table


def _show_skipped(findings: Sequence[Finding]) -> None:
    """Why what could not be asked; laws with one reason stand together."""
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        reasons.setdefault(finding.says, []).append(finding.law)
    for reason, laws in reasons.items():
        console.show(Text(f"not asked: {', '.join(laws)}: {reason}", style="dim"))
