"""What may an engine be asked to read? The same question for all of them, and the same answers as picolab's own models give."""

from __future__ import annotations

from collections.abc import Sequence

from picolab.errors import BadInput


def check_tokens(tokens: Sequence[int], *, before: int, vocab_size: int, context_length: int | None) -> None:
    """Refuse what a foreign engine would answer with a crash or with nonsense."""
    if not tokens:
        raise BadInput("there is no token to read")
    strange = next((token for token in tokens if not 0 <= token < vocab_size), None)
    if strange is not None:
        raise BadInput(f"token {strange} is outside the model's vocabulary of {vocab_size}")
    if context_length is not None and before + len(tokens) > context_length:
        raise BadInput(
            f"{before + len(tokens)} positions are more than the model's context of {context_length}",
            hint="shorten the text or use a model with a longer context",
        )
