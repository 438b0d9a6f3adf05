"""What is attention worth that nobody trained? The recipe `counted-attention` in full, over seeds, on one corpus a call.

    python benchmarks/counted_attention.py [--corpus SPEC] [--tokenizer NAME] [--steps 500] [--seeds 3] [--arms "counted random"]
                                           [--name counted_attention] [--tiny] [--out FOLDER] [--busy]

Every arm of a seed starts with the same embedding and feed-forward layers and reads the same batches: 8 x 128 tokens a step, AdamW
(0.9, 0.95), decay 0.1, learning rate 1e-3, warm-up of a tenth and a cosine to a tenth, clip 1. Interrupted, the same call with
--out goes on. With --busy the seconds are left out: other work ran beside.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from picolab.cli.compare_display import CompareDisplay
from picolab.cli.console import progress
from picolab.compare.gain import Standing, mean_of
from picolab.compare.result import Row
from picolab.recipes.counted_attention import counted_attention
from picolab.recipes.counted_words import share_said

from harness import finish


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpus", default=None)
    parser.add_argument("--tokenizer", default="characters")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", default="")
    parser.add_argument("--name", default="counted_attention")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, CompareDisplay(progress()) as display:
        found = counted_attention(
            args.out or Path(folder) / "out",
            tiny=args.tiny,
            arms=args.arms.split(),
            data=args.corpus,
            tokens=None if args.tiny else 8 * 128 * args.steps,
            seeds=range(args.seeds),
            overrides={"tokenizer": args.tokenizer},
            report=display,
        )
    setup = found.comparison.setup
    finish(
        args.name,
        f"Attention from counts: {Path(setup.data).stem}, {setup.tokenizer}, {setup.tokens:,} tokens a run",
        [
            "arm",
            "loss, nats a token",
            "bits a byte",
            "gain recovered",
            "steps to where trainable ends",
            *([] if args.busy else ["seconds a run"]),
        ],
        [_cells(row, found.gain.of(row.model), timed=not args.busy) for row in found.comparison.rows],
        [
            *found.findings,
            f"{len(setup.seeds)} seeds; ± is the 95 % margin over seeds"
            + ("" if args.busy else f"; the whole took {time.perf_counter() - start:.0f} s"),
            *(
                ["other work ran beside: steps are steps, but seconds in the sentences are no measurement"]
                if args.busy
                else []
            ),
        ],
    )


def _cells(row: Row, standing: Standing | None, *, timed: bool) -> list[str]:
    if row.loss is None or standing is None:
        return [row.model, "; ".join(row.reasons), *[""] * (3 + timed)]
    steps = [one.step for one in standing.reached_best]
    return [
        row.model,
        f"{row.loss.mean:.4f} ({row.loss.low:.4f} to {row.loss.high:.4f})",
        "" if row.bits_per_byte is None else f"{row.bits_per_byte.mean:.3f}",
        share_said(standing),
        f"{mean_of(steps):,.0f}" if len(steps) == len(row.losses) else "not all seeds" if steps else "never",
        *(["" if standing.seconds is None else f"{standing.seconds.mean:.1f}"] if timed else []),
    ]


if __name__ == "__main__":
    main()
