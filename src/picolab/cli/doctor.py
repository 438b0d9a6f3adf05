"""`picolab doctor`: laws that every language model obeys, on this one."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from picolab.cli import console
from picolab.cli.flags import Gpt2Dir, Json, Out, Seed, use_gpt2_dir

if TYPE_CHECKING:
    from picolab.diagnose.laws.law import Finding

MARKS = {"pass": ("holds", "green"), "fail": ("BROKEN", "bold red"), "skip": ("not asked", "dim")}


def doctor(
    model: Annotated[
        str, Parameter(help="A run, a checkpoint folder or file, a preset, or file.py:function (which is executed).")
    ],
    /,
    *,
    data: Annotated[str | None, Parameter(help="A corpus of the kind it learned. [default: a run's own]")] = None,
    tokenizer: Annotated[str | None, Parameter(help="Tokenizer where the model has none.")] = None,
    gpt2_dir: Gpt2Dir = None,
    seed: Seed = 0,
    out: Annotated[Out, Parameter(help="Write the JSON document there as well.")] = None,
    as_json: Json = False,
) -> int:
    """Check a model against laws that need no reference.

    Each law holds of every correct language model. Exit 1 where one is broken.
    """
    from picolab.diagnose.doctor import patient_of
    from picolab.diagnose.laws.catalogue import LAWS
    from picolab.diagnose.laws.law import examine

    use_gpt2_dir(gpt2_dir)
    with redirect_stdout(sys.stderr):  # what somebody's code prints is not our result
        patient, notes = patient_of(model, tokenizer=tokenizer, data=data, seed=seed)
        for note in notes:
            console.progress().print(note, soft_wrap=True)
        findings = examine(patient, LAWS)
    broken = [finding for finding in findings if finding.status == "fail"]
    document = {
        "model": model,
        "source": patient.name,
        "seed": seed,
        "notes": notes,
        "verdict": "sick" if broken else "healthy",
        "findings": findings,
    }
    if out is not None:
        console.save_json(out, document)
    if as_json:
        console.emit(document)
    else:
        _show(findings)
    return 1 if broken else 0


def _show(findings: list[Finding]) -> None:
    for finding in findings:
        word, style = MARKS[finding.status]
        console.show(
            Text.assemble((f"{word:<10}", style), (f"{finding.law:<21} ", "bold"), console.quoted(finding.says))
        )
        if finding.status == "fail" and finding.hint:
            console.show(Text(f"{'':<10}look at: {finding.hint}"))
    broken = [finding.law for finding in findings if finding.status == "fail"]
    asked = sum(finding.status != "skip" for finding in findings)
    if broken:
        console.show(Text(f"sick: {len(broken)} of {asked} laws broken ({', '.join(broken)})", style="bold red"))
    else:
        console.show(
            Text(f"healthy: {asked} laws hold, {len(findings) - asked} could not be asked", style="bold green")
        )
