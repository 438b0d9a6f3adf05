"""Byte-pair encoding, trained here: the most frequent neighbours become one token, again and again.

    l o w    l o w e r    n e w e r    ->    "we"? "er"? "lo" is most frequent    ->    lo w    lo w e r    ...

Sennrich et al. 2016, arXiv:1508.07909; over bytes, so that no text is out of reach, as in GPT-2 (Radford et al. 2019). The ids:
256 bytes, then the pairs in the order they were learned, then the end of text. Pairs never cross the words of GPT-2's pattern.
"""

from __future__ import annotations

from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from picolab.errors import BadSetting
from picolab.text.pieces import pieces
from picolab.text.spelling import BYTE_TO_CHARACTER
from picolab.text.tokenizer import Tokenizer, closed

SMALLEST = len(BYTE_TO_CHARACTER) + 1


def train_bpe(documents: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Learn a vocabulary of `vocab_size` tokens, the 256 bytes and end-of-text among them.

    Documents are read once, as they come; only the counts of different words are held. A small corpus may run out of pairs that
    occur twice: then the vocabulary is smaller than asked for, and `Tokenizer.vocab_size` says how large.
    """
    if vocab_size < SMALLEST:
        raise BadSetting(
            f"a byte-pair vocabulary of {vocab_size} is too small",
            hint=f"the 256 bytes and end-of-text are {SMALLEST}; `bytes` is that vocabulary",
        )
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        min_frequency=2,  # a pair seen once is a word learned by heart
        initial_alphabet=list(BYTE_TO_CHARACTER.values()),
        show_progress=False,
    )
    inner.train_from_iterator((piece for document in documents for piece in pieces(document)), trainer)
    return closed(inner, kind="bpe")
