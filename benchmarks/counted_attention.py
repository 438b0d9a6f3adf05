"""What is attention worth that nobody trained? Arms that differ in attention alone, against n-gram counts, over seeds.

    python benchmarks/counted_attention.py [--corpus SPEC] [--tokenizer NAME] [--steps 500] [--seeds 3] [--arms zero,counted,..]

Every arm of a seed starts with the same feed-forward layers and, where it says so, the same embedding, and reads the same batches:
8 x 128 tokens a step, AdamW (0.9, 0.95), decay 0.1, learning rate 1e-3 with 50 steps of warm-up and a cosine to a tenth, clip 1.
`gain` is the share of what learning attention gains over having none: (zero - arm) / (zero - trainable).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import finish

ARMS: dict[str, dict[str, object]] = {
    "zero": {"attention": "zero", "embedding": "usual"},
    "random frozen": {"attention": "random", "embedding": "usual"},
    "uniform": {"attention": "uniform"},
    "published": {"attention": "published", "embedding": "usual"},
    "published, embedding kept": {"attention": "published"},
    "offsets": {"attention": "offsets"},
    "counted": {"attention": "counted"},
    "trainable": {"attention": "usual", "embedding": "usual", "frozen": False},
    "counted, then trained": {"attention": "counted", "frozen": False},
}
SAME = {
    "zero": {"attention": "zero"},
    "random frozen": {"attention": "random"},
    "uniform": {"attention": "uniform"},
    "offsets": {"attention": "offsets"},
    "counted": {"attention": "counted"},
    "trainable": {"attention": "usual", "frozen": False},
    "counted, then trained": {"attention": "counted", "frozen": False},
}
"""Where the vocabulary is large the embedding from counts is the largest single effect: every arm gets it."""


def train(
    corpus: str, tokenizer: str, steps: int, seed: int, arm: dict[str, object], folder: Path
) -> list[tuple[int, float]]:
    """Validation loss in nats against steps, of one arm."""
    out = folder / "run"
    fields = [
        word
        for name, value in arm.items()
        for word in (f"--model.{name}", str(value).lower() if isinstance(value, bool) else str(value))
    ]
    command = [
        sys.executable, "-m", "picolab", "train", "--model", "counted-pico", *fields, "--data", corpus, "--tokenizer", tokenizer,
        "--steps", str(steps), "--batch-size", "8", "--context-length", "128", "--lr", "0.001", "--seed", str(seed),
        "--data.seed", "0", "--training.dtype", "float32", "--training.device", "cpu", "--optimizer.warmup", "50",
        "--out", str(out), "--eval-every", str(max(steps // 10, 1)), "--training.eval_batches", "40",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["val/loss"]) for row in rows if "val/loss" in row]


def counts_of(corpus: str, tokenizer: str) -> dict[str, float]:
    """Kneser-Ney on the same validation tokens."""
    from picolab.data.loader import Loader
    from picolab.data.prepare import prepare
    from picolab.models.ngram import Config, NGram

    dataset = prepare(corpus, tokenizer=tokenizer)
    train_rows = Loader(dataset.train, batch_size=8, context_length=128, seed=0)
    rows = Loader(dataset.validation, batch_size=8, context_length=128, seed=0)
    found = {}
    for order in (2, 3, 5):
        model = NGram(Config(vocab_size=dataset.tokenizer.vocab_size, context_length=128, order=order))
        model.estimate(train_rows.epoch())
        total = count = 0.0
        for batch, _ in zip(rows.epoch(), range(40), strict=False):
            losses = model.losses(batch.tokens, batch.targets, documents=batch.documents)
            total, count = total + float(losses.sum()), count + int((batch.targets >= 0).sum())
        found[f"Kneser-Ney {order}"] = total / count
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpus", default="stories")
    parser.add_argument("--tokenizer", default="characters")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", default="")
    parser.add_argument("--same-embedding", action="store_true")
    parser.add_argument("--name", default="counted_attention")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    table = SAME if args.same_embedding else ARMS
    wanted = [arm.strip() for arm in args.arms.split(",") if arm.strip()] or list(table)
    curves: dict[str, list[list[tuple[int, float]]]] = {arm: [] for arm in wanted}
    seconds: dict[str, list[float]] = {arm: [] for arm in wanted}
    for seed in range(args.seeds):
        for arm in wanted:
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                curves[arm].append(train(args.corpus, args.tokenizer, args.steps, seed, table[arm], Path(folder)))
                seconds[arm].append(time.perf_counter() - start)
            print(f"seed {seed}  {arm:26} {curves[arm][-1][-1][1]:.4f}", file=sys.stderr, flush=True)
    rows = [[name, f"{loss:.4f}", "", "", ""] for name, loss in counts_of(args.corpus, args.tokenizer).items()]
    rows += [_row(arm, curves, seconds[arm]) for arm in wanted]
    finish(
        args.name,
        f"Attention from counts: {Path(args.corpus).stem}, {args.tokenizer}, {args.steps} steps",
        ["arm", "validation loss, nats", "gain recovered", "steps to the trainable arm's last loss", "seconds a run"],
        rows,
        [
            f"{args.seeds} seeds, mean and standard deviation; every arm of a seed has the same feed-forward layers and batches"
            + (", and the same embedding from counts" if args.same_embedding else ""),
            "gain recovered: (zero - arm) / (zero - trainable), seed by seed; above 100 % means that it learns faster, "
            "not that it could learn more",
        ],
    )


def _row(arm: str, curves: dict[str, list[list[tuple[int, float]]]], seconds: list[float]) -> list[str]:
    last = [curve[-1][1] for curve in curves[arm]]
    gains = [
        100 * (zero[-1][1] - curve[-1][1]) / (zero[-1][1] - best[-1][1])
        for zero, curve, best in zip(curves.get("zero", []), curves[arm], curves.get("trainable", []), strict=False)
    ]
    first = [
        next((step for step, loss in curve if loss <= best[-1][1]), None)
        for curve, best in zip(curves[arm], curves.get("trainable", []), strict=False)
    ]
    reached = [step for step in first if step is not None]
    return [
        arm,
        _spread(last, ".4f"),
        _spread(gains, ".1f") + " %" if gains else "",
        f"{statistics.mean(reached):,.0f}" if reached and len(reached) == len(first) else ("never" if first else ""),
        f"{statistics.median(seconds):.0f}",
    ]


def _spread(numbers: list[float], form: str) -> str:
    if not numbers:
        return ""
    spread = f" ± {statistics.stdev(numbers):{form}}" if len(numbers) > 1 else ""
    return f"{statistics.mean(numbers):{form}}{spread}"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
