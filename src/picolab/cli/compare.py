"""`picolab compare`: several models on an equal budget, side by side, with the baseline that counts."""

from __future__ import annotations

import shlex
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.compare_families import show_families
from picolab.cli.flags import Gpt2Dir, Json, Out, Seed, Set, data_of, settings_given, use_gpt2_dir
from picolab.errors import BadInput

if TYPE_CHECKING:
    from picolab.compare.result import Comparison, Row


def compare(
    *models: Annotated[
        str, Parameter(help="Presets, or NAME=PRESET:field=value,.. The n-gram baseline joins if not named.")
    ],
    recipe: Annotated[
        str | None, Parameter(help="A whole comparison: counted-attention. Models are then some of its arms.")
    ] = None,
    tiny: Annotated[
        bool, Parameter(name=["--tiny", "--fast"], help="The recipe in minutes, on shipped text.", show_default=False)
    ] = False,
    data: Annotated[
        str | None, Parameter(help="Corpus, file, folder, or blend a=0.75,b=0.25. [default: stories]")
    ] = None,
    tokens: Annotated[int | None, Parameter(help="Budget of every run, in scored tokens. [default: 200000]")] = None,
    seeds: Annotated[
        str | None, Parameter(help="How many runs a model, or which seeds: 0,3,4. [default: 2; of a recipe 3]")
    ] = None,
    prompt: Annotated[
        str | None, Parameter(help="How the samples begin. [default: as the first held-out text]")
    ] = None,
    batch_size: Annotated[int | None, Parameter(help="Rows in a step. [default: at most 8, and 400 steps]")] = None,
    context_length: Annotated[int | None, Parameter(help="Tokens in a row. [default: the shortest context]")] = None,
    lr: Annotated[float | None, Parameter(help="Highest learning rate. [default: 0.001]")] = None,
    tokenizer: Annotated[str | None, Parameter(help="bytes, characters, integers, bpe-2048, gpt2 or a file.")] = None,
    compact_vocab: Annotated[bool | None, Parameter(help="Keep only the tokens that the corpus uses.")] = None,
    input_dir: Annotated[Path | None, Parameter(help="Folder of *.txt files to learn from.")] = None,
    limit_examples: Annotated[int | None, Parameter(help="Use only the first so many documents.")] = None,
    gpt2_dir: Gpt2Dir = None,
    set_: Set = None,
    seed: Annotated[Seed, Parameter(help="The first of the seeds.")] = 0,
    out: Annotated[Out, Parameter(help="The comparison's folder. [default: runs/<date>_compare_<data>]")] = None,
    as_json: Json = False,
) -> int:
    """Train several models on an equal budget and rank them.

    All read the same data in the same order, each with several seeds. Losses come
    with their spread, in nats a token and bits a byte, beside counted n-grams and,
    where the data's rule is known, the lowest loss possible. Interrupted, the same
    command with the same --out goes on.
    """
    from picolab.cli.compare_display import CompareDisplay
    from picolab.compare.compare import compare as run_comparison
    from picolab.report.comparison import comparison_report

    use_gpt2_dir(gpt2_dir)
    overrides = settings_given(
        set_, batch_size=batch_size, context_length=context_length, lr=lr, tokenizer=tokenizer,
        compact_vocab=compact_vocab, input_dir=input_dir, limit_examples=limit_examples,
    )  # fmt: skip
    if recipe is not None:
        from picolab.cli.compare_recipe import compare_recipe

        return compare_recipe(
            recipe, models, tiny=tiny, data=data or ("input" if input_dir else None), tokens=tokens,
            seeds=_seeds(seeds or "3", seed), out=out, overrides=overrides, as_json=as_json,
        )  # fmt: skip
    if tiny:
        raise BadInput("`--tiny` is the small form of a recipe, and none is named", hint="--recipe counted-attention")
    spec = data_of(data, input_dir)
    folder = out or fresh_folder(Path("runs"), f"compare_{spec}")
    with CompareDisplay(console.progress()) as display:
        comparison = run_comparison(
            models, data=spec, tokens=200_000 if tokens is None else tokens, seeds=_seeds(seeds or "2", seed), out=folder,
            overrides=overrides, prompt=prompt, report=display,
        )  # fmt: skip
    page = comparison_report(comparison, folder)
    if as_json:
        console.emit({**comparison.summary(), "folder": folder, "report": page})
    else:
        tell(comparison, folder, page)
    if not comparison.complete:
        console.progress().print(f"interrupted; the same command with --out {folder} goes on", soft_wrap=True)
        return 130
    return 0 if any(row.loss for row in comparison.rows) else 1


def tell(comparison: Comparison, folder: Path, page: Path) -> None:
    """The table, the ranking in words, where everything lies."""
    setup = comparison.setup
    floored = setup.floor is not None
    columns = ["model", "loss", "over seeds", "bits/byte", *(["above floor"] if floored else []), "tokens/s"]
    columns += ["peak memory", "parameters", "trainable"]
    rows = [_cells(row, floored) for row in comparison.rows]
    title = f"{setup.data}, {setup.tokens:,} tokens a run; validation loss in nats a token, lower is better"
    console.show(console.table(title, columns, rows, right=columns[1:]))
    if comparison.families:
        show_families(comparison)
    print()
    for sentence in comparison.ranking:
        print(sentence)
    floor = f"; the lowest possible is {setup.floor:.3f}" if setup.floor is not None else ""
    print(f"A uniform guess over {setup.vocab_size:,} tokens has loss {setup.uniform:.3f}{floor}.")
    print(f"\nreport  {page}\ndata    {folder / 'comparison.json'}  {folder / 'comparison.csv'}")
    best = next((run for row in comparison.rows for run in row.runs if run.loss is not None), None)
    if best is not None:
        start = shlex.quote(" ".join(setup.prompt.split()[:4]))
        print(f"next    picolab generate --model {folder / best.run} --prompt {start}")


def fresh_folder(root: Path, name: str) -> Path:
    """A folder that does not exist yet: `<root>/<date>_<name>`, numbered where that is taken."""
    clean = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)[:60]
    base = f"{datetime.now().astimezone():%Y-%m-%d}_{clean}"
    names = (base if number == 1 else f"{base}-{number}" for number in count(1))
    return next(path for path in (root / name for name in names) if not path.exists())


def _cells(row: Row, floored: bool) -> list[str]:
    size = row.size

    def mean(band: Any, digits: int = 3) -> str:
        return console.number(None if band is None else band.mean, digits)

    span = f"{row.loss.low:.3f} to {row.loss.high:.3f}" if row.loss is not None and row.loss.seeds > 1 else "-"
    return [
        row.model,
        mean(row.loss),
        span,
        mean(row.bits_per_byte),
        *([mean(row.excess)] if floored else []),
        mean(row.tokens_per_second, 0),
        "-" if row.peak_memory is None else console.size(row.peak_memory),
        "-" if size is None else f"{size.total:,}",
        "-" if size is None else f"{size.trainable:,}",
    ]


def _seeds(words: str, first: int) -> list[int]:
    """`3` counts seeds from the first one; `0,3,4` names them."""
    try:
        numbers = [int(word) for word in words.split(",")]
    except ValueError as error:
        raise BadInput(f"`--seeds` is `{words}`, not a number or a list", hint="--seeds 3, or --seeds 0,3,4") from error
    if len(numbers) == 1:
        if numbers[0] < 1:
            raise BadInput(f"`--seeds` is {numbers[0]}, and at least one run a model is needed", hint="--seeds 2")
        return list(range(first, first + numbers[0]))
    return numbers
