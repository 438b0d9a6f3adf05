"""Text while it arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolab.text.stream import TextStream
from text.kinds import ANY_TEXT, COMPACT, KINDS, fuzz, needs_gpt2, tokenizer_of
from text.test_tokenizer import _llama_like


@pytest.mark.parametrize("name", [*KINDS, *COMPACT, "llama"])
@fuzz
@given(data=st.data())
def test_the_pieces_joined_are_the_whole(name, data):
    tokenizer = _llama_like() if name == "llama" else tokenizer_of(name)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    stream = TextStream(tokenizer)
    assert "".join(map(stream.push, ids)) + stream.finish() == tokenizer.decode(ids)


@pytest.mark.parametrize("name", ANY_TEXT)
@fuzz
@given(text=st.text(st.sampled_from("🌹é🏳️‍🌈\u0915\u094d a\n") | st.characters(exclude_categories=["Cs"]), max_size=20))
def test_no_piece_of_a_text_holds_half_a_character(name, text):
    tokenizer = tokenizer_of(name)
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in tokenizer.encode(text)]
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text
    assert stream.finish() == ""
    assert "".join(pieces) == text


def test_a_rose_comes_with_its_last_byte():
    stream = TextStream(tokenizer_of("bytes"))
    assert [stream.push(byte) for byte in "a🌹b".encode()] == ["a", "", "", "", "🌹", "b"]


@needs_gpt2
def test_a_rose_split_over_tokens_of_gpt2_comes_with_the_last():
    tokenizer = tokenizer_of("gpt2")
    ids = tokenizer.encode("🌹")
    stream = TextStream(tokenizer)
    assert len(ids) > 1
    assert [stream.push(token) for token in ids] == [""] * (len(ids) - 1) + ["🌹"]


def test_bytes_that_can_become_no_character_do_not_wait():
    stream = TextStream(tokenizer_of("bytes"))
    assert [stream.push(byte) for byte in (0xF0, 0x9F, 0x41)] == ["", "", "\ufffdA"]
    assert stream.push(0xFF) == "\ufffd"


def test_a_character_begun_and_not_ended_is_told_at_the_end():
    stream = TextStream(tokenizer_of("bytes"))
    assert stream.push(0xC3) == "" and stream.finish() == "\ufffd"
    assert stream.finish() == "" and stream.push(0x41) == "A"


def test_integers_are_divided_as_they_come():
    tokenizer = tokenizer_of("integers")
    stream = TextStream(tokenizer)
    ids = [*tokenizer.encode("2 4"), tokenizer.eot, *tokenizer.encode("6")]
    assert [stream.push(token) for token in ids] == ["2", " 4", "", " 6"]
    assert stream.finish() == "" and stream.push(tokenizer.encode("8")[0]) == "8"
