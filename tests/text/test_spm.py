"""SentencePiece's pairs: the library's fast way gives the ids of the algorithm as it is told, on any text."""

from dataclasses import replace

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from picolab.errors import BadCheckpoint
from picolab.text.spm import Kind, Pieces, encode_plainly, spm_tokenizer
from picolab.text.stream import TextStream
from picolab.text.tokenizer import Tokenizer

from reader_files import pieces, spm

TEXTS = st.text(alphabet="abcé ▁<s>/0xA☃\n", max_size=40)


def _with(**changes):
    whole = pieces()
    return replace(whole, **changes)


@pytest.mark.parametrize("space_first", [True, False])
@pytest.mark.parametrize("one_space", [True, False])
@given(text=TEXTS)
@settings(max_examples=100, deadline=None)
def test_the_fast_way_is_the_plain_way(space_first, one_space, text):
    vocabulary = _with(space_first=space_first, one_space=one_space)
    assert spm_tokenizer(vocabulary, eot=2, bos=1).encode(text) == encode_plainly(text, vocabulary)


@given(text=TEXTS)
def test_what_is_encoded_is_decoded(text):
    tokenizer = spm()
    ids = tokenizer.encode(text)
    # ▁ in a text is read as a space: the vocabulary has no other letter for it.
    assert tokenizer.decode(ids) == text.replace("▁", " ")
    stream = TextStream(tokenizer)
    assert "".join(map(stream.push, ids)) + stream.finish() == text.replace("▁", " ")


def test_the_best_pair_anywhere_comes_first_and_the_leftmost_of_equals():
    texts = ["<unk>", *"abc", "ab", "bc", "abc"]
    kinds = [Kind.UNKNOWN, *[Kind.NORMAL] * 6]
    cut = lambda scores: encode_plainly("abc", Pieces(texts=texts, scores=scores, kinds=kinds, space_first=False))  # noqa: E731
    assert cut([0, 0, 0, 0, -1, -2, -9]) == [6]
    assert cut([0, 0, 0, 0, -1, -1, -9]) == [6]
    texts.pop()
    kinds.pop()
    assert cut([0, 0, 0, 0, -2, -1]) == [1, 5]
    assert cut([0, 0, 0, 0, -1, -2]) == [4, 3]
    assert cut([0, 0, 0, 0, -1, -1]) == [4, 3]


def test_a_text_cannot_spell_a_control_token_or_a_byte():
    tokenizer = spm()
    for text in ("<s>", "</s>", "<unk>", "<0x41>"):
        assert not {0, 1, 2, 3 + 0x41} & set(tokenizer.encode(text))
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.token_bytes(1) == b"" and tokenizer.token_bytes(3 + 0x41) == b"A"


def test_a_word_of_the_users_is_found_before_any_pair():
    whole = pieces()
    kinds = [Kind.USER_DEFINED if text == "abc" else kind for text, kind in zip(whole.texts, whole.kinds, strict=True)]
    tokenizer = spm_tokenizer(_with(kinds=kinds), eot=2, bos=1)
    assert whole.texts.index("abc") in tokenizer.encode("caabcb")


def test_transformers_opens_what_is_saved_and_gives_the_same_ids(tmp_path):
    tokenizer = spm()
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("abc ca", "  é☃ ", "", "b\nb"):
        assert theirs(text, add_special_tokens=False).input_ids == tokenizer.encode(text)
        assert theirs(text).input_ids == [1, *tokenizer.encode(text)]
    again = Tokenizer.load(tmp_path)
    assert (again.fingerprint, again.opening, again.ends) == (tokenizer.fingerprint, (1,), {2})


@pytest.mark.parametrize(
    ("texts", "scores", "kinds", "says"),
    [
        (["x", "x"], [0.0, 0.0], [Kind.NORMAL] * 2, "two pieces of the vocabulary are written `x`"),
        (["x", ""], [0.0, 0.0], [Kind.NORMAL] * 2, "a piece of the vocabulary is empty"),
        ([], [], [], "the vocabulary is empty"),
        (["x"], [0.0, 1.0], [Kind.NORMAL], "1 pieces, 2 scores and 1 kinds"),
        (["x" * 2000], [0.0], [Kind.NORMAL], "has 2000 characters"),
        (["x"], [float("nan")], [Kind.NORMAL], "is not a number"),
    ],
)
def test_a_vocabulary_that_makes_no_sense_is_refused(texts, scores, kinds, says):
    with pytest.raises(BadCheckpoint, match=says):
        Pieces(texts=texts, scores=scores, kinds=kinds)


def test_a_vocabulary_that_could_not_spell_every_text_needs_a_piece_for_the_unknown():
    with pytest.raises(BadCheckpoint, match="neither a piece for every byte nor one for the unknown"):
        spm_tokenizer(Pieces(texts=["x"], scores=[0.0], kinds=[Kind.NORMAL]), eot=0, bos=None)
