"""Preference pairs: what is made of texts and integers, what is read from a file, and what is refused."""

from __future__ import annotations

import json
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest

from picolab.data.corpus import numeric_world
from picolab.data.numeric import parse
from picolab.data.preferences import Limits, Pair, Preferences, encode, make_preferences
from picolab.data.preferences_file import read_pairs
from picolab.data.preferences_numeric import is_possible
from picolab.data.preferences_text import KINDS, _Cost, cut_text
from picolab.data.preferences_words import words_of
from picolab.data.prepare import prepare
from picolab.errors import BadData, BadSetting, PicolabError, UnknownName
from picolab.text.build import build_tokenizer
from picolab.text.tokenizer import Tokenizer

SPEC = "numeric:counting+geometric+random-walk:numbers=64:documents=400"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICOLAB_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    return build_tokenizer("bytes")


def made(spec: str, tokenizer: Tokenizer, **more: object) -> Preferences:
    limits = Limits(pairs=60, held_out=40, prompt_tokens=120, response_tokens=120)
    return make_preferences(spec, tokenizer, context_length=256, limits=limits, **more)  # type: ignore[arg-type]


@pytest.fixture
def stories(letters: Tokenizer) -> Preferences:
    return made("field_notes", letters)


def test_chosen_continues_its_prompt_as_the_text_does_and_rejected_differs(stories: Preferences, letters: Tokenizer):
    texts = [letters.decode(stories.dataset.validation.document(i).tolist())
             for i in range(stories.dataset.validation.n_documents)]  # fmt: skip
    assert {pair.kind for pair in stories.shown} == set(KINDS)
    for pair in stories.shown:
        text = next(text for text in texts if text.startswith(pair.prompt + pair.chosen))
        assert pair.ended == (text == pair.prompt + pair.chosen)
        assert pair.rejected.split() != pair.chosen.split()


def test_each_way_of_spoiling_does_what_it_is_called(stories: Preferences):
    chosen = {pair.chosen for pair in stories.shown}
    for pair in stories.shown:
        better, worse = words_of(pair.chosen), words_of(pair.rejected)
        spaces = [word[: -len(word.strip())] for word in better]
        if pair.kind == "shuffled":
            assert sorted(w.strip() for w in worse) == sorted(w.strip() for w in better)
        if pair.kind == "loop":
            said = [word.strip() for word in worse]
            assert any(said == [said[i % period] for i in range(len(said))] for period in range(1, 6))
        if pair.kind in ("shuffled", "loop"):
            assert [word[: -len(word.strip())] for word in worse] == spaces, "white space must not tell the sides apart"
        if pair.kind == "other-text":
            assert pair.rejected in chosen
        if pair.kind == "noise":
            assert 0.5 < SequenceMatcher(None, pair.chosen, pair.rejected, autojunk=False).ratio() < 1


def test_both_sides_end_where_the_better_one_does(stories: Preferences, letters: Tokenizer):
    ended = [pair.chosen[-1] == letters.eot for pair in stories.held_out]
    assert ended == [pair.rejected[-1] == letters.eot for pair in stories.held_out]
    assert any(ended)


def test_a_held_out_pair_is_made_of_held_out_text_alone(stories: Preferences):
    held = {pair.prompt + pair.chosen for pair in stories.held_out}
    learned = {pair.prompt + pair.chosen for pair in stories.train}
    assert not held & learned
    assert not {pair.rejected for pair in stories.held_out if pair.kind == "other-text"} & {
        p.chosen for p in stories.train
    }


def test_the_same_seed_makes_the_same_pairs_and_another_makes_others(letters: Tokenizer, stories: Preferences):
    assert made("field_notes", letters).train == stories.train
    assert made("field_notes", letters, seed=1).train != stories.train


def test_a_cut_keeps_whole_sentences_where_they_fit(letters: Tokenizer):
    rng, cost = np.random.default_rng(0), _Cost(letters)
    text = "A fox came by. It was red. Then it sat down in the sun for a while. It slept."
    for _ in range(20):
        cut = cut_text(text, cost, Limits(prompt_tokens=30, response_tokens=60).within(128), rng)
        assert cut is not None and text.startswith(cut.prompt + cut.response)
        assert cut.prompt in ("A fox came by.", "A fox came by. It was red.")
        assert cut.response.endswith((".",))
    assert cut_text("Too short.", cost, Limits().within(128), rng) is None


def test_integers_are_continued_rightly_or_in_a_way_that_no_rule_allows():
    tokenizer = prepare(SPEC).tokenizer
    found, (world, _) = made(SPEC, tokenizer), numeric_world(SPEC)
    assert len(found.train) == 60 and found.held_out
    for pair in found.shown:
        assert is_possible(parse(pair.prompt + pair.chosen, world), world)
        assert not is_possible(parse(pair.prompt + pair.rejected, world), world)


