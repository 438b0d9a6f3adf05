"""A haiku about the minute: what must be true of it, and every way to fail."""

import pytest
import torch

from picolab.data.corpus import open_corpus
from picolab.diagnose.haiku import (
    FRESH_PAIRS,
    FRESH_WORDS,
    MAX_NEW_TOKENS,
    _words,
    ask_for_haiku,
    distinct,
    in_words,
    judge,
    occurrences,
)
from picolab.errors import BadSetting
from picolab.text.bytes import byte_tokenizer
from picolab.text.tokenizer import Tokenizer
from picolab.trace.engines.here import Here

from reader_files import tiny

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}> {% endif %}"
)
REQUEST = "Write a haiku about time. It must contain the number forty two exactly once, in words."

MINE = "Rain on the window\nforty two small drops fall, then\nthe clock says hello"
YOURS = "A train leaves the town,\nfifty nine lamps in the dark,\nand nobody waves"


def outcome(text, other=YOURS):
    """Which assertions fail."""
    found = judge(text, other, word="forty two", other_word="fifty nine", request=REQUEST)
    return {assertion.name for assertion in found if not assertion.holds}


@pytest.mark.parametrize(
    ("text", "other", "failing"),
    [
        (MINE, YOURS, set()),
        (MINE.replace("forty two", "Forty-Two"), YOURS, set()),
        (MINE.replace("forty two", "many"), YOURS, {"the word"}),
        (MINE.replace("forty two", "forty"), YOURS, {"the word"}),
        (MINE.replace("forty two", "twenty two"), YOURS, {"the word"}),
        (MINE.replace("small", "forty two"), YOURS, {"the word"}),
        ("Ġ" * 40, "Ġ" * 40, {"the word", "diverse", "changes"}),
        ("forty two", YOURS, {"diverse"}),
        ("la la la forty two la la la la la", YOURS, {"diverse"}),
        ("the clock the clock forty two the clock the clock", YOURS, {"diverse"}),
        ("", "", {"the word", "diverse", "changes"}),
        (REQUEST, YOURS, {"its own"}),
        (MINE, MINE, {"changes"}),
        (MINE, MINE.replace("forty two", "fifty nine"), {"changes"}),
        (MINE, YOURS.replace("fifty nine", "the"), {"changes"}),
    ],
)
def test_each_assertion_fails_where_it_should_and_only_there(text, other, failing):
    assert outcome(text, other) == failing


def test_an_echo_of_the_request_does_not_pass_for_a_text():
    asked = "Write a haiku about time. It must contain the number {} exactly once, in words.".format
    found = judge(asked("forty two"), asked("fifty nine"), word="forty two", other_word="fifty nine", request=REQUEST)
    assert {assertion.name for assertion in found if not assertion.holds} == {"its own", "changes"}


def test_each_minute_has_words_that_are_found_alone_and_in_no_other():
    words = [in_words(minute) for minute in range(60)]
    assert words[0] == "zero" and words[19] == "nineteen" and words[20] == "twenty" and words[42] == "forty two"
    assert len(set(words)) == 60
    for i, written in enumerate(words):
        for spelled in (f"it is {written}.", written.title(), f"({written.replace(' ', '-')})"):
            assert [occurrences(spelled, word) for word in words] == [int(i == j) for j in range(60)]
    assert occurrences("someone weighs a ton, often", "one") == occurrences("often", "ten") == 0


def test_shipped_prose_is_as_diverse_as_is_asked():
    rows = []
    for document in list(open_corpus("stories").documents())[:300]:
        words = _words(document)
        rows += [words[i : i + 15] for i in range(0, len(words) - 15, 15)]
    assert len(rows) > 500
    assert min(distinct(row, 1) for row in rows) >= FRESH_WORDS
    assert min(distinct(row, 2) for row in rows) >= FRESH_PAIRS


class Scripted(Here):
    """An engine that writes what `answers` makes of the text it was asked, letter by letter."""

    def __init__(self, answers, context_length=512):
        super().__init__(tiny("gpt2", 257), byte_tokenizer())
        self.answers, self.context_length, self.asked = answers, context_length, []

    def forget(self):
        self.ids = []

    def read(self, tokens):
        if not self.ids:
            self.asked.append(bytes(token for token in tokens if token < 256).decode())
            self.answer = [*self.answers(self.asked[-1]).encode(), 256]
            self.start = len(tokens)
        self.ids += tokens
        logits = torch.zeros(len(tokens), 257)
        logits[-1, self.answer[len(self.ids) - self.start]] = 100.0
        return logits


def poet(asked):
    word = next(word for word in map(in_words, range(60)) if occurrences(asked, word))
    lines = {"forty two": "Snow on forty two\nroofs, slow", "fifty nine": "fifty nine red boats\ngo out"}
    return lines.get(word, "what?") + "; the day ends"


def test_a_model_that_does_as_it_is_asked_passes():
    own = byte_tokenizer()
    for template, how, begins in ((TEMPLATE, "chat template", "[user] Write"), (None, "no chat template", "A haiku")):
        words = Tokenizer(own.inner, kind="bytes", eot=own.eot, chat_template=template)
        engine = Scripted(poet)
        found = ask_for_haiku(engine, words, minute=42)
        assert found.passed, found
        assert (found.word, found.other_word) == ("forty two", "fifty nine")
        assert found.text == "Snow on forty two\nroofs, slow; the day ends" and found.other_text.startswith(
            "fifty nine"
        )
        assert how in found.asked_as
        assert engine.asked[0].startswith(begins) and "forty two" in engine.asked[0] and "fifty nine" in engine.asked[1]


def test_one_letter_for_ever_ends_and_fails():
    found = ask_for_haiku(Scripted(lambda asked: "!" * 400), byte_tokenizer(), minute=0)
    assert found.text == "!" * MAX_NEW_TOKENS
    assert {a.name for a in found.assertions if not a.holds} == {"the word", "diverse", "changes"}
    found = ask_for_haiku(Scripted(lambda asked: "!" * 400, context_length=50), byte_tokenizer(), minute=0)
    assert 0 < len(found.text) < MAX_NEW_TOKENS


def test_a_real_engine_is_asked_with_a_seed():
    words = byte_tokenizer()
    engine = Here(tiny("gpt2", 257, context_length=300), words)
    one, same, other = (ask_for_haiku(engine, words, minute=7, seed=seed) for seed in (1, 1, 2))
    assert one == same and one.text != other.text
    assert not one.passed  # random weights write nonsense


def test_a_minute_is_one_of_sixty():
    with pytest.raises(BadSetting, match="`minute` is 60"):
        ask_for_haiku(Scripted(poet), byte_tokenizer(), minute=60)
