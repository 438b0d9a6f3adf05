"""Every preset at its own sizes: training, reading and writing, beside what this machine reached in the same minutes.

    python benchmarks/presets.py [--threads 1] [--batch-size 4] [--length 64] [--seconds 2] [--rounds 5] [MODEL ..]

What `picolab bench` measures, as tables for docs/benchmarks.md. All presets are in memory at once and take turns: 12 GB.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from harness import Table, finish_tables

REFERENCE = "softmax-pico"


def main() -> None:
    from picolab.compare.bench import bench
    from picolab.compare.bench_asked import Asked
    from picolab.zoo import PRESETS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[REFERENCE, *(name for name in PRESETS if name != REFERENCE)])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", action="store_true")
    given = vars(parser.parse_args())
    given.pop("json")
    asked = Asked(**{**given, "models": tuple(given["models"])})
    result = bench(asked, lambda progress: print(progress.says, file=sys.stderr) if progress.lasting else None)
    if result.interrupted:
        sys.exit("interrupted: nothing is kept")
    limits, of = result.limits, {what: [row for row in result.rows if row.what == what] for what in asked.what}
    finish_tables(
        "presets",
        "Presets: training, reading, writing",
        {
            "Training": training(of["train"]),
            "Where a step goes": split(of["train"]),
            "Reading a prompt": reading(of["prefill"]),
            "Writing": writing(of["decode"]),
        },
        [
            f"{asked.batch_size} rows of {asked.length} random tokens, one document each; {asked.dtype}, threads: {asked.threads}",
            f"median of {asked.rounds} rounds in which the models take turns; spread: slowest to fastest round",
            f"`x` is against {asked.models[0]}; ~: not told apart from it, because neither was faster in every round",
            f"this machine meanwhile: {limits.products / 1e9:,.0f} GFLOP/s of {limits.dtype} products (1,024 cubed), a copy moves "
            f"{limits.copy / 1e9:.1f} GB/s, a sum reads {limits.read / 1e9:.1f} GB/s",
            "FLOP: products that a token asks for (measure/arithmetic.py), three times those in training; of products: what was "
            "done of that a second; of copy: AdamW's 28 bytes a parameter",
            "loss holds the head and its gradient, which are one operation",
            "memory is what the process grew by, model and optimizer included",
            "read: bytes of weights and cache for one token; weights that fit the processor's cache are read faster than memory is",
            *(f"{skipped.model} has no {skipped.what}: {skipped.says}" for skipped in result.skipped),
            *notes(result.rows),
        ],
    )


def training(rows: Sequence) -> Table:
    columns = ["preset", "parameters", "vocabulary", "tokens/s", "spread", "x", "memory", "FLOP/token", "of products"]
    cells = [
        [
            row.model,
            f"{row.parameters / 1e6:.1f} M" if row.parameters else "",
            f"{row.vocab_size:,}",
            *speed(row),
            f"{row.peak_bytes / 1e6:,.0f} MB",
            mega(row.flops_per_token),
            share(row.share_of_products),
        ]
        for row in rows
    ]
    return columns, cells


def split(rows: Sequence) -> Table:
    stages = ["data", "forward", "loss", "backward", "optimizer"]
    cells = [
        [
            row.model,
            f"{row.step_seconds * 1e3:,.1f} ms",
            *(share(row.stages[stage] / row.step_seconds) for stage in stages),
            share(row.share_of_copy),
        ]
        for row in rows
        if "forward" in row.stages
    ]
    return ["preset", "step", *stages, "of copy"], cells


def reading(rows: Sequence) -> Table:
    cells = [[row.model, *speed(row), mega(row.flops_per_token), share(row.share_of_products)] for row in rows]
    return ["preset", "tokens/s", "spread", "x", "FLOP/token", "of products"], cells


def writing(rows: Sequence) -> Table:
    cells = [
        [
            row.model,
            *speed(row),
            f"{row.step_seconds * 1e3:.2f} ms",
            "" if row.bytes_per_token is None else f"{row.bytes_per_token / 1e6:,.2f} MB",
            share(row.share_of_read),
        ]
        for row in rows
    ]
    return ["preset", "tokens/s", "spread", "x", "a token of each row", "read", "of reading"], cells


def speed(row) -> list[str]:
    ratio = "" if row.ratio is None else f"{'' if row.told_apart else '~ '}{row.ratio:.2f}"
    return [f"{row.tokens_per_second:,.0f}", share(row.spread), ratio]


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def mega(value: float | None) -> str:
    return "" if value is None else f"{value / 1e6:,.1f} M"


def notes(rows: Sequence) -> list[str]:
    """What a figure means for some presets; those with one note stand together."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        for note in row.notes:
            found.setdefault(note, {})[row.model] = None
    return [f"{', '.join(names)}: {note}" for note, names in found.items()]


if __name__ == "__main__":
    main()