def test_next_to_a_walk_a_small_step_is_no_mistake():
    world, _ = numeric_world("numeric:counting+random-walk")
    alone, _ = numeric_world("numeric:counting")
    assert is_possible((5, 6, 7, 9), world) and not is_possible((5, 6, 7, 9), alone)
    assert not is_possible((5, 6, 7, 70), world)


def test_only_the_kinds_asked_for_are_made(letters: Tokenizer):
    assert {p.kind for p in made("field_notes", letters, kinds=("loop", "shuffled")).train} == {"loop", "shuffled"}
    with pytest.raises(UnknownName, match="no way to spoil a text is called `lop`") as raised:
        made("field_notes", letters, kinds=("lop",))
    assert "`loop`" in str(raised.value.hint)


# Pairs in a file.


def a_file(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


GOOD = {"prompt": "Once", "chosen": " there was a cat.", "rejected": " cat was."}


def many(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"Once {i}", "chosen": f" came {i} cats.", "rejected": f" cats {i} came."} for i in range(count)]


def test_pairs_of_a_file_are_read_as_they_stand(tmp_path: Path, letters: Tokenizer):
    file = a_file(tmp_path / "pairs.jsonl", *many(60))
    found = made(str(file), letters)
    assert len(found.train) + len(found.held_out) == 60 and found.held_out
    one = found.train[0]
    assert one.prompt[0] == letters.eot and one.chosen[-1] == one.rejected[-1] == letters.eot
    assert letters.decode([*one.prompt, *one.chosen]).startswith("Once ")
    assert letters.decode(one.chosen).startswith(" came")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"prompt": "a", "chosen": "b", "reje', "line 2 of .* is not JSON"),
        ("[1, 2]", "line 2 of .* holds a list"),
        ({"prompt": "a", "chosen": "b"}, "line 2 of .* has no `rejected`"),
        ({"prompt": "a", "choosen": "b", "rejected": "c"}, "line 2 of .* has no `chosen`"),
        ({"prompt": "a", "chosen": 5, "rejected": "c"}, "line 2 of .* has a int as `chosen`"),
        ({"prompt": "a", "chosen": " ", "rejected": "c"}, "line 2 of .* has an empty `chosen`"),
        ({"prompt": "a", "chosen": "b", "rejected": ""}, "line 2 of .* has an empty `rejected`"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "line 2 of .* has the same text on both sides"),
    ],
)
def test_a_line_that_is_no_pair_is_named_by_its_number(tmp_path: Path, line: object, says: str):
    with pytest.raises(BadData, match=says) as raised:
        read_pairs(a_file(tmp_path / "pairs.jsonl", GOOD, line))
    assert raised.value.hint


def test_bytes_that_are_not_utf8_an_empty_file_and_no_file_are_told_apart(tmp_path: Path):
    (tmp_path / "latin.jsonl").write_bytes(json.dumps(GOOD).encode() + b'\n{"prompt": "caf\xe9"}\n')
    for name, says in (("latin", "line 2 of .* is not UTF-8"), ("none", "there is no file")):
        with pytest.raises(BadData, match=says):
            read_pairs(tmp_path / f"{name}.jsonl")
    with pytest.raises(BadData, match="has no pair in it"):
        read_pairs(a_file(tmp_path / "empty.jsonl", "", ""))


def test_a_response_longer_than_the_context_is_refused_with_its_line(tmp_path: Path, letters: Tokenizer):
    file = a_file(tmp_path / "pairs.jsonl", *many(60), {**GOOD, "chosen": " x" * 300})
    with pytest.raises(
        BadData, match=r"line 61 of .* prompt of 5 tokens and a response of 601, more than the context of 256"
    ):
        made(str(file), letters)


def test_sides_that_one_tokenizer_spells_alike_are_refused():
    tokenizer = build_tokenizer("characters", lambda: iter(["abc "]))
    pair = Pair("a", "bc", "bc", "x", True, "line 7 of `p`")
    with pytest.raises(BadData, match="line 7 of `p` has the same text"):
        encode([pair], tokenizer, 50)


@pytest.mark.parametrize("limits", [{"pairs": 0}, {"response_tokens": 0}])
def test_limits_below_one_are_refused(limits: dict[str, int]):
    with pytest.raises(BadSetting, match=f"`{next(iter(limits))}` is 0"):
        Limits(**limits)


def test_a_response_that_leaves_no_prompt_is_refused_and_nothing_asked_means_half():
    with pytest.raises(PicolabError, match="`response_tokens` 31 and a prompt are more than the model's context of 32"):
        Limits(response_tokens=31).within(32)
    assert Limits().within(32) == (16, 15)
    assert Limits().within(1024) == (64, 64)
