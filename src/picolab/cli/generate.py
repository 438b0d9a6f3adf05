"""`picolab generate`: let a model write, piece by piece as it comes."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import Gpt2Dir, Json, Out, Seed, use_gpt2_dir

if TYPE_CHECKING:
    from picolab.sample.generate import Generation


def generate(
    *,
    model: Annotated[
        str, Parameter(help="A run (folder, name or `last`), a checkpoint folder, or a preset (random weights).")
    ],
    prompt: Annotated[str, Parameter(help="How the text begins; empty: as a document does.")] = "",
    max_new_tokens: Annotated[int, Parameter(help="Tokens written at most.")] = 100,
    temperature: Annotated[float, Parameter(help="0: always the most likely token; 1: as the model says.")] = 1.0,
    top_k: Annotated[int | None, Parameter(help="Choose among the k most likely.")] = None,
    top_p: Annotated[float | None, Parameter(help="Choose among the smallest set of this mass.")] = None,
    min_p: Annotated[float | None, Parameter(help="Drop tokens less likely than this share of the best.")] = None,
    repetition_penalty: Annotated[float, Parameter(help="Above 1: say less twice.")] = 1.0,
    stop: Annotated[list[str] | None, Parameter(help="End before this text; may be given several times.")] = None,
    n: Annotated[int, Parameter(name="--n", help="How many texts.")] = 1,
    tokenizer: Annotated[str | None, Parameter(help="Tokenizer where the model has none.")] = None,
    gpt2_dir: Gpt2Dir = None,
    seed: Seed = 0,
    out: Annotated[Out, Parameter(help="Write the texts there as well.")] = None,
    as_json: Json = False,
) -> int:
    """Let a model write.

    One text is shown as it is written. The same seed writes the same text.
    """
    from picolab.runs.reference import open_reference
    from picolab.sample import generate as sample
    from picolab.sample.pick import Sampler

    use_gpt2_dir(gpt2_dir)
    sampler = Sampler(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
    )
    opened = open_reference(model, tokenizer=tokenizer, seed=seed)
    for note in opened.notes:
        console.progress().print(note, soft_wrap=True)
    read, ends = opened.reading(), tuple(stop or ())
    if n == 1 and not as_json:
        pieces = sample.stream(
            opened.model, read, prompt, max_new_tokens=max_new_tokens, sampler=sampler, seed=seed, stop=ends
        )
        texts = [_shown_while_written(prompt, pieces)]
    else:
        texts = sample.generate(
            opened.model, read, prompt, max_new_tokens=max_new_tokens, sampler=sampler, seed=seed, stop=ends, n=n
        )
        if not as_json:
            _show(texts)
    if out is not None:
        out.write_text("".join(text.prompt + text.text + "\n" for text in texts), encoding="utf-8")
    if as_json:
        console.emit({"model": model, "source": opened.source, "seed": seed, "sampler": sampler, "texts": texts})
    return 0


REASONS = {
    "eot": "the model ended the text",
    "length": "--max-new-tokens reached",
    "stop": "a --stop text came",
    "context": "the model's context is full",
}
"""Why a text ends, in words."""


def _shown_while_written(prompt: str, pieces: Generator[str, None, Generation]) -> Generation:
    shown = ""
    try:
        while True:
            piece = next(pieces)  # a prompt that cannot be read is refused here, before anything is shown
            _write(piece if shown else prompt + piece)
            shown = prompt + piece
    except StopIteration as end:
        text: Generation = end.value
    if not shown:
        _write(prompt)
    _write("\n")
    console.progress().print(f"[{len(text.ids)} tokens; {REASONS[text.reason]}]", style="dim")
    return text


def _show(texts: Sequence[Generation]) -> None:
    for number, text in enumerate(texts, start=1):
        _write(f"--- {number} of {len(texts)}: {len(text.ids)} tokens; {REASONS[text.reason]}\n")
        _write(f"{text.prompt}{text.text}\n")


def _write(piece: str) -> None:
    """To stdout at once: in a pipe as it is, on a terminal without what would steer it."""
    sys.stdout.write(console.quoted(piece).plain if sys.stdout.isatty() else piece)
    sys.stdout.flush()
