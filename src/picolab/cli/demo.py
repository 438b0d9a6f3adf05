"""`picolab demo`: the main job in a minute."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from picolab.cli import console
from picolab.cli.flags import Json, Out, Seed

if TYPE_CHECKING:
    from picolab.recipes.demo import Demo


def demo(
    *,
    seed: Seed = 0,
    out: Annotated[Out, Parameter(help="The demo's folder. [default: runs/<date>_demo]")] = None,
    as_json: Json = False,
) -> int:
    """The main job in a minute, offline: several kinds of model learn the same data.

    Integer sequences and stories; n-gram counts, a k-gram network, an LSTM and a
    small transformer; what each predicts before and after; a ranking in words; a
    page with pictures.
    """
    progress = console.progress()
    progress.print(
        "Four kinds of language model learn the same data: integer sequences, then stories. "
        "About a minute on two cores; no network.\n"
    )
    started = time.perf_counter()
    from picolab.cli.compare import fresh_folder
    from picolab.cli.compare_display import CompareDisplay
    from picolab.recipes.demo import demo as run_demo

    folder = out or fresh_folder(Path("runs"), "demo")
    with CompareDisplay(progress) as display:
        found = run_demo(folder, seed=seed, report=display)
    seconds = time.perf_counter() - started
    if as_json:
        console.emit(
            {
                "seconds": seconds,
                "folder": folder,
                "report": found.report,
                "complete": found.complete,
                "predictions": found.predictions,
                "parts": {name: comparison.summary() for name, comparison in found.parts},
            }
        )
    else:
        _tell(found, folder, seconds)
    return 0 if found.complete else 130


def _tell(found: Demo, folder: Path, seconds: float) -> None:
    """Predictions, rankings, samples, and where to go on."""
    from picolab.recipes.demo import ANSWER, QUESTION

    for name, comparison in found.parts:
        setup = comparison.setup
        print(f"\n{name.upper()}  {setup.data}, {setup.tokens:,} tokens a model\n")
        rows = [
            [
                row.model,
                console.number(None if row.loss is None else row.loss.mean, 3),
                _beyond(row.excess),
                _greedy(row),
            ]
            for row in comparison.rows
        ]
        last = "above the floor" if setup.floor is not None else "bits a byte"
        if setup.floor is None:
            for cells, row in zip(rows, comparison.rows, strict=True):
                cells[2] = console.number(None if row.bits_per_byte is None else row.bits_per_byte.mean, 3)
        console.show(console.table(None, ["model", "loss", last, "continues"], rows, right=["loss", last]))
        print()
        for sentence in comparison.ranking:
            print(sentence)
        if name == "numbers" and found.predictions:
            print(f"\nWhat follows `{QUESTION}`? The rule says {ANSWER}.\n")
            shown = [
                [p.model, _choices(p.before), _choices(p.after), "yes" if p.right else "no"] for p in found.predictions
            ]
            console.show(console.table(None, ["model", "before training", "after", "right"], shown, right=[]))
    if not found.complete:
        print(f"\ninterrupted; `picolab demo --out {folder}` goes on")
        return
    best = folder / "stories" / next(row for row in found.parts[-1][1].rows if not row.baseline).runs[0].run
    print(f"\n{seconds:.0f} s in all.  report  {found.report}\n\nTry next")
    print(f'  picolab generate --model {best} --prompt "The"')
    print("  picolab train --model lstm --data stories --steps 500")
    print("  picolab compare kgram-onehot lstm softmax-pico --data numeric --seeds 3")


def _beyond(excess: object) -> str:
    mean = getattr(excess, "mean", None)
    return "-" if mean is None else f"{mean:+.3f}"


def _greedy(row: object, width: int = 60) -> str:
    """The greedy sample on one line."""
    text = next((s.text for s in getattr(row, "samples", ()) if s.sampler == "greedy"), "")
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 2] + " …"


def _choices(choices: tuple[tuple[str, float], ...]) -> str:
    return "  ".join(f"{token} {probability:.0%}" for token, probability in choices)
