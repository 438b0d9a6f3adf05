"""A vocabulary of the tokens in use."""

from __future__ import annotations

import numpy as np
import pytest

from picolab.errors import BadData
from picolab.text.compact import compact
from picolab.text.tokenizer import Tokenizer
from text.kinds import KINDS, corpus_of, needs_gpt2, tokenizer_of


def halves(name):
    """The full tokenizer, what half of its corpus uses, and the compact one of that half."""
    full = tokenizer_of(name)
    half = full.encode_batch(corpus_of(name)[:2])
    used = sorted({i for ids in half for i in ids})
    return full, half, used, compact(full, used)


@pytest.mark.parametrize("name", KINDS)
def test_ids_are_those_in_use_in_their_order_without_gaps(name):
    full, half, used, small = halves(name)
    control = [token for token in (full.eot, full.pad) if token is not None]
    assert small.keep.tolist() == sorted({*used, *control})
    assert small.vocab_size == len(used) + len(control) <= full.vocab_size
    assert small.to_full(small.eot) == full.eot
    assert small.kind == full.kind


@pytest.mark.parametrize("name", KINDS)
def test_a_text_is_cut_into_the_same_tokens(name):
    full, half, _, small = halves(name)
    for document, ids in zip(corpus_of(name)[:2], half, strict=True):
        compacted = small.encode(document)
        assert small.to_full(compacted).tolist() == ids
        assert small.to_compact(ids).tolist() == compacted
        assert [small.token_bytes(i) for i in compacted] == [full.token_bytes(i) for i in ids]


@pytest.mark.parametrize("name", KINDS)
def test_the_map_and_its_inverse_are_one(name):
    full, _, _, small = halves(name)
    ids = np.arange(small.vocab_size).reshape(1, -1)
    assert (small.to_compact(small.to_full(ids)) == ids).all()
    assert (full.to_full(ids) == ids).all() and (full.to_compact(ids) == ids).all()


@pytest.mark.parametrize("name", KINDS)
def test_compact_twice_is_compact_once(name):
    full, _, used, small = halves(name)
    fewer = used[: len(used) // 2]
    twice = compact(small, small.to_compact(fewer))
    once = compact(full, fewer)
    assert twice.keep.tolist() == once.keep.tolist()
    for token in range(once.vocab_size):
        assert once.token_name(token) == twice.token_name(token)


@pytest.mark.parametrize(
    ("name", "text", "token"),
    [
        ("bytes", "The#", "#"),
        ("characters", "The Zoë", "Z"),
        ("bpe-400", "The#", "#"),
        pytest.param("gpt2", "The cat", "␣cat", marks=needs_gpt2),
    ],
)
def test_a_token_outside_is_refused_by_name(name, text, token):
    small = halves(name)[-1]
    with pytest.raises(BadData) as caught:
        small.encode_batch(["The", text])
    assert str(caught.value) == (
        f"the text needs the token `{token}`, which the compact vocabulary of {small.vocab_size} does not keep"
    )


def test_an_integer_outside_is_refused_by_name():
    small = halves("integers")[-1]
    with pytest.raises(BadData, match=f"^`100` is not among the {small.vocab_size - 2} integers the tokenizer knows$"):
        small.encode("2 100")


def test_the_letters_of_the_control_token_are_no_control_token_here_either():
    full = tokenizer_of("bytes")
    small = compact(full, full.encode("<|endoftext|> and more"))
    ids = small.encode("<|endoftext|>")
    assert small.eot not in ids and small.decode([*ids, small.eot]) == "<|endoftext|>"


def test_full_ids_that_are_not_kept_are_refused():
    small = compact(tokenizer_of("bytes"), [65, 66])
    for ids in ([67], [65, -1], [65, 300]):
        with pytest.raises(BadData, match=rf"^token {ids[-1]} of the full vocabulary is not among the 3 kept$"):
            small.to_compact(ids)
    for ids in ([3], [-1, 0]):
        with pytest.raises(BadData, match=r"is not in the vocabulary of 3$"):
            small.to_full(ids)
    with pytest.raises(BadData, match="^token 999 is not in the vocabulary of 257$"):
        compact(tokenizer_of("bytes"), [65, 999])


@pytest.mark.parametrize("name", KINDS)
def test_it_is_saved_with_its_map(name, tmp_path):
    *_, small = halves(name)
    small.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert (again.vocab_size, again.eot, again.pad, again.kind) == (small.vocab_size, small.eot, small.pad, small.kind)
    assert again.keep.tolist() == small.keep.tolist() and again.fingerprint == small.fingerprint
    assert again.encode(corpus_of(name)[0]) == small.encode(corpus_of(name)[0])
