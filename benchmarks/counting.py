"""How long does counting take, and how much memory? Ten million tokens of 50,257 ids, eight tables; then attention from them.

    python benchmarks/counting.py [--json] [--tokens N] [--worker SCRIPT]

The tokens are drawn independently from a Zipf law, which is the worst case: real text repeats itself and has fewer pairs. Every
part runs in a process of its own; memory is the most that was resident.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from harness import finish

VOCAB, TOKENS = 50257, 10_000_000


class Words:
    """A tokenizer as far as counting asks."""

    fingerprint, vocab_size, eot = "zipf", VOCAB, 0


def dataset(n_tokens: int):
    """Documents of 1,000 Zipf tokens, as a dataset with a training part."""
    from types import SimpleNamespace

    from picolab.data.store import TokenStore

    generator = np.random.default_rng(0)
    ranks = 1 / np.arange(1, VOCAB)
    ids = generator.choice(np.arange(1, VOCAB, dtype=np.uint32), size=n_tokens, p=ranks / ranks.sum())
    ids[::1000] = 0
    ids = np.append(ids, np.uint32(0))
    offsets = np.append(np.arange(0, n_tokens, 1000), n_tokens)
    store = TokenStore(name="zipf", ids=ids, offsets=offsets, bytes=np.diff(offsets), fill=0)
    return SimpleNamespace(name="zipf", train=store, tokenizer=Words())


def counting(folder: str, piece: int, n_tokens: int) -> str:
    from picolab.counts.count import count_corpus
    from picolab.counts.shape import Shape

    data = dataset(n_tokens)
    start = time.perf_counter()
    tables = count_corpus(
        data, [Shape.of(n, s) for n in (1, 2) for s in range(4)], folder=Path(folder) / str(piece), piece=piece
    )
    seconds = time.perf_counter() - start
    return f"{seconds:.1f} s|{sum(len(tables[name].keys) for name in tables):,} pairs and triples"


def attention(folder: str, piece: int, n_tokens: int) -> str:
    import torch

    from picolab.counts.closed_form import FARTHEST, write_attention
    from picolab.counts.count import count_corpus
    from picolab.counts.information import far_and_near
    from picolab.counts.shape import Shape
    from picolab.zoo import create

    data = dataset(n_tokens)
    shapes = [far_and_near(offset) for offset in range(1, FARTHEST + 1)]
    shapes += [Shape.of(1, 0), Shape.of(1, 1)]
    start = time.perf_counter()
    count_corpus(data, shapes, folder=Path(folder) / str(piece))
    counted = time.perf_counter() - start
    model = create("counted-pico", vocab_size=VOCAB)
    start = time.perf_counter()
    write_attention(model, data, folder=Path(folder) / str(piece))
    seconds = time.perf_counter() - start
    assert torch.isfinite(model.blocks[0].attention.out_proj.weight).all()
    return f"{seconds:.1f} s|after {counted:.1f} s of counting what was missing"


PARTS = {"counting": counting, "attention": attention}


def main() -> None:
    n_tokens = int(sys.argv[sys.argv.index("--tokens") + 1]) if "--tokens" in sys.argv else TOKENS
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for what, piece, says in (
            ("counting", 2**24, "eight tables, in one piece"),
            ("counting", 2**21, "eight tables, in pieces of 2 M tokens, merged from disk"),
            ("attention", 2**24, "embedding, places and values of counted-pico"),
        ):
            command = [sys.executable, __file__, "--worker", what, folder, str(piece), str(n_tokens)]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().split("|")
            rows.append([says, found[0], found[1], found[2]])
    finish(
        "counting",
        f"Counting {n_tokens / 1e6:g} M tokens",
        ["what", "time", "", "peak memory"],
        rows,
        [
            f"{VOCAB:,} ids, independent and Zipf-distributed; contexts of one and two tokens, skips 0 to 3; two threads",
            "asked for: 15 s and 1 GB for the tables, 20 s and 2 GB for the attention",
        ],
    )


if __name__ == "__main__":
    if "--worker" in sys.argv:
        name, folder, piece, count = sys.argv[-4:]
        told = PARTS[name](folder, int(piece), int(count))
        print(f"{told}|{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")
    else:
        main()
