"""Integers: one token a number, so that a sequence is learned as numbers and not as digits.

    "2 4 6 8" -> ids of 2, 4, 6, 8         ids ascend with the numbers; then eot; padding is the last id

Text is whole numbers divided by white space, as Python writes them (`-3`, not `+3` or `007`: one number, one token). Decoding
divides by single spaces. The numbers are those of a corpus, or a range: `integers-0-99` has 0 and 99 and all between.
"""

from __future__ import annotations

from collections.abc import Iterable

import tokenizers
from tokenizers import models, pre_tokenizers

from picolab.errors import BadData, BadSetting
from picolab.text.tokenizer import Tokenizer, closed

LARGEST_RANGE = 1_000_000  # a vocabulary, and so a table of embeddings, is made of it


def integer_tokenizer(documents: Iterable[str]) -> Tokenizer:
    """The integers of the documents, read once, as they come."""
    words: set[str] = set()
    for document in documents:
        words.update(document.split())
    if not words:
        raise BadData(
            "the corpus has no integer", hint="`integers` are those of the corpus; `integers-0-99` is a range"
        )
    return _of(sorted(words, key=value_of))


def range_tokenizer(first: int, last: int) -> Tokenizer:
    """The integers from `first` to `last`, both included."""
    if last < first:
        raise BadSetting(
            f"the integers from {first} to {last} are none", hint=f"did you mean `integers-{last}-{first}`?"
        )
    if last - first >= LARGEST_RANGE:
        raise BadSetting(
            f"the range of integers {first} to {last} would be a vocabulary of {last - first + 1:,}",
            hint=f"at most {LARGEST_RANGE:,}; `integers` takes only those of the corpus",
        )
    return _of([str(number) for number in range(first, last + 1)])


def value_of(word: str) -> int:
    """The number a word writes; BadData if it writes none, or not the way Python writes it."""
    try:
        value = int(word)
        canonical = str(value) == word
    except ValueError:
        canonical = False
    if not canonical:
        shown = word if len(word) <= 40 else word[:40] + "…"
        raise BadData(
            f"the corpus holds `{shown}`, which is not a plain integer",
            hint="`integers` reads whole numbers divided by white space, such as `-3 0 12`; `bytes` reads any text",
        )
    return value


def _of(words: list[str]) -> Tokenizer:
    """Naming an unknown-token the vocabulary lacks makes the library raise at an unseen word."""
    inner = tokenizers.Tokenizer(
        models.WordLevel(vocab={word: token for token, word in enumerate(words)}, unk_token="<|unknown|>")
    )
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return closed(inner, kind="integers", padded=True)
