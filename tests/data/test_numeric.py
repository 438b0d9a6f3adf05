from __future__ import annotations

import itertools
from collections import Counter

import pytest

from picolab.data.numeric import FAMILIES, WALK, Rule, World, parse, rule_of, rules, sample, terms
from picolab.errors import BadData, BadSetting, UnknownName


def test_every_document_follows_its_rule() -> None:
    world = World()
    for example in sample(world, 500, seed=5):
        assert world.shortest <= len(example.numbers) <= world.longest
        assert parse(example.text, world) == example.numbers
        if example.rule.family == WALK:
            assert all(1 <= abs(a - b) <= example.rule.step for a, b in itertools.pairwise(example.numbers))
        else:
            assert terms(example.rule, world, len(example.numbers)) == example.numbers
            assert rule_of(example.numbers, world) == example.rule


def test_three_numbers_tell_one_rule_without_chance() -> None:
    world = World(numbers=40, shortest=3)
    owners = [terms(rule, world, 3) for family in FAMILIES if family != WALK for rule in rules(world, family)]
    assert len(owners) == len(set(owners))


def test_families_are_shown_equally_often() -> None:
    seen = Counter(e.rule.family for e in sample(World(), 10_000, seed=0))
    assert set(seen) == set(FAMILIES) and all(abs(n - 2000) < 200 for n in seen.values())


def test_a_shorter_sample_is_the_beginning_of_a_longer_one() -> None:
    long = [e.text for e in sample(World(), 2500, seed=4)]
    assert [e.text for e in sample(World(), 1100, seed=4)] == long[:1100]
    assert [e.text for e in sample(World(), 1100, seed=5)] != long[:1100]


def test_a_world_that_cannot_be_is_refused() -> None:
    with pytest.raises(UnknownName) as error:
        World(families=("alternate",))
    assert error.value.hint == "did you mean `alternating`?"
    for wrong in (
        {"shortest": 2},
        {"longest": 3},
        {"numbers": 1},
        {"families": ()},
        {"width": 0},
        {"families": ("counting", "counting")},
        {"families": ("geometric",), "numbers": 5},
    ):
        with pytest.raises(BadSetting):
            World(**wrong)
    assert str(Rule("counting", 3, 1)) == "counting 3 1"


def test_text_that_is_no_document_is_refused() -> None:
    world = World(numbers=9, shortest=3, longest=5)
    for text in ("", "1  2", "01 2", "1 2 9", "-1 2", "1 2 3 x", "１ 2"):
        with pytest.raises(BadData, match="is no sequence of numbers below 9"):
            parse(text, world)
