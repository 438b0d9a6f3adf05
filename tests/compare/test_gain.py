"""Shares of a gain: exact for known numbers, less sure where seeds disagree, and silent where there is nothing to share."""

import math

import pytest

from picolab.compare.bands import band
from picolab.compare.curves import Curve, Series
from picolab.compare.gain import gain_of, reached, shares_of
from picolab.compare.result import Comparison, Row, SeedRun, Setup
from picolab.recipes.counted_words import findings


def setup(seeds=3):
    return Setup(
        data="stories", tokenizer="bytes", vocab_size=257, context_length=32, batch_size=4, tokens=1000,
        seeds=tuple(range(seeds)), scored_split="validation", scored_tokens=100, scored_bytes=100, held_out=True,
        uniform=math.log(257), floor=None, prompt="", overrides={}, device="cpu", machine="a machine",
        created="2026-01-01", picolab="0",
    )  # fmt: skip


def row(model, *losses):
    runs = tuple(
        SeedRun(seed=seed, run="", status="finished", loss=loss, seconds=2.0) for seed, loss in enumerate(losses)
    )
    return Row(
        model=model, family="ngram" if model == "ngram" else "counted", says="", baseline=model == "ngram", runs=runs,
        loss=band(losses), bits_per_byte=None, excess=None, tokens_per_second=None, peak_memory=None, size=None, samples=(),
    )  # fmt: skip


def curve(model, seed, *losses, every=10):
    steps = tuple(every * i for i in range(len(losses)))
    series = Series(step=steps, tokens=steps, seconds=tuple(step / 5 for step in steps), loss=losses)
    return Curve(model=model, seed=seed, train=Series(), validation=series)


def comparison(rows, curves=()):
    return Comparison(
        complete=True, setup=setup(len(rows[0].runs)), rows=tuple(rows), ranking=("",), curves=tuple(curves)
    )


def said(rows, curves=()):
    whole = comparison(rows, curves)
    return findings(gain_of(whole, none="zero", best="trainable"), whole)


def test_a_share_is_of_the_same_seeds_gain():
    shares = shares_of({0: 2.5, 1: 2.0, 2: 1.0, 3: 9.0}, {0: 3.0, 1: 3.0, 2: 3.0}, {0: 2.0, 1: 2.5, 2: 3.5})
    assert shares == {0: 0.5, 1: 2.0}  # seed 2 gained nothing by learning, seed 3 has no ends


def test_mean_and_margin_are_students():
    gain = gain_of(
        comparison([row("zero", 3, 3, 3), row("half", 2.5, 2.4, 2.6), row("trainable", 2, 2, 2)]),
        none="zero", best="trainable",
    )  # fmt: skip
    half = gain.of("half")
    assert half.mean == pytest.approx(0.5) and half.margin == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert gain.of("zero").mean == 0 and gain.of("trainable").mean == 1 and gain.of("nobody") is None
    assert gain.apart("half", "zero").mean == pytest.approx(0.5)


def test_a_loss_is_reached_between_two_evaluations():
    falling = curve("a", 0, 4.0, 3.0, 2.0).validation
    assert reached(falling, 2.5) == (15.0, 3.0)
    assert reached(falling, 2.0) == (20.0, 4.0) and reached(falling, 5.0) == (0.0, 0.0)
    assert reached(falling, 1.9) is None and reached(Series(), 1.0) is None
    assert reached(curve("a", 0, 4.0, 2.0, 3.0, 1.0).validation, 2.5) == (7.5, 1.5)  # the first time, not the last


ENDS = [row("zero", 3.0, 3.01, 3.0), row("trainable", 2.0, 2.01, 2.0)]


def test_frozen_heads_that_help_are_said_to_and_by_how_much():
    words = said(
        [*ENDS, row("counted", 1.7, 1.71, 1.69), row("random", 2.9, 2.92, 2.9), row("uniform", 2.95, 2.9, 2.95)]
    )
    assert words[0].startswith(
        "Learning attention gains 1.000 ± 0.000 nats a token over having none; counted and frozen"
    )
    assert "recovers 130 % ± 1 of that (3 seeds)" in words[0] and "faster learning within this budget" in words[0]
    assert words[1].startswith("Random frozen attention recovers 10 % ± 1, which is 121 ± 1 points less than counted")
    assert "less than the whole recipe" in words[2] and len(words) == 3


def test_heads_no_better_than_random_are_said_to_be():
    same = said([*ENDS, row("counted", 2.8, 2.95, 2.85), row("random", 2.85, 2.9, 2.85)])
    assert "counted attention is no better than random, as far as 3 seeds can tell" in same[1]
    worse = said([*ENDS, row("counted", 2.9, 2.91, 2.9), row("random", 2.5, 2.51, 2.5)])
    assert "counted attention is no better than random, but worse (40 ± 0 points)" in worse[1]
    none = said([*ENDS, row("counted", 3.1, 2.9, 3.05), row("random", 2.5, 2.51, 2.5)])
    assert "cannot be told from having no attention" in none[0]


def test_where_learning_gains_nothing_no_share_is_told():
    words = said([row("zero", 3.0, 3.2, 2.9), row("trainable", 3.1, 3.0, 2.95), row("counted", 2.0, 2.0, 2.0)])
    assert "cannot be told from nothing" in words[0] and not any("recovers" in sentence for sentence in words)


def test_the_earlier_recipe_is_told_with_its_corrections():
    words = said(
        [
            *ENDS,
            row("random", 2.9, 2.92, 2.9),
            row("published", 2.96, 2.95, 2.97),
            row("published+scale", 3.2, 3.2, 3.2),
        ]
    )
    assert "recovers 4 % ± 4, no better than random; corrected: scale -20 % ± 1." in words[-1]


def test_a_head_start_is_told_in_steps_and_counting_in_when_it_is_reached():
    curves = [
        *(curve("trainable", seed, 4.0, 3.0, 2.0) for seed in range(3)),
        *(curve("counted-start", seed, 4.0, 2.0, 1.0) for seed in range(2)),
        curve("counted-start", 2, 4.0, 3.0, 2.5),
        *(curve("ngram", seed, 1.5) for seed in range(3)),
    ]
    rows = [*ENDS, row("counted-start", 1.0, 1.0, 2.5), row("ngram", 1.5, 1.5, 1.5)]
    words = said(rows, curves)
    assert "after 0.50 of its steps (0.50 to 0.50 over 2 seeds); 1 of 3 seeds never get there." in words[-2]
    assert words[-1].startswith(
        "Counting alone (ngram, Kneser-Ney of order 5) scores 1.500 nats a token; it is reached by"
    )
    assert "counted-start after 15 steps and 3.0 s" in words[-1] and "trainable" not in words[-1]
    never = said(rows, [one for one in curves if one.model != "counted-start"])
    assert (
        never[-2].endswith("attention never gets as low as the random start ends.") and "no arm gets there" in never[-1]
    )


def test_one_seed_has_no_margin_and_says_so():
    words = said([row("zero", 3.0), row("trainable", 2.0), row("counted", 1.5), row("random", 2.9)])
    assert "recovers 150 % of that (1 seed)" in words[0] and words[1].endswith(
        "less than counted attention, on one seed."
    )
