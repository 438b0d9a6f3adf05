"""`picolab generate`: let a model write, piece by piece as it comes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import Gpt2Dir, Json, Out, Seed, use_gpt2_dir

if TYPE_CHECKING:
    from picolab.runs.reference import Opened
    from picolab.sample.speculate import Speculation


def generate(
    *,
    model: Annotated[
        str,
        Parameter(help="A run (folder, name or `last`), a checkpoint folder, a .gguf or .bin file, or a preset."),
    ],
    prompt: Annotated[str | None, Parameter(help="How the text begins; without it: as a document does.")] = None,
    prompts: Annotated[
        Path | None, Parameter(help='Many prompts: one a line, or FILE.jsonl with "prompt" in each line.')
    ] = None,
    tokens: Annotated[
        str | None, Parameter(help="Token ids in place of a prompt: 5,17,200 or FILE.json; read as they are.")
    ] = None,
    chat: Annotated[bool, Parameter(help="The prompt is what a user says to a model that converses.")] = False,
    system: Annotated[str | None, Parameter(help="With --chat: who the model is to be.")] = None,
    max_new_tokens: Annotated[int, Parameter(help="Tokens written at most.")] = 100,
    temperature: Annotated[float, Parameter(help="0: always the most likely token; 1: as the model says.")] = 1.0,
    top_k: Annotated[int | None, Parameter(help="Choose among the k most likely.")] = None,
    top_p: Annotated[float | None, Parameter(help="Choose among the smallest set of this mass.")] = None,
    min_p: Annotated[float | None, Parameter(help="Drop tokens less likely than this share of the best.")] = None,
    repetition_penalty: Annotated[float, Parameter(help="Above 1: say less twice.")] = 1.0,
    stop: Annotated[list[str] | None, Parameter(help="End before this text; may be given several times.")] = None,
    dtype: Annotated[
        str, Parameter(help="Weights kept as float32, bfloat16, float16, int8, or stored: as the file has them.")
    ] = "float32",
    ignore_eot: Annotated[bool, Parameter(help="Write on where the model would end the text.")] = False,
    n: Annotated[int, Parameter(name="--n", help="How many texts a prompt.")] = 1,
    speculate: Annotated[
        int | None, Parameter(help="Guess up to K tokens a pass (8 if no number follows); the text stays the same.")
    ] = None,
    speculate_from: Annotated[
        str | None, Parameter(help="DATA to guess from as well, as `train --data` reads it.")
    ] = None,
    compiled: Annotated[
        bool, Parameter(help="Let torch compile the step: half a minute first, then faster. For models with attention.")
    ] = False,
    tokenizer: Annotated[str | None, Parameter(help="Tokenizer where the model has none.")] = None,
    gpt2_dir: Gpt2Dir = None,
    seed: Seed = 0,
    out: Annotated[Out, Parameter(help="Write the texts there as well.")] = None,
    as_json: Json = False,
) -> int:
    """Let a model write.

    One text is shown as it is written. The same seed writes the same text.
    """
    from picolab.cli.generate_prompts import as_shown, asked, check_asked, conversations
    from picolab.cli.generate_show import described, show, show_while_written, speed
    from picolab.runs.reference import load_plan, open_reference
    from picolab.sample import generate as sample
    from picolab.sample.pick import Sampler

    use_gpt2_dir(gpt2_dir)
    check_asked(prompt, prompts, tokens, chat=chat, system=system)
    given = asked(prompt, prompts, tokens)
    sampler = Sampler(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
    )
    plan = load_plan(model, dtype, tokenizer=tokenizer).check()
    console.progress().print(plan.sentence, style="dim", soft_wrap=True)
    opened = open_reference(model, tokenizer=tokenizer, seed=seed, dtype=dtype)
    for note in opened.notes:
        console.progress().print(note, soft_wrap=True)
    reads = opened.tokenizer if tokens is not None else opened.reading()
    said = conversations(given, opened.reading(), system) if chat else given
    meter = sample.Meter()
    ways: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "sampler": sampler,
        "seed": seed,
        "stop": tuple(stop or ()),
        "ignore_eot": ignore_eot,
        "speculation": _speculation(speculate, speculate_from, opened),
        "compiled": compiled,
        "meter": meter,
    }
    if compiled:
        console.progress().print("compiling the step; the first time takes half a minute", soft_wrap=True)
    if n == 1 and prompts is None and len(said) == 1 and not as_json:
        opening = "" if chat else as_shown(given[0], reads)
        texts = [show_while_written(opening, sample.stream(opened.model, reads, said[0], **ways))]
    else:
        try:
            texts = sample.generate(opened.model, reads, said, n=n, **ways)
        except sample.Interrupted as error:
            texts = error.texts
    if chat:
        texts = [replace(text, prompt=str(given[at // n])) for at, text in enumerate(texts)]
    if not as_json:
        if n > 1 or len(given) > 1 or prompts is not None:
            show(texts, chat=chat)
        console.progress().print(speed(meter), style="dim", soft_wrap=True)
    if out is not None:
        between = "\n" if chat else ""
        out.write_text("".join(f"{text.prompt}{between}{text.text}\n" for text in texts), encoding="utf-8")
    if as_json:
        facts = {"model": model, "source": opened.source, "seed": seed, "sampler": sampler}
        console.emit({**facts, "texts": texts, "speed": described(meter)})
    return 130 if any(text.reason == "interrupted" for text in texts) else 0


def _speculation(k: int | None, data: str | None, opened: Opened) -> Speculation | None:
    """How to guess, if at all; a corpus is counted here."""
    if k is None and data is None:
        return None
    from picolab.data.corpus import open_corpus
    from picolab.sample.speculate import Continuations, Speculation, check_speculation

    check_speculation(opened.model)
    corpus = None
    if data is not None:
        texts = open_corpus(data)
        corpus = Continuations.of_texts(texts, opened.reading(), vocab_size=opened.model.config.vocab_size)
        console.progress().print(f"guessing from {corpus.n_tokens:,} tokens of `{data}` as well", soft_wrap=True)
    return Speculation(corpus=corpus) if k is None else Speculation(k=k, corpus=corpus)
