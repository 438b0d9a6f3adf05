"""TinyStories from the Hugging Face hub, for those who have a network. Eldan and Li 2023, arXiv:2305.07759.

Two million stories, about 2 GB; the `datasets` package keeps them in its own cache (HF_HOME) and reads them from disk. With a limit
of examples only the first are fetched. Everything else in this project works without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from picolab.errors import BadData, MissingExtra

DATASET = "roneneldan/TinyStories"


def tinystories(limit: int | None) -> Callable[[], Iterator[str]]:
    """The stories, as a function that starts over each time it is called."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingExtra("`tinystories`", "hub") from error
    rows = _ask(lambda: load_dataset(DATASET, split="train", streaming=limit is not None))

    def stories() -> Iterator[str]:
        each = _ask(lambda: iter(rows))
        while True:
            row = _ask(lambda: next(each, None))
            if row is None:
                return
            if text := row["text"].strip():
                yield text

    return stories


def _ask(question: Callable[[], Any]) -> Any:
    try:
        return question()
    # The package lets the exceptions of four others through (requests, httpx, huggingface_hub, fsspec), which have no common base.
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise BadData(
            f"`{DATASET}` cannot be had from the hub: {reason[0] if reason else type(error).__name__}",
            hint="go online once, or use `stories`, which needs no network, or a file of stories of your own",
        ) from error
