"""The ranking in words: nothing is said that the numbers do not support."""

from __future__ import annotations

import math

import pytest

from picolab.compare.bands import band
from picolab.compare.ranking import in_words, rank
from picolab.compare.result import Row, SeedRun, Setup


def setup(*, seeds: int = 3, floor: float | None = None, held_out: bool = True) -> Setup:
    return Setup(
        data="stories", tokenizer="bytes", vocab_size=257, context_length=32, batch_size=4, tokens=1000,
        seeds=tuple(range(seeds)), scored_split="validation", scored_tokens=100, scored_bytes=100, held_out=held_out,
        uniform=math.log(257), floor=floor, prompt="", overrides={}, device="cpu", machine="a machine",
        created="2026-01-01", picolab="0",
    )  # fmt: skip


def row(model: str, *losses: float | None, baseline: bool = False) -> Row:
    runs = tuple(
        SeedRun(seed=seed, run=f"runs/{model}-{seed}", status="failed", reason="the loss is nan at step 7")
        if loss is None
        else SeedRun(seed=seed, run=f"runs/{model}-{seed}", status="finished", loss=loss)
        for seed, loss in enumerate(losses)
    )
    known = [loss for loss in losses if loss is not None]
    return Row(
        model=model, family=model, says="", baseline=baseline, runs=runs, loss=band(known) if known else None, bits_per_byte=None,
        excess=None, tokens_per_second=None, peak_memory=None, size=None, samples=(),
    )  # fmt: skip


def words(*rows: Row, seeds: int = 3, floor: float | None = None) -> tuple[str, ...]:
    return in_words(rank(rows), setup(seeds=seeds, floor=floor))


def test_the_best_comes_first_and_the_failed_last() -> None:
    rows = [row("a", None), row("b", 3.0), row("c", 2.0)]
    assert [one.model for one in rank(rows)] == ["c", "b", "a"]


def test_a_clear_lead_is_said_with_its_margin() -> None:
    assert words(row("a", 2.0, 2.1, 2.2), row("b", 3.0, 3.1, 3.21)) == (
        "a predicts best: 2.100 nats a token (2.000 to 2.200 over 3 seeds).",
        "a is ahead of b by 1.003 ± 0.014 nats a token.",
        "Every ± is the 95% margin of the differences seed by seed, 3 seeds.",
    )


def test_a_lead_that_changes_with_the_seed_is_not_called_one() -> None:
    said = words(row("a", 2.0, 2.4, 2.1), row("b", 2.3, 2.2, 2.2))
    assert said[1] == "a and b cannot be told apart with 3 seeds: they differ by 0.067 ± 0.625 nats a token."
    assert not any("ahead" in sentence for sentence in said)


def test_one_seed_is_said_to_prove_nothing() -> None:
    assert words(row("a", 2.0), row("b", 3.0), seeds=1) == (
        "a predicts best: 2.000 nats a token.",
        "a is 1.000 nats a token ahead of b, on one seed.",
        "One seed gives no band, so chance cannot be told from a real difference: ask for 3 seeds or more.",
    )


def test_counting_is_the_measure() -> None:
    said = words(
        row("ngram", 3.0, 3.0, 3.0, baseline=True),
        row("a", 2.0, 2.1, 2.2),
        row("b", 2.5, 2.6, 2.7),
        row("c", 4.0, 4.1, 4.2),
        row("d", 2.9, 3.1, 3.05),
    )
    assert (
        "Against counting alone (ngram, 3.000 nats a token): a and b are better, c is worse, d is not told apart from it."
        in said
    )


@pytest.mark.parametrize(
    ("floor", "sentence"),
    [
        (1.0, "No model can get below 1.000 nats a token in the long run, the exact entropy of this data: "
              "a is 1.100 above it, 76% of the way from a uniform guess (5.55)."),
        (2.5, "a is 0.400 below the exact floor of 2.500 nats a token, "
              "which only luck on a small held-out split or a leak can do."),
    ],
)  # fmt: skip
def test_the_floor_is_told_where_the_data_knows_it(floor: float, sentence: str) -> None:
    assert sentence in words(row("a", 2.0, 2.1, 2.2), floor=floor)


def test_a_model_worse_than_guessing_has_come_no_way() -> None:
    said = words(row("a", 8.0, 8.1, 8.2), floor=1.0)
    assert said[1].endswith("a is 7.100 above it.")


def test_data_that_holds_nothing_out_is_named_as_such() -> None:
    said = in_words(rank([row("a", 2.0, 2.1)]), setup(held_out=False))
    assert said[-1].startswith("Nothing was held out of this data: ")


def test_failures_are_told_with_their_reason() -> None:
    said = words(row("a", 2.0, None, None))
    assert said[-1] == "a did not finish with seeds 1 and 2: the loss is nan at step 7."
    assert words(row("a", None))[0] == "No model finished, so there is nothing to rank."


def test_models_that_share_no_seed_are_not_compared() -> None:
    assert "a and b have no finished seed in common, so they are not compared." in words(
        row("a", 2.0, None), row("b", None, 3.0)
    )
