"""How long may somebody's code think? As long as it is told to, and then it is interrupted.

    with limited(20, "`my_port.py:make` on 2 x 3 tokens"):      an alarm of the operating system rings, again and again, until
        model(tokens)                                           Python is back in this file

A loop inside a library that never returns to Python cannot be interrupted so. Alarms ring in the main thread only: elsewhere code
runs as long as it likes.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from picolab.errors import BadInput

AGAIN = 0.5
"""Seconds between alarms: code that catches the first does not catch all."""


class _TimeUpError(BaseException):
    """Not an Exception: somebody's `except Exception` shall not swallow it."""


@contextmanager
def limited(seconds: float | None, what: str) -> Iterator[None]:
    """Interrupt what takes longer than this; None is no limit."""
    if seconds is None or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise _TimeUpError

    before = signal.signal(signal.SIGALRM, ring)
    late = False
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _TimeUpError:
        late = True
    finally:
        signal.signal(signal.SIGALRM, before)
    if late:
        raise BadInput(
            f"{what} has not answered within {seconds:g} s", hint="it hangs, or is too slow to be examined here"
        )
