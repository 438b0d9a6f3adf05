"""`picolab diff`: where does an engine depart from the reference, and which line of mathematics is wrong?"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from picolab.cli import console
from picolab.cli.flags import Gpt2Dir, Json, Out, Seed, use_gpt2_dir
from picolab.errors import BadInput

if TYPE_CHECKING:
    from picolab.diagnose.verdict import Born, Verdict
    from picolab.runs.reference import Opened

RANDOM_TOKENS = 20
"""Read where nobody says what; drawn with the seed."""


def diff(
    reference: Annotated[
        str | None, Parameter(help="What is right: a run, a checkpoint folder or file, a preset; or a trace bundle.")
    ] = None,
    target: Annotated[
        str | None, Parameter(help="A trace bundle of any engine, a model, or file.py:function (which is executed).")
    ] = None,
    /,
    *,
    prompt: Annotated[
        str | None, Parameter(help="The text both read; a bundle's own tokens are held against it.")
    ] = None,
    tokens: Annotated[str | None, Parameter(help="Token ids in place of a text: 5,17,200.")] = None,
    prefill: Annotated[
        int | None, Parameter(help="Tokens read at once; the rest one by one. [default: all but 3]")
    ] = None,
    engine: Annotated[str, Parameter(help="Who runs the target: picolab, transformers or llama.cpp.")] = "picolab",
    tokenizer: Annotated[str | None, Parameter(help="Tokenizer where the model has none.")] = None,
    gpt2_dir: Gpt2Dir = None,
    seed: Seed = 0,
    out: Annotated[
        Out, Parameter(help="Write the JSON document there as well; with --minimise, the folder of the case.")
    ] = None,
    html: Annotated[
        Path | None, Parameter(help="Write the page there: the error by place, every fault, the proof.")
    ] = None,
    as_json: Json = False,
    minimise: Annotated[
        bool,
        Parameter(negative="", help="Shrink text and models while the fault stays; write that as a case that runs."),
    ] = False,
    self_test: Annotated[
        bool, Parameter(negative="", help="Examine the search itself, on tiny models with known faults.")
    ] = False,
) -> int:
    """Say which line of mathematics is wrong, with proof.

    The reference is replayed on the target's own numbers, line by line; where
    error is born, causes are tried until one makes it vanish; then the reference
    makes that mistake too, and the search goes on. Exit 1 where they diverge.
    """
    if self_test:
        from picolab.cli.self_test_show import run
        from picolab.diagnose.self_test import examine_diff

        return run(examine_diff, seed, out=out, as_json=as_json)
    if reference is None or target is None:
        raise BadInput("two things are compared", hint="picolab diff REFERENCE TARGET, or picolab diff --self-test")
    if minimise:
        from picolab.cli.diff_minimise import open_to_shrink, shrink

        use_gpt2_dir(gpt2_dir)
        with redirect_stdout(sys.stderr):
            opened = open_to_shrink(reference, tokenizer, seed)
            ids = _ids(opened, prompt, tokens, seed)
            made = shrink(opened, target, ids, prefill=prefill, engine=engine, tokenizer=tokenizer, folder=out)
        return made.tell(as_json=as_json)
    from picolab.diagnose.diff import diff as compare
    from picolab.diagnose.target import is_bundle, recording_of
    from picolab.diagnose.walk import schedule_of
    from picolab.runs.reference import open_reference
    from picolab.trace.bundle import read_bundle

    use_gpt2_dir(gpt2_dir)
    said = prompt is not None or tokens is not None
    with redirect_stdout(sys.stderr):  # what somebody's code prints is not our result
        if is_bundle(reference):
            right = read_bundle(Path(reference))
            schedule = schedule_of(right)
            recording, notes = recording_of(
                target, schedule.tokens, engine=engine, prefill=schedule.prefill, tokenizer=tokenizer
            )
            words, verdict = None, compare(right, recording, show=html is not None)
        else:
            opened = open_reference(reference, tokenizer=tokenizer, seed=seed)
            ids = _ids(opened, prompt, tokens, seed)
            recording, more = recording_of(
                target, ids, engine=engine, prefill=prefill, tokenizer=tokenizer, text=prompt
            )
            notes = (*opened.notes, *more)
            words = opened.tokenizer
            verdict = compare(opened.model, recording, tokens=ids if said else (), words=words, show=html is not None)
    for note in dict.fromkeys(notes):
        console.progress().print(note, soft_wrap=True)
    if html is not None:
        from picolab.cli.diagnosis_pages import write_diff

        write_diff(verdict, html, reference=reference, target=target, engine=recording.engine, words=words)
    found = {name: value for name, value in console.plain(verdict).items() if name != "exhibit"}  # pictures' numbers
    document = {"reference": reference, "target": target, "engine": recording.engine, **found}
    if out is not None:
        console.save_json(out, document)
    if as_json:
        console.emit(document)
    else:
        _show(verdict, recording.engine)
    return 1 if verdict.verdict in ("diverged", "incomparable") else 0


def _ids(opened: Opened, prompt: str | None, tokens: str | None, seed: int) -> list[int]:
    if prompt is not None and tokens is not None:
        raise BadInput("a text and token ids were both given", hint="either --prompt or --tokens")
    if tokens is not None:
        try:
            return [int(part) for part in tokens.split(",")]
        except ValueError as error:
            raise BadInput(f"`{tokens}` is no list of token ids", hint="--tokens 5,17,200") from error
    if prompt is not None:
        words = opened.reading()
        return [*words.opening, *words.encode(prompt)]
    import torch

    limit = min(RANDOM_TOKENS, int(opened.model.config.context_length))
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, int(opened.model.config.vocab_size), (limit,), generator=generator).tolist()


def _show(verdict: Verdict, engine: str) -> None:
    good = verdict.verdict in ("equal", "noise")
    console.show(Text.assemble((f"{verdict.verdict}: ", "bold green" if good else "bold red"), console.quoted(engine)))
    for note in verdict.notes:
        console.show(Text.assemble(("note: ", "dim"), console.quoted(note)))
    for number, born in enumerate(verdict.born, start=1):
        _show_born(number, born)
    if verdict.verdict == "diverged" and verdict.remaining < verdict.before:
        console.show("")
        console.show(f"logits apart before {verdict.before:.2g}, with the mistakes found {verdict.remaining:.1e}; "
                     f"rounding explains {verdict.noise_floor:.1e}")  # fmt: skip
    elif not verdict.born or verdict.verdict != "incomparable":
        console.show(console.quoted(verdict.says))
    console.progress().print(f"[{verdict.seconds:.1f} s]", style="dim", markup=False)


def _show_born(number: int, born: Born) -> None:
    from picolab.diagnose.verdict import SEVERAL

    console.show("")
    when = born.phase if born.phase == "prefill" else f"decode step {born.step}"
    also = f", and at {len(born.also)} more places" if born.also else ""
    if born.site == "tokens":
        console.show(Text("they did not read the same tokens", style="bold"))
    else:
        console.show(Text.assemble(f"{number}. born at ", (born.site, "bold"), f" ({when}){also}"))
        console.show(f"   error added {born.added:.2g}, inherited {born.inherited:.1g}")
    for told in born.explanations:
        mark = ("   cause   ", "bold green") if told.certain else ("   lead    ", "yellow")
        says = console.quoted(told.says)
        if told.cause == "unknown":
            word = "unknown" if told is born.explanations[0] else "lead   "
            console.show(Text.assemble((f"   {word} ", "yellow"), says))
            continue
        console.show(Text.assemble(mark, (f"{told.cause}: ", "bold"), says))
        if born.site != "tokens":
            console.show(f"           explains {100 * told.explained:.4f} % of the error, leaves {told.residual:.1e}")
        if told.look_for and told.certain:
            console.show(Text(f"           look for {told.look_for}"))
    if len(born.causes) > 1:
        console.show(f"   {SEVERAL[0].lower()}{SEVERAL[1:]}")
