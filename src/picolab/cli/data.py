"""`picolab data`: what is in a corpus, before anything learns it: true shares, repeats, the first batch decoded."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import Gpt2Dir, Json, Out, Seed, data_of, use_gpt2_dir

if TYPE_CHECKING:
    from picolab.data.dataset import Dataset, Summary
    from picolab.data.loader import Drawn, Loader


def data(
    spec: Annotated[
        str | None, Parameter(help="Corpus, file, folder, or blend a=0.75,b=0.25. [default: stories]")
    ] = None,
    /,
    *,
    tokens: Annotated[
        int | None, Parameter(help="Training budget that repeats are counted for. [default: one pass]")
    ] = None,
    tokenizer: Annotated[str, Parameter(help="auto, bytes, characters, integers, bpe-2048, gpt2 or a file.")] = "auto",
    compact_vocab: Annotated[
        bool, Parameter(help="Keep only the tokens that the corpus uses.", show_default=False)
    ] = False,
    input_dir: Annotated[Path | None, Parameter(help="Folder of *.txt files.")] = None,
    limit_examples: Annotated[int | None, Parameter(help="Use only the first so many documents.")] = None,
    batch_size: Annotated[int, Parameter(help="Rows of the batch that is shown.")] = 4,
    context_length: Annotated[int, Parameter(help="Tokens in a row.")] = 64,
    gpt2_dir: Gpt2Dir = None,
    seed: Seed = 0,
    out: Annotated[Out, Parameter(help="Write the JSON document there as well.")] = None,
    as_json: Json = False,
) -> int:
    """Look into a corpus: true shares, repeats, the first batch decoded.

    Shares are those that training reads, by documents and by tokens, beside those
    that were asked for.
    """
    from picolab.cli.amounts import READING, AmountDisplay
    from picolab.data.loader import Loader, show_batch
    from picolab.data.prepare import prepare

    use_gpt2_dir(gpt2_dir)
    with closing(AmountDisplay(console.progress(), READING)) as reading:
        dataset = prepare(
            data_of(spec, input_dir), tokenizer=tokenizer, compact_vocab=compact_vocab, seed=seed, input_dir=input_dir,
            limit_examples=limit_examples, progress=reading,
        )  # fmt: skip
    loader = Loader(dataset.train, batch_size=batch_size, context_length=context_length, seed=seed)
    rows = show_batch(loader.batch(0), dataset.tokenizer)
    document = described(dataset, loader, rows, tokens)
    if out is not None:
        console.save_json(out, document)
    if as_json:
        console.emit(document)
    else:
        tell(dataset.summary(tokens), loader, rows)
    return 0


def described(dataset: Dataset, loader: Loader, rows: list[str], tokens: int | None) -> dict[str, Any]:
    """Everything this verb says, as data."""
    summary: dict[str, Any] = console.plain(dataset.summary(tokens))
    return {
        **summary,
        "fingerprint": dataset.tokenizer.fingerprint,
        "drawn": read_by(dataset.summary(tokens), loader),
        "padding": loader.padding,
        "steps_per_epoch": loader.steps_per_epoch,
        "first_batch": rows,
    }


def read_by(summary: Summary, loader: Loader) -> tuple[Drawn, ...]:
    """What training on the budget reads of every source, row by row: the shares that result."""
    tokens_a_step = loader.batch_size * loader.context_length * (1 - loader.padding)
    return loader.drawn(math.ceil(summary.tokens / tokens_a_step))


def tell(summary: Summary, loader: Loader, rows: list[str]) -> None:
    """The same for a person."""
    columns = ["source", "documents", "tokens", "bytes", "asked for", "share of tokens", "of documents", "read"]
    cells = [
        [
            source.name,
            f"{source.documents:,}",
            f"{source.tokens:,}",
            console.size(source.bytes),
            f"{source.weight:.1%}",
            f"{drawn.share_of_tokens:.1%}",
            f"{drawn.share_of_documents:.1%}",
            f"{drawn.repeats:.2f} times",
        ]
        for source, drawn in zip(summary.sources, read_by(summary, loader), strict=True)
    ]
    console.show(
        console.table(f"{summary.name}: training on {summary.tokens:,} tokens", columns, cells, right=columns[1:])
    )
    for source in summary.sources:
        print(f"  {source.name}: {source.says}")
    columns = ["split", "documents", "tokens", "bytes", "lowest loss possible"]
    cells = [
        [split.name, f"{split.documents:,}", f"{split.tokens:,}", console.size(split.bytes), _floor(split.floor)]
        for split in summary.splits
    ]
    print()
    console.show(console.table("splits", columns, cells, right=columns[1:]))
    print(
        f"\ntokenizer {summary.tokenizer}: {summary.vocab_size:,} tokens, {summary.bytes_per_token:.2f} bytes of text a token"
    )
    if summary.note:
        print(summary.note)
    print(f"\nfirst batch, {loader.batch_size} rows of {loader.context_length} tokens")
    for number, row in enumerate(rows, start=1):
        print(f"  {number}  {console.quoted(row).plain}")


def _floor(nats: float | None) -> str:
    return "not known" if nats is None else f"{nats:.4f} nats a token"
