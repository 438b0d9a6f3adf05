"""Where may a long text be cut so that the ids stay the same? And how much goes to the library at once?

    "It was late. The boats came in."   ->   "It was late. The boats" + " came in."

Encoding holds about a hundred bytes a token beside the ids, which a whole novel as one document would not fit. GPT-2's pattern lets
white space only begin a token, never follow inside one, so a cut between a letter or digit and a space falls between tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

PIECE = 1 << 17  # characters
GROUP = 1 << 20  # characters in the library at once
_CUT = re.compile(r"(?<=[A-Za-z0-9])(?=[ \n])")


def cuts_at_spaces(description: dict[str, Any]) -> bool:
    """Whether a tokenizer.json gives the pieces of a text, cut as here, the ids of the whole."""
    if description["normalizer"] is not None or any(not added["special"] for added in description["added_tokens"]):
        return False
    pre = description["pre_tokenizer"]
    if not description["model"].get("merges"):  # single bytes, characters or words
        return pre is None or (pre["type"] in ("WhitespaceSplit", "ByteLevel") and not pre.get("add_prefix_space"))
    return pre is not None and pre["type"] == "ByteLevel" and pre["use_regex"] and not pre["add_prefix_space"]


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """The text in pieces of about `size` characters or more: only where a cut changes nothing."""
    if len(text) <= size:
        yield text
        return
    start = 0
    while (cut := _CUT.search(text, start + size)) is not None:
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def groups(parts: Iterable[tuple[int, str]], size: int = GROUP) -> Iterator[list[tuple[int, str]]]:
    """Consecutive parts together, up to about `size` characters."""
    group: list[tuple[int, str]] = []
    held = 0
    for part in parts:
        group.append(part)
        held += len(part[1])
        if held >= size:
            yield group
            group, held = [], 0
    if group:
        yield group
