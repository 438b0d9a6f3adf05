"""How preference training looks while it runs, and its result as a table.

step 50/200  held-out pairs 91.0 % right, plain text 2.341 nats a token
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console

from picolab.cli import console as printing
from picolab.cli.progress import Display
from picolab.runs.preference import REWARDS, Changes
from picolab.train.events import Evaluated, Event, Started, Step

if TYPE_CHECKING:
    from picolab.train.dpo_remarks import Remarks


class PreferenceDisplay:
    """The usual display, with evaluations in the words of preferences and remarks in between."""

    def __init__(self, console: Console, remarks: Remarks) -> None:
        self.console = console
        self.remarks = remarks
        self.inner = Display(console)

    def __enter__(self) -> Self:
        self.inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.inner.__exit__(kind, error, trace)

    @property
    def started(self) -> Started | None:
        return self.inner.started

    @property
    def stopped(self) -> Any:
        return self.inner.stopped

    def __call__(self, event: Event) -> None:
        match event:
            case Evaluated():
                self._say(said_of_evaluation(event, self.started))
                self._remark(self.remarks.after_evaluation(event.step, event.figures[REWARDS]))
            case Step():
                self.inner(event)
                self._remark(self.remarks.after_step(event.step, event.loss, event.figures))
            case _:
                self.inner(event)

    def _remark(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self._say(f"remark: {sentence}")

    def _say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)


def said_of_evaluation(event: Evaluated, started: Started | None) -> str:
    """Accuracy on held-out pairs, the loss on plain text, the distance from the reference."""
    steps = f"/{started.steps}" if started else ""
    figures = event.figures
    return (
        f"step {event.step}{steps}  held-out pairs {figures[REWARDS]:.1%} right, plain text {printing.number(event.loss)} nats a "
        f"token, {figures['val/kl']:.3f} nats a token from the reference"
    )


def tell(result: dict[str, Any], changes: Changes | None) -> None:
    """The result for a person: what was learned by kind, what it cost, what the model writes now."""
    out = printing.results(as_json=False)

    def say(line: Any = "") -> None:
        out.print(line, soft_wrap=True)

    say(f"{result['reason']}: {result['says']} ({printing.duration(result['seconds'])})")
    if changes is not None:
        say()
        printing.show(_table(changes))
        say()
        for sentence in in_words(changes):
            say(sentence)
        for sample, when in zip(changes.samples, ("before", "after"), strict=False):
            say(f"\nsample {when}, step {sample['step']}")
            say(printing.quoted(sample["prompt"] + "|" + sample["text"]))
    say(f"\nrun  {result['run']}\nbase {result['base']}\nnext")
    for command in result["next"]:
        say(f"  {command}")


def in_words(changes: Changes) -> list[str]:
    """What the table means."""
    direction = "worse" if changes.cost > 0 else "better"
    rewards = changes.rewards
    return [
        f"Plain text costs {changes.loss_after:.3f} nats a token, {changes.loss_before:.3f} before: "
        f"{abs(changes.cost):.1%} {direction}.",
        f"Where it writes, the model is {changes.kl:.3f} nats a token from its reference (KL).",
        f"Rewards on held-out pairs: chosen {rewards['chosen']:+.2f}, rejected {rewards['rejected']:+.2f}, "
        f"margin {rewards['margins']:.2f}.",
    ]


def _table(changes: Changes) -> Any:
    columns = ["worse side", "pairs", "reward right", "likelier before", "after"]
    rows = [
        [
            kind.name,
            f"{kind.pairs:,}",
            f"{kind.rewarded:.1%}",
            f"{kind.likelier_before:.1%}",
            f"{kind.likelier_after:.1%}",
        ]
        for kind in changes.kinds
    ]
    title = "Held-out pairs whose better side wins (chance is 50 %)"
    return printing.table(title, columns, rows, right=columns[1:])
