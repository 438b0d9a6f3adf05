"""What is true of every kind of tokenizer."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from picolab.errors import BadData
from picolab.text.tokenizer import EOT, Tokenizer
from text.kinds import ANY_TEXT, COMPACT, KINDS, STORY, corpus_of, fuzz, needs_gpt2, tokenizer_of


@pytest.mark.parametrize("name", [*KINDS, *COMPACT])
def test_its_own_corpus_comes_back(name):
    tokenizer = tokenizer_of(name)
    documents = corpus_of(name)[:2]
    for document, ids in zip(documents, tokenizer.encode_batch(documents), strict=True):
        assert tokenizer.decode(ids) == document
        assert ids and min(ids) >= 0 and max(ids) < tokenizer.vocab_size


@pytest.mark.parametrize("name", ANY_TEXT)
@fuzz
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back(name, text):
    tokenizer = tokenizer_of(name)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(tokenizer.token_bytes(i) for i in ids) == text.encode()


@pytest.mark.parametrize("name", KINDS)
@fuzz
@given(data=st.data())
def test_decoding_any_ids_gives_what_the_library_gives(name, data):
    tokenizer = tokenizer_of(name)
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    assert tokenizer.decode(ids) == tokenizer.inner.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("name", [*KINDS, *COMPACT])
def test_control_tokens_are_in_the_vocabulary_and_stand_for_no_text(name):
    tokenizer = tokenizer_of(name)
    assert tokenizer.token_name(tokenizer.eot) == EOT
    assert tokenizer.token_bytes(tokenizer.eot) == b""
    assert tokenizer.decode([tokenizer.eot]) == ""
    if tokenizer.pad is None:
        assert tokenizer.eot == tokenizer.vocab_size - 1
    else:
        assert (tokenizer.eot, tokenizer.pad) == (tokenizer.vocab_size - 2, tokenizer.vocab_size - 1)


@pytest.mark.parametrize("name", ANY_TEXT)
@pytest.mark.parametrize("text", [EOT, f"a{EOT}b", f" {EOT}", EOT * 2, "<|endoftext", f"the token {EOT} ends a text"])
def test_a_text_that_spells_the_control_token_does_not_become_it(name, text):
    tokenizer = tokenizer_of(name)
    ids = tokenizer.encode(text)
    assert tokenizer.eot not in ids
    assert tokenizer.decode(ids) == text


def test_the_control_token_is_no_integer():
    with pytest.raises(BadData, match=r"`<\|endoftext\|>` is not among the 13 integers"):
        tokenizer_of("integers").encode(f"2 {EOT} 4")


def test_the_control_token_is_characters_where_the_corpus_has_them():
    from picolab.text.characters import character_tokenizer

    tokenizer = character_tokenizer(["an " + EOT])
    assert tokenizer.eot not in tokenizer.encode(EOT) and tokenizer.decode(tokenizer.encode(EOT)) == EOT


@pytest.mark.parametrize("name", [*KINDS, *COMPACT])
def test_a_batch_is_its_texts_one_by_one(name):
    tokenizer = tokenizer_of(name)
    texts = [corpus_of(name)[0], "", corpus_of(name)[1]]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch([]) == [] and tokenizer.encode("") == [] and tokenizer.decode([]) == ""


@pytest.mark.parametrize("name", [*KINDS, *COMPACT])
def test_a_copy_through_pickle_gives_the_same_ids(name):
    tokenizer = tokenizer_of(name)
    for other in (pickle.loads(pickle.dumps(tokenizer)), copy.deepcopy(tokenizer)):  # noqa: S301
        assert other.fingerprint == tokenizer.fingerprint and other.vocab_size == tokenizer.vocab_size
        assert other.encode(corpus_of(name)[0]) == tokenizer.encode(corpus_of(name)[0])


def test_a_copy_through_pickle_still_takes_control_tokens_for_letters():
    other = pickle.loads(pickle.dumps(tokenizer_of("bytes")))  # noqa: S301
    assert other.encode(EOT) == list(EOT.encode())


@pytest.mark.parametrize("name", KINDS)
def test_an_id_outside_the_vocabulary_is_refused(name):
    tokenizer = tokenizer_of(name)
    for token in (tokenizer.vocab_size, -1, -100):
        for ask in (tokenizer.token_bytes, tokenizer.token_name, lambda token: tokenizer.decode([token])):
            with pytest.raises(BadData, match=rf"^token {token} is not in the vocabulary of {tokenizer.vocab_size}$"):
                ask(token)


def test_ids_may_be_any_whole_numbers():
    tokenizer = tokenizer_of("bytes")
    assert tokenizer.decode(np.array([72, 105])) == tokenizer.decode((72, 105)) == "Hi"


@pytest.mark.parametrize("name", [*KINDS])
def test_half_a_surrogate_pair_is_refused_by_name(name):
    with pytest.raises(BadData) as caught:
        tokenizer_of(name).encode("2 \ud800")
    assert str(caught.value) == "the text holds U+D800, half of a surrogate pair, which is no character"


def test_what_is_no_text_is_a_mistake_of_the_caller():
    with pytest.raises(TypeError, match="a text is a string, not bytes"):
        tokenizer_of("bytes").encode(b"abc")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "name"), [(" ", "␣"), ("\n", "\\n"), ("a", "a"), ("\u200b", "\\u200b"), ("\x00", "\\x00"), ("<", "<")]
)
def test_a_token_name_can_be_seen(text, name):
    from picolab.text.spelling import printable

    assert printable(text.encode()) == name


def test_half_a_character_has_a_name_too():
    tokenizer = tokenizer_of("bytes")
    assert [tokenizer.token_name(byte) for byte in "é".encode()] == ["<0xC3>", "<0xA9>"]
    assert len({tokenizer.token_name(token) for token in range(tokenizer.vocab_size)}) == tokenizer.vocab_size


def test_the_fingerprint_tells_whether_ids_are_the_same():
    from picolab.text.bpe import train_bpe
    from picolab.text.compact import compact

    again = train_bpe(reversed(STORY), vocab_size=400)
    assert again.fingerprint == tokenizer_of("bpe-400").fingerprint  # the order of documents does not matter
    others = [
        train_bpe(STORY, vocab_size=300),
        compact(again, range(again.vocab_size - 1)),
        *map(tokenizer_of, COMPACT[:4]),
    ]
    prints = {
        t.fingerprint for t in [*others, *(tokenizer_of(n) for n in ("bytes", "characters", "integers", "bpe-400"))]
    }
    assert len(prints) == len(others) + 4


def test_what_a_file_asks_for_unseen_is_not_done():
    inner = tokenizers.Tokenizer.from_str(tokenizer_of("bytes").inner.to_str())
    inner.enable_truncation(3)
    inner.enable_padding(length=9)
    assert Tokenizer(inner, kind="bytes", eot=256).encode("abcdef") == list(b"abcdef")


@pytest.mark.parametrize("eot", [-1, 257])
def test_a_control_token_outside_the_vocabulary_is_refused(eot):
    with pytest.raises(BadData, match=f"the end-of-text token {eot} is outside the vocabulary of 257"):
        Tokenizer(tokenizer_of("bytes").inner, kind="bytes", eot=eot)


def _llama_like() -> Tokenizer:
    """Spaces are ▁, one stands before the text, lone bytes are <0xNN>: as sentencepiece's byte-pair vocabularies do it."""
    lone = [f"<0x{byte:02X}>" for byte in range(256)]
    words = ["<s>", "</s>", *lone, "▁", "a", "b", "▁a", "ab", "▁ab"]
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b")]
    inner = tokenizers.Tokenizer(
        models.BPE(
            vocab={w: i for i, w in enumerate(words)}, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<s>"
        )
    )
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    inner.add_special_tokens(["<s>", "</s>"])
    return Tokenizer(inner, kind="bpe", eot=1)


