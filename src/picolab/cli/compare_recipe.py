"""`picolab compare --recipe counted-attention`: a comparison whose arms, data and questions are laid down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from picolab.cli import console
from picolab.errors import UnknownName

if TYPE_CHECKING:
    from picolab.compare.gain import Standing
    from picolab.compare.result import Row
    from picolab.recipes.counted_attention import CountedAttention

RECIPES = ("counted-attention",)


def compare_recipe(
    recipe: str,
    arms: Sequence[str],
    *,
    tiny: bool,
    data: str | None,
    tokens: int | None,
    seeds: Sequence[int],
    out: Path | None,
    overrides: Mapping[str, str],
    as_json: bool,
) -> int:
    """Run a recipe with a display, then tell what it found."""
    if recipe not in RECIPES:
        raise UnknownName("recipe", recipe, RECIPES)
    from picolab.cli.compare import fresh_folder
    from picolab.cli.compare_display import CompareDisplay
    from picolab.recipes.counted_attention import counted_attention

    folder = out or fresh_folder(Path("runs"), recipe + ("-tiny" if tiny else ""))
    with CompareDisplay(console.progress()) as display:
        found = counted_attention(
            folder, tiny=tiny, arms=arms, data=data, tokens=tokens, seeds=seeds, overrides=overrides, report=display
        )
    comparison = found.comparison
    if as_json:
        summary = comparison.summary()
        console.emit(
            {**summary, "gain": found.gain, "findings": found.findings, "folder": folder, "report": found.report}
        )
    else:
        tell(found, folder)
    if not comparison.complete:
        console.progress().print(f"interrupted; the same command with --out {folder} goes on", soft_wrap=True)
        return 130
    return 0 if any(row.loss for row in comparison.rows) else 1


def tell(found: CountedAttention, folder: Path) -> None:
    """The table of arms, the findings, where everything lies."""
    setup, gain = found.comparison.setup, found.gain
    columns = ["arm", "loss", "bits/byte", "gain recovered", "steps", "time", "trainable", "frozen", "buffers"]
    seeds = "1 seed" if len(setup.seeds) == 1 else f"{len(setup.seeds)} seeds"
    title = f"{setup.data}, {setup.tokenizer}, {setup.tokens:,} tokens a run, {seeds}; validation loss in nats"
    console.show(
        console.table(
            title, columns, [_cells(row, gain.of(row.model)) for row in found.comparison.rows], right=columns[1:]
        )
    )
    print(
        f"gain recovered: of what {gain.best} gains over {gain.none}; steps: to the loss that {gain.best} ends with\n"
    )
    for sentence in found.findings:
        print(sentence)
    for row in found.comparison.rows:
        for reason in row.reasons:
            print(f"{row.model} did not finish: {reason}")
    print(f"\nreport  {found.report}\ndata    {folder / 'comparison.json'}  {folder / 'comparison.csv'}")


def _cells(row: Row, standing: Standing | None) -> list[str]:
    from picolab.compare.gain import mean_of
    from picolab.recipes.counted_words import share_said

    reached = [] if standing is None else [one.step for one in standing.reached_best]
    seconds = None if standing is None or standing.seconds is None else standing.seconds.mean
    whole = len(reached) == len(row.losses) > 0
    return [
        row.model,
        *(console.number(None if band is None else band.mean) for band in (row.loss, row.bits_per_byte)),
        "-" if standing is None else share_said(standing),
        f"{mean_of(reached):,.0f}" if whole else "-",
        "-" if seconds is None else console.duration(seconds),
        *("-" if row.size is None else f"{getattr(row.size, name):,}" for name in ("trainable", "frozen", "buffers")),
    ]
