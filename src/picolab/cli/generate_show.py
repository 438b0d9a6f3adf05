"""How is a text shown while a model writes it, and what is said about its speed afterwards?"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from picolab.cli import console

if TYPE_CHECKING:
    from picolab.sample.generate import Generation, Meter

REASONS = {
    "eot": "the model ended the text",
    "length": "--max-new-tokens reached",
    "stop": "a --stop text came",
    "context": "the model's context is full",
    "interrupted": "interrupted",
}
"""Why a text ends, in words."""


def show_while_written(opening: str, pieces: Generator[str, None, Generation]) -> Generation:
    """Print a text piece by piece, and after Ctrl-C what there is of it."""
    from picolab.sample.generate import Interrupted

    shown = False
    written = 0
    try:
        while True:
            piece = next(pieces)  # a prompt that cannot be read is refused here, before anything is shown
            said = _visible(piece if shown else opening + piece)
            # Counted first: Ctrl-C is noticed when a call returns, and nothing is to be shown twice.
            shown, written = True, written + len(piece)
            sys.stdout.write(said)
            sys.stdout.flush()
    except StopIteration as end:
        text: Generation = end.value
    except Interrupted as error:
        (text,) = error.texts
    except KeyboardInterrupt as error:  # it came while we were printing
        text = _ended(pieces, error)
    rest = text.text[written:]
    _write((rest if shown else opening + rest) + "\n")
    console.progress().print(f"[{len(text.ids)} tokens; {REASONS[text.reason]}]", style="dim")
    return text


def _ended(pieces: Generator[str, None, Generation], error: KeyboardInterrupt) -> Generation:
    """What was written by a generator that waits."""
    from picolab.sample.generate import Interrupted

    try:
        pieces.throw(error)
    except Interrupted as interrupted:
        return interrupted.texts[0]
    raise error


def show(texts: Sequence[Generation], *, chat: bool) -> None:
    """Print finished texts, each under a line about it."""
    for number, text in enumerate(texts, start=1):
        _write(f"--- {number} of {len(texts)}: {len(text.ids)} tokens; {REASONS[text.reason]}\n")
        between = "\n\n" if chat else ""
        _write(f"{text.prompt}{between}{text.text}\n")


def speed(meter: Meter) -> str:
    """How fast it was, in a line."""
    says = [f"read {meter.tokens_read:,} tokens{_at(meter.reading_speed)}"]
    if meter.tokens_written:
        says.append(f"wrote {meter.tokens_written:,}{_at(meter.writing_speed)}")
    if meter.drafted and meter.acceptance is not None:
        says.append(f"{meter.tokens_a_pass:.1f} a pass, {meter.acceptance:.0%} of {meter.drafted:,} guesses right")
    return f"[{'; '.join(says)}]"


def described(meter: Meter) -> dict[str, Any]:
    """The same for JSON."""
    names = ("tokens_read", "seconds_reading", "tokens_written", "seconds_writing", "passes", "drafted", "accepted")
    derived = ("reading_speed", "writing_speed", "tokens_a_pass", "acceptance")
    return {name: getattr(meter, name) for name in (*names, *derived)}


def _at(tokens_a_second: float | None) -> str:
    if tokens_a_second is None:
        return ""
    digits = 0 if tokens_a_second >= 20 else 1
    return f" at {console.number(tokens_a_second, digits)} a second"


def _write(piece: str) -> None:
    """To stdout at once."""
    sys.stdout.write(_visible(piece))
    sys.stdout.flush()


def _visible(piece: str) -> str:
    """In a pipe as it is, on a terminal without what would steer it."""
    return console.quoted(piece).plain if sys.stdout.isatty() else piece
