"""One token a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolab.errors import BadData, BadSetting
from picolab.text.integers import integer_tokenizer, range_tokenizer
from text.kinds import fuzz


@fuzz
@given(numbers=st.lists(st.integers(), min_size=1, max_size=20))
def test_ids_ascend_with_the_numbers(numbers):
    tokenizer = integer_tokenizer([" ".join(map(str, numbers))])
    different = sorted(set(numbers))
    assert tokenizer.encode(" ".join(map(str, different))) == list(range(len(different)))
    assert (tokenizer.eot, tokenizer.pad, tokenizer.vocab_size) == (
        len(different),
        len(different) + 1,
        len(different) + 2,
    )


def test_a_range_has_its_ends_and_all_between():
    tokenizer = range_tokenizer(-2, 3)
    assert tokenizer.encode("-2 -1 0 1 2 3") == [0, 1, 2, 3, 4, 5]
    assert (tokenizer.eot, tokenizer.pad, tokenizer.vocab_size) == (6, 7, 8)
    assert tokenizer.token_name(7) == "<|pad|>" and tokenizer.token_bytes(7) == b""


def test_white_space_of_any_kind_divides_and_a_single_space_comes_back():
    tokenizer = range_tokenizer(0, 9)
    assert tokenizer.decode(tokenizer.encode("\n1\t2  3\u00a04\n")) == "1 2 3 4"


def test_a_number_outside_is_refused_by_name():
    with pytest.raises(BadData) as caught:
        range_tokenizer(0, 99).encode_batch(["1 2", "99 100"])
    assert str(caught.value) == "`100` is not among the 100 integers the tokenizer knows"


@pytest.mark.parametrize("word", ["abc", "007", "+5", "-0", "1.0", "1e3", "1_000", "²", "٣", "9" * 5000])
def test_a_corpus_with_anything_but_plain_integers_is_refused(word):
    shown = word if len(word) <= 40 else word[:40] + "…"
    with pytest.raises(BadData) as caught:
        integer_tokenizer(["1 2 3", f"4 {word} 5"])
    assert str(caught.value) == f"the corpus holds `{shown}`, which is not a plain integer"


def test_a_corpus_without_integers_has_no_vocabulary():
    with pytest.raises(BadData, match="^the corpus has no integer$"):
        integer_tokenizer(["", " \n"])


def test_an_empty_range_is_refused_and_turned_round_in_the_hint():
    with pytest.raises(BadSetting) as caught:
        range_tokenizer(9, 0)
    assert (str(caught.value), caught.value.hint) == (
        "the integers from 9 to 0 are none",
        "did you mean `integers-0-9`?",
    )


def test_a_range_that_no_table_can_hold_is_refused_before_it_is_made():
    with pytest.raises(BadSetting, match="would be a vocabulary of 1,000,000,000,000"):
        range_tokenizer(1, 10**12)


def test_powers_beyond_64_bits_are_numbers():
    tokenizer = integer_tokenizer([" ".join(str(2**n) for n in range(100))])
    assert tokenizer.encode(str(2**99)) == [99] and tokenizer.decode([99]) == str(2**99)
