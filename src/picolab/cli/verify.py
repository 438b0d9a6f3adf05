"""`picolab verify`: the same model here and in another engine. The same function?"""

from __future__ import annotations

import secrets
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import COMMON, Gpt2Dir, Json, Out, use_gpt2_dir
from picolab.errors import BadInput

if TYPE_CHECKING:
    from picolab.diagnose.haiku import Haiku
    from picolab.diagnose.verify_against import Elsewhere
    from picolab.diagnose.verify_result import Asides, Verification
    from picolab.runs.reference import Opened
    from picolab.trace.engines.engine import Engine

SEEDS = 1 << 32


def verify(
    model: Annotated[
        str,
        Parameter(help="A run, a Hugging Face folder, a .gguf or llama2.c .bin file, or a preset (random weights)."),
    ],
    /,
    *,
    against: Annotated[
        list[str] | None,
        Parameter(help="transformers or llama.cpp; with --run also picolab. Without it: all that can run the model."),
    ] = None,
    run: Annotated[
        str | None,
        Parameter(
            help="file.py:function: this code is run in the model's place, and held against it. Its file is executed."
        ),
    ] = None,
    prompts: Annotated[int, Parameter(help="How many texts of random tokens.")] = 6,
    longest: Annotated[int, Parameter(help="Tokens of the longest of them, if the context has as many.")] = 512,
    greedy: Annotated[int, Parameter(help="Tokens both write greedily; 0: none.")] = 200,
    tolerance: Annotated[
        float | None,
        Parameter(help="How far logits may be apart, relative to the largest; without it: by engine and file."),
    ] = None,
    haiku: Annotated[
        bool, Parameter(help="Instead, ask for a haiku with the current minute in words, and look at what comes.")
    ] = False,
    tokenizer: Annotated[str | None, Parameter(help="Tokenizer where the model has none.")] = None,
    gpt2_dir: Gpt2Dir = None,
    seed: Annotated[
        int | None,
        Parameter(name="--seed", group=COMMON, help="Draws the same texts again; without it they are new every time."),
    ] = None,
    out: Annotated[Out, Parameter(help="Write the JSON document there as well.")] = None,
    as_json: Json = False,
) -> int:
    """Run a model here and in another engine, and compare.

    Logits at every position of random token prompts (read at once, one by one, in
    pieces, after another text), greedy tokens, tokenizers. Exit 1 where they
    differ.
    """
    from picolab.cli.verify_show import show, show_haiku
    from picolab.runs.reference import open_reference

    use_gpt2_dir(gpt2_dir)
    chosen = secrets.randbelow(SEEDS) if seed is None else seed
    with redirect_stdout(sys.stderr):  # what somebody's code prints is not our result
        opened = open_reference(model, tokenizer=tokenizer, seed=chosen)
        here, notes = _here(opened, run)
        for note in notes:
            console.progress().print(note, soft_wrap=True)
        facts: dict[str, Any] = {"model": model, "source": opened.source, "run": run, "seed": chosen, "notes": notes}
        if haiku:
            written = _haiku(here, opened, chosen)
            document = {**facts, "haiku": written, "verdict": "pass" if written.passed else "fail"}
        else:
            limits = {"prompts": prompts, "longest": longest, "greedy": greedy, "tolerance": tolerance}
            found, others = _compared(here, opened, against, code=run is not None, seed=chosen, limits=limits)
            equal = all(verification.verdict == "equal" for _, verification in found)
            comparisons = [{"against": name, **console.plain(v)} for name, v in found]
            verdict = "equal" if equal else "different"
            document = {**facts, "verdict": verdict, "comparisons": comparisons, "not_compared": others}
    if out is not None:
        console.save_json(out, document)
    if as_json:
        console.emit(document)
    elif haiku:
        show_haiku(written)
    else:
        show(found, others, chosen)
    return 0 if document["verdict"] in ("equal", "pass") else 1


def _here(opened: Opened, run: str | None) -> tuple[Engine, list[str]]:
    """What is verified: the model in picolab, or somebody's code in its place."""
    from picolab.trace.engines.here import Here

    if run is None:
        return Here(opened.model, opened.tokenizer), list(opened.notes)
    from picolab.runs.foreign import open_callable
    from picolab.runs.foreign_engine import Foreign

    code = open_callable(run)
    engine = Foreign(code, vocab_size=int(opened.model.config.vocab_size))
    return engine, [*opened.notes, *code.notes, f"`{run}`: {engine.remembers}"]


def _compared(
    here: Engine, opened: Opened, against: list[str] | None, *, code: bool, seed: int, limits: dict[str, Any]
) -> tuple[list[tuple[str, Verification]], list[dict[str, str]]]:
    """Every engine's verification with what should be known about it, and the engines that could not be asked."""
    from picolab.cli.verify_show import working
    from picolab.diagnose.verify import verify
    from picolab.diagnose.verify_against import OTHERS, open_elsewhere
    from picolab.diagnose.verify_result import Ask

    Ask(
        **{**limits, "tolerance": limits["tolerance"] or 0.0}, seed=seed
    )  # refuse a wrong number before anything is opened
    found: list[tuple[str, Verification]] = []
    others: list[dict[str, str]] = []
    for name in against or OTHERS:
        with TemporaryDirectory(prefix="picolab-verify-") as folder, working(f"opening {name}") as told:
            try:
                there = open_elsewhere(name, opened, Path(folder), seed=seed, longest=limits["longest"], code=code)
            except BadInput as error:
                if against:
                    raise
                others.append({"engine": name, "why": str(error), "hint": error.hint or ""})
                continue
            allowed = there.tolerance if limits["tolerance"] is None else limits["tolerance"]
            ask = Ask(**{**limits, "tolerance": allowed}, seed=seed)
            asides = _asides(opened, there)
            compared = verify(here, there.engine, ask, asides, told=told)
            found.append((name, replace(compared, notes=(*there.notes, *compared.notes))))
    if not found:
        why = "; ".join(f"{other['engine']}: {other['why']}" for other in others)
        hint = next((other["hint"] for other in others if other["hint"]), None)
        raise BadInput(f"no other engine can run `{opened.source}`: {why}", hint=hint)
    return found, others


def _asides(opened: Opened, there: Elsewhere) -> Asides:
    """What is known about the tokenizers of both sides."""
    from picolab.diagnose.verify_result import Asides
    from picolab.text.controls import controls_of

    own = opened.tokenizer
    return Asides(
        readable=() if own is None else [token for token in range(own.vocab_size) if own.token_bytes(token)],
        special=() if own is None else tuple(controls_of(own).names[:20]),
        no_words=there.no_words,
        composed=there.composed,
        tidied=there.tidied,
    )


def _haiku(here: Engine, opened: Opened, seed: int) -> Haiku:
    from picolab.cli.verify_show import working
    from picolab.diagnose.haiku import ask_for_haiku

    with working("writing"):
        return ask_for_haiku(here, opened.reading(), minute=datetime.now().minute, seed=seed)
