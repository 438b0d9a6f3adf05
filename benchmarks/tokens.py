"""Building tokens from text: megabytes a second on one core, and memory against the size of the corpus.

The peer is the `tokenizers` library itself, encoding the same documents with the same tokenizer and throwing the ids away.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import finish, measure, serve, worker_arguments

SMALL, LARGE = 4_000, 16_000
VOCAB = 2048


def build(who: str, stories: str) -> Iterator[None]:
    """The whole way from a text file to memory-mapped tokens for each `next`."""
    import os

    os.environ["RAYON_NUM_THREADS"] = "1"
    import torch

    from picolab.data.prepare import prepare
    from picolab.data.stories import generate_stories
    from picolab.text.bpe import train_bpe

    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.txt"
        with corpus.open("w", encoding="utf-8") as file:
            file.writelines(story + "\n" for story in generate_stories(int(stories), seed=0))
        tokenizer = train_bpe(generate_stories(2000, seed=0), vocab_size=VOCAB)
        print(corpus.stat().st_size, file=sys.stderr)
        number = 0
        while True:
            yield
            number += 1
            if who == "picolab":
                prepare(f"lines:{corpus}", tokenizer=tokenizer, cache_dir=Path(folder) / str(number))
            else:
                with corpus.open(encoding="utf-8") as file:
                    while lines := file.readlines(2**20):
                        tokenizer.inner.encode_batch_fast(lines, add_special_tokens=False)


def main() -> None:
    arms = [("picolab", str(SMALL)), ("picolab", str(LARGE)), ("tokenizers", str(SMALL)), ("tokenizers", str(LARGE))]
    timings = measure(__file__, arms, rounds=5, warm_up=1)
    from picolab.data.stories import generate_stories

    size = {str(n): sum(len(s.encode()) + 1 for s in generate_stories(n, seed=0)) for n in (SMALL, LARGE)}
    rows = []
    for (who, stories), timing in zip(arms, timings, strict=True):
        assert timing is not None
        rate = size[stories] / timing.seconds / 1e6
        rows.append([who, f"{size[stories] / 1e6:.1f} MB", f"{rate:.2f} MB/s", f"{timing.peak_mb:,.0f} MB"])
    finish(
        "tokens",
        "Tokens from text",
        ["who", "corpus", "rate, one core", "peak memory"],
        rows,
        [
            f"generated stories, one a line, trained byte-pair vocabulary of {VOCAB:,}",
            "picolab: read, hash, split by document, encode, count bytes, write memory-mapped files; tokenizers: encode only",
        ],
    )


if __name__ == "__main__":
    arm = worker_arguments()
    if arm:
        serve(build(*arm))
    else:
        main()
