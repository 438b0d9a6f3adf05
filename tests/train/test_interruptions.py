"""Whose handlers are in place when training has ended?"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from picolab.errors import Lost
from picolab.train.interruptions import Interruptions


@pytest.fixture(autouse=True)
def handlers() -> Iterator[dict[signal.Signals, Any]]:
    before = {number: signal.getsignal(number) for number in Interruptions.SIGNALS}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


def closed_by(error: Exception | None) -> None:
    with suppress(Exception), Interruptions():
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [None, RuntimeError("a mistake")])
def test_the_handlers_that_were_there_are_back(error: Exception | None, handlers: dict[signal.Signals, Any]) -> None:
    closed_by(error)
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_who_has_lost_another_process_can_say_so_before_the_launcher_ends_it(
    handlers: dict[signal.Signals, Any],
) -> None:
    closed_by(Lost("process 0 of 2 waited for another that is gone"))
    signal.raise_signal(signal.SIGTERM)  # would end the tests
    assert signal.getsignal(signal.SIGINT) == handlers[signal.SIGINT]
