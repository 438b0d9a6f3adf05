"""Families on parts that share no rule, longer texts, and sentences that say only what the numbers do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from picolab.compare.lengths import costs_by_length, growth
from picolab.compare.plan import plan_for
from picolab.compare.sequences import (
    FamilyRow,
    Part,
    Sequences,
    by_family,
    longer_world,
    numeric_data,
    study_sequences,
)
from picolab.compare.sequences_words import fails, sequences_in_words
from picolab.data.numeric import WALK, World, rule_of, rules
from picolab.data.prepare import prepare
from picolab.data.split import Split
from picolab.measure.sequences import FamilyScore, Point
from picolab.zoo import create

SPEC = "numeric:numbers=30:longest=8:documents=1500:difference=3"


def score(family, *, excess=0.01, right=100, ending=0.0, profile=(), determined=100):
    points = profile or (Point(position=0, count=10, floor=1.0, excess=excess),)
    return FamilyScore(
        family=family, documents=10, positions=sum(p.count for p in points), floor=1.0, excess=excess, ending=ending,
        determined=determined, right=right, profile=tuple(points),
    )  # fmt: skip


def said(*, table=True, model="m", **parts):
    """The sentences about one model; parts by name, `x2` and `x4` for the longer ones."""
    named = {{"x2": "2x", "x4": "4x"}.get(name, name): scores for name, scores in parts.items()}
    lengths = {"2x": 32, "4x": 64}
    study = Sequences(
        model=model,
        seed=0,
        table=table,
        parts=tuple(Part(name=n, longest=lengths.get(n, 16), scores=tuple(s)) for n, s in named.items()),
    )
    return sequences_in_words(by_family([study]), [study])


def test_only_integer_sequences_alone_are_studied():
    assert numeric_data("numeric") and numeric_data("numeric:counting+alternating:numbers=9")
    assert not numeric_data("numeric=0.5,stories=0.5") and not numeric_data("stories") and not numeric_data("3seqs")
    assert not numeric_data("numeric:counting=0.5,stories=0.5")


def test_longer_texts_are_of_the_families_that_stay_in_range_and_exactly_so_long():
    twice, four = longer_world(World(), 2), longer_world(World(), 4)
    assert twice.families == four.families == ("counting", "arithmetic", "alternating", WALK)
    assert (twice.shortest, twice.longest) == (32, 32) and (four.shortest, four.longest) == (64, 64)
    assert {abs(rule.step) for rule in rules(four, "arithmetic")} == {1, 2}
    assert longer_world(World(families=("geometric",)), 2) is None


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare(SPEC, split=Split(validation=0.1, test=0.1), cache_dir=tmp_path_factory.mktemp("cache"))


def test_a_study_reads_three_parts_that_share_no_rule_and_two_longer_ones(data, monkeypatch):
    seen = {}
    from picolab.compare import sequences

    def watch(model, tokenizer, documents, world, *, beyond=None):
        seen[len(seen)] = (documents, world, beyond)
        return ()

    monkeypatch.setattr(sequences, "score_sequences", watch)
    model = create("softmax-pico", vocab_size=data.tokenizer.vocab_size, context_length=32, d_model=8, n_layers=1)
    study = study_sequences(model, data.tokenizer, data, SPEC, name="softmax-pico", seed=3)
    assert [part.name for part in study.parts] == ["train", "validation", "test", "2x", "4x"]
    assert study.table and study.seed == 3
    ruled = [{rule_of(d, seen[i][1]) for d in seen[i][0]} - {None} for i in range(3)]
    assert all(ruled) and not (ruled[0] & ruled[1] or ruled[0] & ruled[2] or ruled[1] & ruled[2])
    assert [seen[i][2] for i in range(5)] == [None, None, None, 8, 8]
    assert {len(d) for d in seen[3][0]} == {16} and {len(d) for d in seen[4][0]} == {32}
    short = create("lstm", vocab_size=data.tokenizer.vocab_size, context_length=16, d_model=8, hidden=8)
    seen.clear()
    study = study_sequences(short, data.tokenizer, data, SPEC, name="lstm", seed=0)
    assert [part.name for part in study.parts] == ["train", "validation", "test", "2x"] and not study.table
    assert study_sequences(short, data.tokenizer, data, "stories", name="lstm", seed=0) is None


def test_an_untrained_model_fails_everything(data):
    model = create("linear-pico", vocab_size=data.tokenizer.vocab_size, context_length=32, d_model=16, n_layers=1)
    study = study_sequences(model, data.tokenizer, data, SPEC, name="linear-pico", seed=0)
    rows = by_family([study])
    assert {row.family for row in rows if row.part == "train"} == set(World().families)
    assert all(fails(row) for row in rows if row.part == "test")
    assert all(row.excess.mean > 1 for row in rows)
    told = sequences_in_words(rows, [study])
    assert all(one.startswith("linear-pico fails ") for one in told)
    assert all(any(row.family in one for one in told) for row in rows if row.part == "test")


def test_rows_are_means_over_seeds():
    studies = [
        Sequences(
            model="m", seed=i, table=False, parts=(Part(name="test", longest=16, scores=(score("counting", **s),)),)
        )
        for i, s in enumerate(({"excess": 0.1, "right": 90}, {"excess": 0.3, "right": 100}))
    ]
    (row,) = by_family(studies)
    assert isinstance(row, FamilyRow) and row.excess.mean == pytest.approx(0.2) and row.excess.seeds == 2
    assert row.accuracy.mean == pytest.approx(0.95) and row.accuracy.low == pytest.approx(0.9)


def test_what_is_learned_is_said_in_one_sentence():
    good = [score("counting"), score("alternating")]
    assert said(train=good, test=good) == (
        "m has learned counting and alternating: on rules it never saw at least 99% of determined numbers are right and less than "
        "0.05 nats a token are above the floor.",
    )


def test_rules_known_by_heart_and_rules_not_found_are_told_apart():
    train = [score("geometric"), score("counting", right=60), score("arithmetic", right=90)]
    test = [
        score("geometric", right=12, excess=1.5),
        score("counting", right=50, excess=1.5),
        score("arithmetic", right=20),
    ]
    assert said(train=train, test=test) == (
        "m fails geometric (12.0 % right, 100 % on trained rules) and arithmetic (20.0 % right, 90.0 % on trained rules): it knows "
        "the rules it trained on and too few others.",
        "m fails counting (50.0 % right, 60.0 % on trained rules): it has not learned the rule, not even where it was shown.",
    )


def test_right_numbers_with_wrong_odds_are_traced_to_the_end_or_to_a_position():
    (late,) = said(train=[score("counting")], test=[score("counting", excess=0.3, ending=0.2)])
    assert late == (
        "m fails counting: 0.300 nats a token above the floor, though it knows the determined numbers, 0.200 of them because it "
        "cannot tell when a text ends."
    )

    def walk(*excess):
        points = [Point(position=i, count=10, floor=1.0, excess=e) for i, e in enumerate(excess)]
        (one,) = said(train=[score(WALK)], test=[score(WALK, excess=0.25, profile=points, determined=5, right=0)])
        return one

    assert walk(0.1, 0.1, 0.7, 0.1) == (
        "m fails random-walk: 0.250 nats a token above the floor, 70.0 % of it at number 3 of a text, where it does not know the "
        "odds."
    )
    assert walk(0.25, 0.25, 0.25, 0.25).endswith(
        "above the floor, spread over the whole text: it does not know the odds of the next number."
    )


def test_longer_texts_are_lost_to_positions_that_were_never_trained_or_gone_on_with():
    good, bad = [score("counting"), score("alternating")], [score("counting", right=3), score("alternating", right=100)]
    first, *longer = said(train=good, test=good, x2=good, x4=bad)
    assert longer == [
        "m goes on with counting and alternating at 2 times the length.",
        "At 4 times the length m loses determined numbers (counting 3.0 % right): its vectors for positions after 16 were never "
        "trained.",
    ]
    *_, last = said(train=good, test=good, x4=bad, table=False)
    assert last.endswith("nothing it trained on went beyond 16 numbers.")
    # What was never learned cannot be lost.
    assert not any("4 times" in one for one in said(train=bad, test=[score("counting", right=3)], x4=bad))


def test_growth_is_the_exponent_of_the_power():
    lengths = [512, 1024, 2048]
    assert growth(lengths, [3.0 * n**2 for n in lengths]) == pytest.approx(2)
    assert growth(lengths, [7.0, 7.0, 7.0]) == pytest.approx(0, abs=1e-9)
    assert growth([512], [1.0]) is None and growth(lengths, [0, 0, 0]) is None


def test_a_linear_model_remembers_longer_texts_in_the_same_memory_and_a_softmax_model_in_proportion():
    lengths = (16, 32, 64)
    sizes = {"vocab_size": 40, "d_model": 16, "n_heads": 2, "n_layers": 1, "context_length": 8}
    linear, softmax = (costs_by_length(create(name, **sizes), lengths) for name in ("linear-pico", "softmax-pico"))
    assert [cost.memory for cost in linear] == [2 * 8 * 9 * 4] * 3
    assert [cost.memory for cost in softmax] == [2 * n * 16 * 4 for n in lengths]
    assert all(cost.seconds > 0 for cost in (*linear, *softmax))
    assert costs_by_length(create("ngram", vocab_size=40), lengths) == ()


def test_integer_sequences_are_held_out_in_tenths_unless_somebody_says_otherwise(tmp_path):
    asked = {"tokens": 1000, "seeds": 1, "prompt": None, "new_tokens": 3}

    def shares(data, **overrides):
        plan = plan_for(["softmax-pico"], data=data, overrides=overrides, **asked)
        settings = plan.settings("softmax-pico", 0, tmp_path).data
        return settings.validation, settings.test

    assert shares("numeric") == (0.1, 0.1)
    assert shares("numeric", validation=0.2) == (0.2, 0.1)
    assert shares("stories") == (0.05, 0.0)


def test_a_failed_share_is_failed_and_a_close_one_is_not():
    (row,) = by_family(
        [Sequences(model="m", seed=0, table=True, parts=(Part(name="test", longest=9, scores=(score("counting"),)),))]
    )
    assert not fails(row) and not fails(replace(row, accuracy=None))
    assert fails(replace(row, excess=replace(row.excess, mean=0.05)))
    assert fails(replace(row, accuracy=replace(row.accuracy, mean=0.98)))
