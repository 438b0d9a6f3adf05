"""Characters of a corpus."""

from __future__ import annotations

import pytest

from picolab.errors import BadData
from picolab.text.characters import character_tokenizer


def test_ids_follow_the_code_points():
    tokenizer = character_tokenizer(["cab", "🌹 a\n"])
    assert [tokenizer.token_bytes(i).decode() for i in range(tokenizer.vocab_size)] == [
        "\n",
        " ",
        "a",
        "b",
        "c",
        "🌹",
        "",
    ]
    assert tokenizer.encode("ab🌹") == [2, 3, 5]


def test_an_unseen_character_is_refused_by_name():
    with pytest.raises(BadData) as caught:
        character_tokenizer(["cab"]).encode_batch(["abc", "abécd"])
    assert str(caught.value) == "the character `é` (U+00E9) is not among the 3 the tokenizer knows"
    assert caught.value.hint == "`characters` knows those of its corpus; `bytes` and `bpe-2048` read any text"


def test_an_unseen_character_one_cannot_see_has_a_name_too():
    with pytest.raises(BadData, match=r"the character `\\t` \(U\+0009\) is not among the 3"):
        character_tokenizer(["cab"]).encode("a\tb")


def test_a_corpus_without_characters_has_no_vocabulary():
    with pytest.raises(BadData, match="^the corpus has no character$"):
        character_tokenizer(["", ""])
