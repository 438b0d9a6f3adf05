"""The shipped corpora are clean and all different; the generator depends on its seed alone and makes no slips."""

from __future__ import annotations

import gzip
import re
from itertools import islice
from random import Random

import pytest

from picolab.data.grammar.compiler import compile_plot, load_plots
from picolab.data.grammar.rules import WORLDS, parse_rules, plot_texts, read_rules
from picolab.data.grammar.teller import LONGEST, SHORTEST, tell_plot
from picolab.data.stories import GENERATED, SHIPPED, generate_stories, shipped, shipped_stories, stories
from picolab.errors import BadData, BadSetting, UnknownName


@pytest.fixture(scope="module")
def generated() -> list[str]:
    return list(generate_stories(3000, seed=7))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_corpus_has_two_hundred_stories_or_more(name: str) -> None:
    assert len(list(shipped(name))) >= 200


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_story_is_one_clean_line(name: str) -> None:
    for story in shipped(name):
        assert 60 <= len(story) <= 400, story
        assert story.isascii() and story.isprintable(), story
        assert story == " ".join(story.split()), f"stray blanks: {story}"
        assert story[-1] in '.?!"', story


def test_no_two_shipped_stories_are_the_same() -> None:
    every = list(shipped_stories())
    assert len(every) == len(set(every)) == sum(len(list(shipped(name))) for name in SHIPPED)


def test_each_shipped_corpus_is_a_world_of_its_own() -> None:
    heroes = {
        "field_notes": "The Bishop",
        "mini_stories": "Button Hill",
        "observatory_journal": "Parallax",
        "city_archive": "Odile",
        "harbour_diary": "The Admiral",
    }
    for name in SHIPPED:
        text = " ".join(shipped(name))
        assert [other for other in SHIPPED if heroes[other] in text] == [name]


def test_an_unknown_corpus_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="no shipped corpus is called `harbor_diary`") as refused:
        shipped("harbor_diary")
    assert refused.value.hint == "did you mean `harbour_diary`?"


def test_the_same_seed_tells_the_same_stories_and_another_seed_others() -> None:
    assert list(generate_stories(50, seed=3)) == list(generate_stories(50, seed=3))
    assert not set(generate_stories(50, seed=3)) & set(generate_stories(50, seed=4))


def test_a_longer_run_begins_with_the_shorter_one() -> None:
    assert list(islice(generate_stories(1000, seed=5), 10)) == list(generate_stories(10, seed=5))


def test_generated_stories_do_not_repeat(generated: list[str]) -> None:
    assert len(set(generated)) == len(generated)


def test_generated_stories_cannot_be_squeezed_like_templates(generated: list[str]) -> None:
    text = "\n".join(generated).encode()
    assert len(text) / len(gzip.compress(text)) < 4.5


def test_generated_stories_keep_to_their_length(generated: list[str]) -> None:
    assert all(SHORTEST <= len(story) <= LONGEST for story in generated)


@pytest.mark.parametrize(
    "slip",
    [
        r"[^ -~]",  # only printable ASCII
        r"  |^ | $| [.,!?]",  # blanks too many
        r"[{}\[\]|/]",  # an unfilled slot
        r"\b[Aa] [aeiou]|\b[Aa]n [^aeiouh]",  # the wrong article
        r"\b(\w+) \1\b",  # a word said twice
        r"[.!?] [a-z]",  # a sentence without its capital
        r"[.,]{2}|[?!][.,]",  # a stop too many
        r"[a-z]\"( |$)",  # a stop missing inside the quotation marks
        r"\.\" (said|asked|cried|whispered|shouted|thought)\b",
    ],
)
def test_generated_stories_are_free_of(slip: str, generated: list[str]) -> None:
    found = [story for story in generated if re.search(slip, story)]
    assert not found, found[0]


def test_quotation_marks_come_in_pairs(generated: list[str]) -> None:
    assert all(story.count('"') % 2 == 0 for story in generated)


def test_a_hero_alone_keeps_to_one_pronoun() -> None:
    text = "let color\n==\n{N} hurt {himself}. {He} held {his} {hand}, and it hurt {him}.\n"
    plot = compile_plot("alone", text, "child")
    told = {re.sub(r"^\w+", "N", tell_plot(plot, Random(seed))) for seed in range(40)}
    assert told == {
        "N hurt herself. She held her hand, and it hurt her.",
        "N hurt himself. He held his hand, and it hurt him.",
    }


def test_every_plot_is_told_in_every_world_it_knows_and_mostly_fits() -> None:
    told = {(plot.name, plot.world) for plot in load_plots()}
    assert len({name for name, _ in told}) == len(plot_texts()) >= 20
    for plot in load_plots():
        assert plot.world in WORLDS
        lengths = [len(tell_plot(plot, Random(seed))) for seed in range(60)]
        assert sum(SHORTEST <= length <= LONGEST for length in lengths) > 20, plot.name


def test_a_rule_file_that_is_no_rule_file_is_refused() -> None:
    with pytest.raises(BadData, match="not a rule: `Colors`"):
        parse_rules("Colors\n    red, blue\n", words=True)
    with pytest.raises(BadData, match="rule `color` is written twice"):
        parse_rules("color:\n    red\ncolor:\n    blue\n", words=True)


def test_a_plot_that_asks_for_an_unknown_rule_or_forgets_a_bracket_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"no rule .* is called `colour`") as refused:
        compile_plot("draft", "let color\n==\nA {colour} door.\n", "child")
    assert refused.value.hint == "did you mean `color`?"
    with pytest.raises(BadData, match=r"an open `\[` in plot `draft`"):
        compile_plot("draft", "let color\n==\nA [red|blue door.\n", "child")
    with pytest.raises(BadData, match=r"a stray `\]` in plot `draft`"):
        compile_plot("draft", "let color\n==\nA red] door.\n", "child")


def test_articles_and_stops_are_set_right_after_the_choice() -> None:
    text = 'let color\n==\nA [apple|old unicorn] saw a [useful|honest] one. "[Who?]," he said.\n'
    plot = compile_plot("draft", text, "child")
    told = {tell_plot(plot, Random(seed)) for seed in range(40)}
    subjects, objects = ("An apple", "An old unicorn"), ("a useful", "an honest")
    assert told == {f'{subject} saw {what} one. "Who?" he said.' for subject in subjects for what in objects}


def test_a_negative_number_of_stories_is_refused() -> None:
    with pytest.raises(BadSetting, match="cannot generate -1 stories"):
        generate_stories(-1, seed=0)


def test_stories_are_the_shipped_ones_and_then_about_two_megabytes_in_all() -> None:
    every = list(stories())
    own = list(shipped_stories())
    assert every[: len(own)] == own
    assert len(every) == len(own) + GENERATED
    assert 1.8e6 < sum(len(story) + 1 for story in every) < 2.4e6
    assert len(set(every)) == len(every)


def test_every_rule_is_asked_for_somewhere() -> None:
    rules = read_rules()
    texts = [*plot_texts().values(), *(line for rule in rules.values() for line in rule.lines)]
    asked = {name[0].lower() + name[1:] for text in texts for name in re.findall(r"\{(\w+)\}", text)}
    drawn = {word.split()[0] for text in plot_texts().values() for word in text.splitlines()[0][4:].split(";")}
    of_the_cast = re.compile(r"(name|family|wise)_(girl|boy)|animal")
    idle = {name for name in (rule.partition(".")[0] for rule in rules) if name not in asked | drawn}
    assert not {name for name in idle if not of_the_cast.fullmatch(name)}
