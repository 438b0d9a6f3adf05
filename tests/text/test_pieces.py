"""Cutting a long text changes no id."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolab.text import pieces as module
from picolab.text.pieces import groups, pieces
from text.kinds import ANY_TEXT, COMPACT, STORY, fuzz, tokenizer_of


@fuzz
@given(text=st.text(), size=st.integers(1, 20))
def test_the_pieces_joined_are_the_text(text, size):
    assert "".join(pieces(text, size)) == text


@pytest.mark.parametrize("name", ANY_TEXT)
@fuzz
@given(text=st.text(st.sampled_from("aZ9's .é🌹\n\t\u00a0"), max_size=60), size=st.integers(1, 7))
def test_a_cut_falls_between_tokens(name, text, size):
    tokenizer = tokenizer_of(name)
    in_pieces = [i for piece in pieces(text, size) for i in tokenizer.encode(piece)]
    assert in_pieces == tokenizer.encode(text)


@pytest.mark.parametrize("name", ["bpe-400", "characters"])
def test_a_long_text_goes_to_the_library_in_pieces(name, monkeypatch):
    tokenizer = tokenizer_of(name)
    text = " ".join(random.Random(0).choices(" ".join(STORY).split(" "), k=40_000))
    assert tokenizer._sliceable and len(text) > module.PIECE
    sent: list[int] = []
    encode = tokenizer._encode
    monkeypatch.setattr(tokenizer, "_encode", lambda texts: sent.extend(map(len, texts)) or encode(texts))
    ids = tokenizer.encode(text)
    assert len(sent) > 1 and max(sent) <= module.PIECE + 100
    assert ids == tokenizer.inner.encode(text).ids


def test_many_texts_go_to_the_library_in_groups():
    parts = [(row, "x" * 10) for row in range(7)]
    assert [len(group) for group in groups(parts, 25)] == [3, 3, 1]
    assert [part for group in groups(parts, 25) for part in group] == parts


def test_a_tokenizer_whose_rules_we_do_not_know_gets_texts_whole():
    from text.test_tokenizer import _llama_like

    assert not _llama_like()._sliceable
    assert all(tokenizer_of(name)._sliceable for name in ("bytes", "bpe-400", "characters", "integers", *COMPACT[:4]))
