"""Byte-pair encoding trained here, against a version one can read."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import regex

from picolab.errors import BadSetting
from picolab.text.bpe import train_bpe
from picolab.text.spelling import BYTE_TO_CHARACTER
from text.kinds import STORY, needs_gpt2, tokenizer_of

# Radford et al. 2019, encoder.py.
PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
Word = tuple[str, ...]


def words_of(text: str) -> list[Word]:
    return [tuple(BYTE_TO_CHARACTER[byte] for byte in word.encode()) for word in regex.findall(PATTERN, text)]


def merged(word: Word, pair: tuple[str, str]) -> Word:
    out: list[str] = []
    i = 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append("".join(pair))
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def pairs_of(words: Counter[Word]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for word, times in words.items():
        for pair in pairwise(word):
            counts[pair] += times
    return counts


def encode_plainly(text: str, rank: dict[tuple[str, str], int]) -> list[str]:
    """The earliest learned pair first, until no neighbours are a pair."""
    tokens: list[str] = []
    for word in words_of(text):
        while pairs := [pair for pair in pairwise(word) if pair in rank]:
            word = merged(word, min(pairs, key=rank.__getitem__))
        tokens += word
    return tokens


def ranks_of(tokenizer) -> dict[tuple[str, str], int]:
    return {tuple(pair): rank for rank, pair in enumerate(tokenizer._description["model"]["merges"])}


def test_each_pair_learned_is_a_most_frequent_one():
    tokenizer = train_bpe(STORY, vocab_size=400)
    words = Counter(word for document in STORY for word in words_of(document))
    for pair in ranks_of(tokenizer):
        counts = pairs_of(words)
        assert counts[pair] == max(counts.values()) >= 2
        words = Counter({merged(word, pair): times for word, times in words.items()})


HARD = "  Don't stop: it's 3,141 o'clock!\r\n\n\tnaïve 🌹🌹 \u00a0 x²  <|endoftext|>   end  "


@pytest.mark.parametrize("name", ["bpe-400", pytest.param("gpt2", marks=needs_gpt2)])
@pytest.mark.parametrize("text", [*STORY[:4], HARD])
def test_the_fast_one_is_the_plain_one(name, text):
    tokenizer = tokenizer_of(name)
    plain = encode_plainly(text, ranks_of(tokenizer))
    assert [tokenizer.inner.id_to_token(i) for i in tokenizer.encode(text)] == plain


@pytest.mark.parametrize("vocab_size", [257, 258, 300])
def test_the_vocabulary_has_the_size_asked_for(vocab_size):
    tokenizer = train_bpe(STORY, vocab_size=vocab_size)
    assert tokenizer.vocab_size == vocab_size and tokenizer.eot == vocab_size - 1


def test_a_corpus_with_too_few_pairs_gives_a_smaller_vocabulary():
    tokenizer = train_bpe(["abab abab"], vocab_size=2048)
    assert 257 < tokenizer.vocab_size < 270 and tokenizer.eot == tokenizer.vocab_size - 1


@pytest.mark.parametrize("vocab_size", [0, 256])
def test_a_vocabulary_too_small_for_the_bytes_is_refused(vocab_size):
    with pytest.raises(BadSetting) as caught:
        train_bpe(STORY, vocab_size=vocab_size)
    assert str(caught.value) == f"a byte-pair vocabulary of {vocab_size} is too small"
    assert caught.value.hint == "the 256 bytes and end-of-text are 257; `bytes` is that vocabulary"


def test_documents_are_read_one_after_the_other():
    """A corpus is never held: when the thousandth document is asked for, the first is gone."""
    import weakref

    class Document(str):
        pass

    alive: weakref.WeakSet[Document] = weakref.WeakSet()
    most = 0

    def documents():
        nonlocal most
        for n in range(5000):
            document = Document(f"document {n} " * 3)
            alive.add(document)
            yield document
            most = max(most, len(alive))

    train_bpe(documents(), vocab_size=300)
    assert 0 < most < 1000


def test_what_goes_wrong_in_the_corpus_is_what_one_hears():
    def documents():
        yield "fine"
        raise FileNotFoundError("corpus.txt")

    with pytest.raises(FileNotFoundError, match=r"corpus\.txt"):
        train_bpe(documents(), vocab_size=300)
