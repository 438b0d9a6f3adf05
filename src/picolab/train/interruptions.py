"""What happens on Ctrl-C or SIGTERM? The step is finished and saved. The second time, everything ends at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from picolab.errors import Lost


class Interruptions:
    """While open, the first SIGINT or SIGTERM is noted in `received`; the second raises `KeyboardInterrupt`.

    Python delivers signals to the main thread only: in any other, nothing is changed and nothing is noted.
    Closed because another process of the run is gone (`Lost`), it leaves SIGTERM ignored: the launcher sends that to all
    who are left, and they end anyway, but not before they have said why.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            left_alone = number == signal.SIGTERM and isinstance(error, Lost)
            signal.signal(number, signal.SIG_IGN if left_alone else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt("stopped at once, before the step under way was saved")
        self.received = signal.Signals(number).name
