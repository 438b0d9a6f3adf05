"""What `picolab bench` says on a terminal: a table a work, where a step's time goes, and what cannot be told apart.

train: 8 x 128 tokens, float32, 2 threads, 7 rounds
model         tokens/s  spread  x first  memory  FLOP/token  of limit
softmax-pico     5,068      4%        -  310 MB      41.2 M       63%
lstm             5,012      6%   ~ 0.99  402 MB      41.2 M       62%
~ softmax-pico is not told apart from lstm
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from picolab.cli import console

if TYPE_CHECKING:
    from picolab.compare.bench_result import Bench, Row

STAGES = {"data": "data", "forward": "forward", "loss": "loss", "backward": "backward", "optimizer": "optim."}

LIMITS = {
    "train": "of a matrix product's FLOP/s; of copy: AdamW's, of a copy's bytes/s",
    "prefill": "of a matrix product's FLOP/s",
    "decode": "bytes of weights and cache, of those a plain sum reads a second",
}


def show(bench: Bench) -> None:
    """Everything that was measured."""
    asked = bench.asked
    for what in asked["what"]:
        rows = [row for row in bench.rows if row.what == what]
        if rows:
            threads = f"{asked['threads']} thread{'s' if asked['threads'] != 1 else ''}"
            where = threads if asked["device"] == "cpu" else asked["device"]
            done = min(row.rounds for row in rows)
            rounds = f"{done} round{'s' if done != 1 else ''}"
            console.show(
                Text(
                    f"{what}: {asked['batch_size']} x {asked['length']} tokens, {asked['dtype']}, {where}, {rounds}",
                    "bold",
                )
            )
            _WORKS[what](rows)
            _say_what_is_alike(rows)
            _say_notes(rows)
            console.show(Text(f"of limit: {LIMITS[what]}", style="dim"))
            print()
    for skipped in bench.skipped:
        console.show(Text(f"{skipped.what} left out for {skipped.model}: {skipped.says}", style="yellow"))
    limits = bench.limits
    if limits is not None:
        console.show(
            Text(
                f"this machine: {_rate(limits.products / 1e9)} GFLOP/s of {limits.dtype} products, "
                f"copies {limits.copy / 1e9:.1f} GB/s, reads {limits.read / 1e9:.1f} GB/s",
                style="dim",
            )
        )


def _train(rows: Sequence[Row]) -> None:
    columns = ("model", "tokens/s", "spread", "x first", "memory", "FLOP/token", "of limit")
    _table(columns, [[*_speed(row), console.size(row.peak_bytes), *_products(row)] for row in rows])
    descended = [row for row in rows if "forward" in row.stages]
    if not descended:
        return
    console.show(Text("where a step goes", style="bold"))
    split = [
        [
            row.model,
            _seconds(row.step_seconds),
            *(_share(row.stages[s] / row.step_seconds) for s in STAGES),
            _share(row.share_of_copy),
        ]
        for row in descended
    ]
    _table(("model", "step", *STAGES.values(), "of copy"), split)


def _prefill(rows: Sequence[Row]) -> None:
    columns = ("model", "tokens/s", "spread", "x first", "memory", "FLOP/token", "of limit")
    _table(columns, [[*_speed(row), console.size(row.peak_bytes), *_products(row)] for row in rows])


def _decode(rows: Sequence[Row]) -> None:
    columns = ("model", "tokens/s", "spread", "x first", "ms/token", "reads", "of limit")
    _table(
        columns,
        [
            [
                *_speed(row),
                f"{row.step_seconds * 1e3:.2f}",
                "-" if row.bytes_per_token is None else console.size(row.bytes_per_token),
                _share(row.share_of_read),
            ]
            for row in rows
        ],
    )


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    console.show(console.table(None, columns, cells, right=columns[1:]))


def _speed(row: Row) -> list[str]:
    ratio = "-" if row.ratio is None else f"{'' if row.told_apart else '~ '}{row.ratio:.2f}"
    return [row.model, f"{row.tokens_per_second:,.0f}", _share(row.spread), ratio]


def _products(row: Row) -> list[str]:
    return [_count(row.flops_per_token), _share(row.share_of_products)]


def _say_what_is_alike(rows: Sequence[Row]) -> None:
    """Every pair that the rounds do not tell apart, each model with those after it."""
    from picolab.compare.bench_result import ENOUGH_ROUNDS

    if len(rows) > 1 and min(row.rounds for row in rows) < ENOUGH_ROUNDS:
        console.show(Text(f"~ fewer than {ENOUGH_ROUNDS} rounds tell nothing apart", style="dim"))
        return
    place = {row.model: at for at, row in enumerate(rows)}
    for row in rows:
        later = [name for name in row.same_as if place[name] > place[row.model]]
        if later:
            console.show(Text(f"~ {row.model} is not told apart from {', '.join(later)}", style="dim"))


def _say_notes(rows: Sequence[Row]) -> None:
    """What a figure means for some models; those with one note stand together."""
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            notes.setdefault(note, []).append(row.model)
    for note, names in notes.items():
        console.show(Text(f"{', '.join(names)}: {note}", style="dim"))


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _seconds(value: float) -> str:
    if value >= 1:
        return f"{value:,.2f} s"
    return f"{value * 1e3:.{0 if value >= 0.1 else 1 if value >= 0.01 else 2}f} ms"


def _count(value: float | None) -> str:
    if value is None:
        return "-"
    for least, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= least:
            return f"{value / least:.{1 if value < 100 * least else 0}f} {unit}"
    return f"{value:.0f}"


_WORKS = {"train": _train, "prefill": _prefill, "decode": _decode}