@fuzz
@given(text=st.text(st.sampled_from("ab 🌹é\n"), max_size=20))
def test_a_vocabulary_that_writes_spaces_as_bars_is_read_too(text):
    tokenizer = _llama_like()
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer.inner.decode(ids)
    if text and not text.startswith(" "):
        assert tokenizer.decode(ids) == text


def test_a_lone_byte_of_such_a_vocabulary_is_that_byte():
    tokenizer = _llama_like()
    assert [tokenizer.token_bytes(2 + byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert tokenizer.token_bytes(tokenizer.inner.token_to_id("▁ab")) == b" ab"


def test_models_that_are_not_read_are_refused_by_name():
    inner = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    with pytest.raises(BadData, match="^the tokenizer is a `WordPiece` model, which is not read here$"):
        Tokenizer(inner, kind="bpe", eot=0)
    inner = tokenizers.Tokenizer(models.BPE({"a": 0}, []))
    with pytest.raises(BadData, match="^the tokenizer's decoder is missing, which is not read here$"):
        Tokenizer(inner, kind="bpe", eot=0)


@needs_gpt2
def test_all_bytes_are_among_the_tokens_of_gpt2():
    tokenizer = tokenizer_of("gpt2")
    spelled = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
    assert {bytes([byte]) for byte in range(256)} <= set(spelled) and spelled.count(b"") == 1
