"""What `--self-test` prints: a line of progress, the goals, and every trial that did not come out as it should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from picolab.cli import console

if TYPE_CHECKING:
    from picolab.diagnose.self_test import SelfTest, Trial


def run(examine: Callable[..., SelfTest], seed: int, *, out: Path | None, as_json: bool) -> int:
    """Examine the tool itself; exit code 1 where a goal is missed."""
    with console.progress().status("examining") as status:
        result = examine(seed, say=lambda line: status.update(Text(line)))
    document = {"self_test": result.of, "verdict": "good" if result.good else "bad", **console.plain(result)}
    document["goals"] = [{**console.plain(goal), "met": goal.met} for goal in result.goals]
    if out is not None:
        console.save_json(out, document)
    if as_json:
        console.emit(document)
    else:
        show(result)
    return 0 if result.good else 1


def show(result: SelfTest) -> None:
    """The goals as a table, then what went wrong."""
    rows = [
        (goal.name, f"{goal.reached} of {goal.of}", f"{100 * goal.least:.0f} %", "met" if goal.met else "MISSED")
        for goal in result.goals
    ]
    console.show(console.table(None, ("what", "reached", "goal", ""), rows, right=("reached", "goal")))
    for trial in result.trials:
        if not trial.good:
            console.show(console.quoted(f"{trial.kind} in {trial.host}: {trial.fault} {trial.says}".rstrip()))
            console.show(Text(f"  {_answer(trial)}"))
    word = "the tool keeps its promises" if result.good else "the tool does not keep its promises"
    console.show(Text(f"{word} (seed {result.seed})", style="bold green" if result.good else "bold red"))
    console.progress().print(f"[{len(result.trials)} trials, {result.seconds:.1f} s]", style="dim", markup=False)


def _answer(trial: Trial) -> str:
    said = ", ".join(trial.told) or "no name"
    if not trial.detected:
        return "not detected"
    return f"born at {trial.place or '?'}, found at {trial.found_at or '?'}; said: {said}"
