"""`picolab count`: what stands before what in a corpus, counted once and kept for whoever asks."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import Gpt2Dir, Json, Out, Seed, data_of, use_gpt2_dir
from picolab.errors import BadSetting

if TYPE_CHECKING:
    from picolab.counts.shape import Shape
    from picolab.counts.tables import Tables
    from picolab.data.dataset import Dataset


def count(
    spec: Annotated[
        str | None, Parameter(help="Corpus, file, folder, or blend a=0.75,b=0.25. [default: stories]")
    ] = None,
    /,
    *,
    order: Annotated[int, Parameter(help="Contexts of 1 to so many tokens, 3 at most.")] = 2,
    skip: Annotated[int, Parameter(help="0 to so many tokens between context and target, 8 at most.")] = 3,
    tables: Annotated[str | None, Parameter(help="Or which tables: `n1-s0 n2-s3`, or distances such as 3,1.")] = None,
    top: Annotated[int, Parameter(help="How many of the most frequent to show of each table.")] = 1,
    tokenizer: Annotated[str, Parameter(help="auto, bytes, characters, integers, bpe-2048, gpt2 or a file.")] = "auto",
    compact_vocab: Annotated[
        bool, Parameter(help="Keep only the tokens that the corpus uses.", show_default=False)
    ] = False,
    input_dir: Annotated[Path | None, Parameter(help="Folder of *.txt files.")] = None,
    limit_examples: Annotated[int | None, Parameter(help="Use only the first so many documents.")] = None,
    threads: Annotated[int | None, Parameter(help="Pieces counted at once. [default: all cores]")] = None,
    gpt2_dir: Gpt2Dir = None,
    seed: Annotated[Seed, Parameter(help="Who is held out, as `--data.seed` in training.")] = 0,
    out: Annotated[Out, Parameter(help="The counts' folder. [default: in the cache, by content]")] = None,
    as_json: Json = False,
) -> int:
    """Count n-grams and skip-grams of a corpus, once and for all.

    Of its training documents only: held-out text stays unseen. What is counted lies
    in the cache with the hashes of text and tokenizer; training a counted preset on
    the same text finds it there. Ctrl-C keeps what is done; the same command goes
    on.
    """
    from picolab.cli.amounts import COUNTING, READING, AmountDisplay
    from picolab.counts.count import count_corpus, folder_of, source_of
    from picolab.data.prepare import prepare

    shapes = _asked(order, skip, tables)
    if top < 0 or (threads is not None and threads < 1):
        raise BadSetting(f"top {top} and threads {threads} are no numbers to count with", hint="0 or more, 1 or more")
    use_gpt2_dir(gpt2_dir)
    started = time.perf_counter()
    with closing(AmountDisplay(console.progress(), READING)) as reading:
        dataset = prepare(
            data_of(spec, input_dir), tokenizer=tokenizer, compact_vocab=compact_vocab, seed=seed, input_dir=input_dir,
            limit_examples=limit_examples, progress=reading,
        )  # fmt: skip
    folder = out or folder_of(source_of(dataset))
    with closing(AmountDisplay(console.progress(), COUNTING)) as counting:
        counted = count_corpus(dataset, shapes, folder=folder, threads=threads, progress=counting)
    document = described(counted, shapes, dataset, top, seconds=time.perf_counter() - started)
    if as_json:
        console.emit(document)
    else:
        tell(document)
    return 0


def described(counted: Tables, shapes: list[Shape], dataset: Dataset, top: int, *, seconds: float) -> dict[str, Any]:
    """Everything this verb says, as data."""
    from picolab.counts.count import spelled

    rows = []
    for shape in shapes:
        table = counted[shape.name]
        most = [
            {
                "context": spelled(dataset.tokenizer, context, len(shape.back)),
                "target": dataset.tokenizer.token_name(target),
                "count": number,
            }
            for context, target, number in table.most_frequent(top)
        ]
        rows.append(
            {
                "name": shape.name,
                "back": shape.back,
                "counted": table.total,
                "different": len(table.keys),
                "contexts": table.n_contexts,
                "bytes": table.keys.nbytes + table.counts.nbytes,
                "most_frequent": most,
            }
        )
    return {
        "folder": counted.folder,
        "source": counted.source,
        "tables": rows,
        "seconds": seconds,
        "peak_memory_bytes": _peak_bytes(),
    }


def tell(document: dict[str, Any]) -> None:
    """The same for a person."""
    source = document["source"]
    columns = ["table", "counted", "different", "contexts", "on disk", "most frequent"]
    rows = [
        [
            table["name"],
            *(f"{table[name]:,}" for name in ("counted", "different", "contexts")),
            console.size(table["bytes"]),
            "  ".join(_spelled(one) for one in table["most_frequent"]),
        ]
        for table in document["tables"]
    ]
    title = f"{source.corpus}: {source.n_tokens:,} training tokens, vocabulary {source.vocab_size:,}"
    console.show(console.table(title, columns, rows, right=columns[1:-1]))
    print(f"\n{console.duration(document['seconds'])}, at most {console.size(document['peak_memory_bytes'])} of memory")
    print(f"text {source.tokens_hash}, tokenizer {source.tokenizer[:32]}, {source.split} split")
    print(f"counts  {document['folder']}")


def _spelled(one: dict[str, Any]) -> str:
    words = [console.quoted(word).plain.replace("\n", "\\n") for word in (*one["context"], one["target"])]
    return f"{' '.join(f'`{word}`' for word in words[:-1])} -> `{words[-1]}` {one['count']:,}"


def _asked(order: int, skip: int, tables: str | None) -> list[Shape]:
    from picolab.counts.shape import Shape

    if tables is not None:
        return list(dict.fromkeys(Shape.named(name) for name in tables.split()))
    Shape.of(order, skip)  # refuses what is out of reach
    return [Shape.of(n, s) for n in range(1, order + 1) for s in range(skip + 1)]


def _peak_bytes() -> int:
    """The most memory this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
