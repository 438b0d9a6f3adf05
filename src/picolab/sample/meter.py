"""How fast was a text written? Prompts are read many tokens a pass, texts are written few: two speeds.

    read the prompts  |  pass  pass  pass ..          the pass that reads the prompts also says the first token of each text
    tokens / second   |  tokens / second

What happens between passes, such as a slow terminal, is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(kw_only=True, slots=True)
class Meter:
    """Tokens and seconds, summed over everything that is written with it.

    `passes` are forward passes after the prompt, each over all rows that are written together. `drafted` and `accepted` count
    guesses of speculative decoding (`sample/speculate.py`).
    """

    tokens_read: int = 0
    seconds_reading: float = 0.0
    tokens_written: int = 0
    seconds_writing: float = 0.0
    passes: int = 0
    drafted: int = 0
    accepted: int = 0

    @property
    def reading_speed(self) -> float | None:
        """Prompt tokens a second."""
        return self.tokens_read / self.seconds_reading if self.seconds_reading else None

    @property
    def writing_speed(self) -> float | None:
        """Tokens a second after the first of each text."""
        return self.tokens_written / self.seconds_writing if self.seconds_writing else None

    @property
    def tokens_a_pass(self) -> float | None:
        """Tokens that one pass wrote, all rows together; above the number of rows where drafts were accepted."""
        return self.tokens_written / self.passes if self.passes else None

    @property
    def acceptance(self) -> float | None:
        """Which share of the guesses was right."""
        return self.accepted / self.drafted if self.drafted else None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While prompts are read and the first tokens picked."""
        began = time.perf_counter()
        yield
        self.seconds_reading += time.perf_counter() - began

    @contextmanager
    def writing(self) -> Iterator[None]:
        """During one pass and what it picks."""
        began = time.perf_counter()
        yield
        self.seconds_writing += time.perf_counter() - began
        self.passes += 1
