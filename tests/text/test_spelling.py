"""The alphabet of byte-level vocabularies."""

from __future__ import annotations

import pytest
from tokenizers import pre_tokenizers

from picolab.text.spelling import BYTE_TO_CHARACTER, CHARACTER_TO_BYTE
from text.kinds import ANY_TEXT, tokenizer_of


def test_every_byte_has_one_visible_stand_in():
    assert sorted(BYTE_TO_CHARACTER) == list(range(256)) and len(CHARACTER_TO_BYTE) == 256
    assert all(c.isprintable() and not c.isspace() for c in BYTE_TO_CHARACTER.values())


def test_the_alphabet_is_the_librarys():
    assert sorted(BYTE_TO_CHARACTER.values()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    for text in ("\x00\x7f \n", "é¡¬­®ÿ", "Ā🌹"):
        split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
        assert split[0][0] == "".join(BYTE_TO_CHARACTER[byte] for byte in text.encode())


def test_the_well_known_ones():
    assert (BYTE_TO_CHARACTER[0x20], BYTE_TO_CHARACTER[0x0A], BYTE_TO_CHARACTER[0x41]) == ("Ġ", "Ċ", "A")


@pytest.mark.parametrize("name", ANY_TEXT)
def test_every_byte_is_a_token(name):
    tokenizer = tokenizer_of(name)
    spelled = {tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)}
    assert {bytes([byte]) for byte in range(256)} <= spelled


def test_the_id_of_a_byte_is_the_byte():
    tokenizer = tokenizer_of("bytes")
    assert [tokenizer.token_bytes(byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert (tokenizer.vocab_size, tokenizer.eot) == (257, 256)
