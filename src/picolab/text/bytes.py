"""Bytes: 256 tokens and the end of text.

    "né" -> 6E C3 A9 -> ids 110 195 169        the id of a byte is the byte; eot is 256

Any text in any language, nothing to train, the longest sequences.
"""

from __future__ import annotations

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from picolab.text.spelling import BYTE_TO_CHARACTER
from picolab.text.tokenizer import Tokenizer, closed


def byte_tokenizer() -> Tokenizer:
    """Byte-level pair encoding with no pairs."""
    vocabulary = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return closed(inner, kind="bytes")
