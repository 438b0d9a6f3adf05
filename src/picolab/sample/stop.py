"""Where does a stop string end a text that arrives in pieces?

stop "END"     pieces  "the E" "N" "ough" "EN" "D.."
               out     "the "  ""  "ENough" ""  ""      found: what might become a stop string is held back
"""

from __future__ import annotations

from collections.abc import Sequence

from picolab.errors import BadSetting


class Cut:
    """Text in, text out, ended before the first stop string; the beginning of one is held back until it is none."""

    def __init__(self, stop: Sequence[str]) -> None:
        self.stop = [stop] if isinstance(stop, str) else list(stop)
        if "" in self.stop:
            raise BadSetting("a stop string is empty", hint="every text holds the empty string: leave it out")
        self.held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """The text that is now certain to come before any stop string; of several, the one complete first counts."""
        if self.found:
            return ""
        text = self.held + piece
        at = min((start for s in self.stop if (start := text.find(s)) >= 0), default=None)
        if at is not None:
            self.held, self.found = "", True
            return text[:at]
        keep = max((n for s in self.stop for n in range(1, len(s)) if text.endswith(s[:n])), default=0)
        self.held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back and became nothing."""
        held, self.held = self.held, ""
        return held
