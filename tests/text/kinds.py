"""One tokenizer of every kind, made once."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from picolab.text.build import build_tokenizer
from picolab.text.compact import compact
from picolab.text.tokenizer import Tokenizer

STORY = [
    "The rose 🌹 stood in a glass. It was late, and nobody had watered it.",
    "The fox ran over the field; the fox didn't stop. 12 geese watched, 345 did not.",
    "Zoë's café closed at 6 o'clock.\n\n  The chairs stood on the tables, and the lamp hummed.",
    "A boat came in. A boat went out. The harbour's log says: nothing lost, nothing found.",
] * 3
NUMBERS = ["2 4 6 8 10", "-3 0 12 7", "100 99 98", "7 7 7\n0 1"]
GPT2 = Path(os.environ.get("PICOLAB_SHARED") or "../shared").resolve() / "data" / "gpt2"
needs_gpt2 = pytest.mark.skipif(not GPT2.is_dir(), reason="GPT-2's files are not beside this checkout (PICOLAB_SHARED)")

fuzz = settings(deadline=None, max_examples=60)  # the first example builds the tokenizer

ANY_TEXT = ["bytes", "bpe-400", pytest.param("gpt2", marks=needs_gpt2)]
KINDS = [*ANY_TEXT, "characters", "integers"]
COMPACT = [f"{kind} compact" for kind in ("bytes", "bpe-400", "characters", "integers")]
COMPACT.append(pytest.param("gpt2 compact", marks=needs_gpt2))  # type: ignore[arg-type]


def corpus_of(name: str) -> list[str]:
    """A corpus the tokenizer can spell."""
    return NUMBERS if name.startswith("integers") else STORY


@cache
def tokenizer_of(name: str) -> Tokenizer:
    """`bpe-400` as the command line says it; `bpe-400 compact` keeps what half of its corpus uses."""
    spec, _, form = name.partition(" ")
    corpus = corpus_of(spec)
    tokenizer = build_tokenizer(spec, corpus, gpt2_dir=GPT2)
    if not form:
        return tokenizer
    return compact(tokenizer, (i for ids in tokenizer.encode_batch(corpus[:2]) for i in ids))
