"""`picolab doctor`: laws that every language model obeys, on this one."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import Gpt2Dir, Json, Out, Seed, use_gpt2_dir
from picolab.errors import BadInput


def doctor(
    model: Annotated[
        str | None,
        Parameter(
            help="A run, a checkpoint, a preset, file.py:function (which is executed), or a training's rows: metrics.jsonl."
        ),
    ] = None,
    /,
    *,
    data: Annotated[str | None, Parameter(help="A corpus of the kind it learned. [default: a run's own]")] = None,
    tokenizer: Annotated[str | None, Parameter(help="Tokenizer where the model has none.")] = None,
    gpt2_dir: Gpt2Dir = None,
    seed: Seed = 0,
    out: Annotated[Out, Parameter(help="Write the JSON document there as well.")] = None,
    html: Annotated[Path | None, Parameter(help="Write the page there.")] = None,
    as_json: Json = False,
    self_test: Annotated[
        bool, Parameter(negative="", help="Examine the laws themselves, on tiny models with known faults.")
    ] = False,
) -> int:
    """Check a model against laws that need no reference.

    Each law holds of every correct language model (`picolab ls laws`). A run is
    also judged by its curves, its data and its settings. Exit 1 where a law is
    broken.
    """
    if self_test:
        from picolab.cli.self_test_show import run
        from picolab.diagnose.self_test import examine_doctor

        return run(examine_doctor, seed, out=out, as_json=as_json)
    if model is None:
        raise BadInput("no model is given", hint="picolab doctor MODEL, or picolab doctor --self-test")
    from picolab.cli.doctor_show import show
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
    if html is not None:
        from picolab.cli.diagnosis_pages import write_doctor

        write_doctor(findings, html, model=patient.name, notes=notes)
    if as_json:
        console.emit(document)
    else:
        show(findings)
    return 1 if broken else 0
