"""Is an embedding of nearly orthogonal rows worth its time? Six ways to begin, their coherence, and the loss after training.

    python benchmarks/embeddings.py [--corpus SPEC] [--tokenizer bpe-2048] [--steps 300] [--seeds 3] [--out FOLDER]

The trainable twin of counted-pico, all of it trained, differs in nothing but the embedding it begins with: same layers, batches and
schedule as the recipe `counted-attention`. Interrupted, the same call with --out goes on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from picolab.cli.compare_display import CompareDisplay
from picolab.cli.console import progress
from picolab.compare.compare import compare
from picolab.counts.closed_form import write_attention
from picolab.counts.coherence import measured, welch
from picolab.models.counted import EMBEDDING
from picolab.recipes.counted_attention import COMMON
from picolab.runs.settings import resolve
from picolab.train.setup import dataset_of
from picolab.zoo import create

from harness import finish

BEGUN_ALIKE = {"model.learned_positions": "false", "context_length": "128", "eval_every": "0"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpus", default="stories")
    parser.add_argument("--tokenizer", default="bpe-2048")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    overrides = COMMON | BEGUN_ALIKE | {"tokenizer": args.tokenizer}
    with tempfile.TemporaryDirectory() as folder:
        out = args.out or Path(folder) / "out"
        with CompareDisplay(progress()) as display:
            found = compare(
                [f"{name}=counted-pico:attention=usual,frozen=false,embedding={name}" for name in EMBEDDING],
                data=args.corpus,
                tokens=8 * 128 * args.steps,
                seeds=args.seeds,
                out=out,
                overrides=overrides,
                report=display,
            )
    spec = {"data.spec": args.corpus, "data.tokenizer": args.tokenizer}
    dataset = dataset_of(resolve("counted-pico", overrides=spec))
    rows = []
    for row in found.rows:
        if row.model not in EMBEDDING or row.loss is None:
            continue
        torch.manual_seed(0)
        words = dataset.tokenizer.vocab_size
        model = create("counted-pico", vocab_size=words, seed=0, attention="usual", frozen=False, embedding=row.model)
        start = time.perf_counter()
        write_attention(model, dataset)
        seconds = time.perf_counter() - start
        spread = measured(row.model, model.embedding.weight.detach())
        rows.append(
            [
                row.model,
                EMBEDDING[row.model],
                f"{spread.largest:.3f}",
                f"{spread.mean:.3f}",
                f"{seconds:.1f} s",
                f"{row.loss.mean:.4f} ({row.loss.low:.4f} to {row.loss.high:.4f})",
            ]
        )
    finish(
        "embeddings",
        f"What an embedding begins with: {Path(args.corpus).stem}, {args.tokenizer}, {args.steps} steps",
        ["embedding", "", "largest cosine", "mean", "time to make", "loss, nats a token"],
        rows,
        [
            f"{dataset.tokenizer.vocab_size:,} rows in 128 dimensions: a cosine of {welch(dataset.tokenizer.vocab_size, 128):.3f} "
            "is the least possible (Welch 1974)",
            f"{args.seeds} seeds, smallest and largest in brackets; the time is that of one thread, counting included where counts "
            "were not there",
        ],
    )


if __name__ == "__main__":
    main()
