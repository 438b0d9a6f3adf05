"""Findings: effects, turns, power laws and shares are right on data whose answer is known, and sentences say what their figures
say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from picolab.studies.effects import effect_of, rival_of, share_of
from picolab.studies.figures import shortened
from picolab.studies.pareto import front
from picolab.studies.power_law import power_law
from picolab.studies.study import Axis, Study
from picolab.studies.turning import turn_of
from picolab.studies.words.found import SENTENCES, sentence

from made_up_study import made_up, outcome, result_of

MakeStudy = Callable[..., Study]


def test_the_effect_of_a_setting_is_what_was_put_into_the_data(make_study: MakeStudy) -> None:
    study = make_study(axes={"lr": [0.1, 0.2, 0.3], "n_layers": [1, 2]}, seeds=4)
    noise = np.random.default_rng(0).normal(0, 0.01, (3, 2, 4))
    put_in = {0.1: 0.5, 0.2: 0.0, 0.3: 0.02}

    def loss(point: Mapping[str, Any], seed: int) -> float:
        lr, depth = point["optimizer.lr"], point["model.n_layers"]
        return 3 + put_in[lr] - 0.1 * depth + seed + noise[[0.1, 0.2, 0.3].index(lr), depth - 1, seed]

    outcomes = made_up(study, loss)
    rates, depths = (effect_of(axis, outcomes, "loss") for axis in study.axes)
    assert rates is not None and depths is not None
    assert [level.value for level in rates.levels] == [0.2, 0.3, 0.1]
    assert rates.size.mean == pytest.approx(0.5, abs=0.02)
    assert rates.size.told_apart and rates.contexts == 2
    assert depths.levels[0].value == 2 and depths.size.mean == pytest.approx(0.1, abs=0.02)
    gap = rival_of(rates, depths)
    assert gap is not None and gap.told_apart and gap.mean == pytest.approx(0.4, abs=0.03)
    # The margin by least squares: a mean for each rate and each seed, at 95 % for three pairs together.
    rows = [(o.point["optimizer.lr"], o.seed) for o in outcomes if o.number % 2 == 0]
    means = [np.mean([o.figures["loss"] for o in outcomes if (o.point["optimizer.lr"], o.seed) == row]) for row in rows]
    design = np.array(
        [[*(rate == r for r in (0.1, 0.2, 0.3)), *(seed == s for s in (1, 2, 3))] for rate, seed in rows], float
    )
    solved, rest, _, _ = np.linalg.lstsq(design, np.array(means))
    covariance = float(rest[0]) / (len(rows) - 6) * np.linalg.inv(design.T @ design)
    contrast = np.array([1.0, -1.0, 0, 0, 0, 0])
    assert rates.size.mean == pytest.approx(contrast @ solved)
    half = stats.t.ppf(1 - 0.05 / 6, len(rows) - 6) * np.sqrt(contrast @ covariance @ contrast)
    assert rates.size.margin == pytest.approx(half)
    # Of two values the margin is that of a paired t interval.
    low, high = (
        [
            np.mean([o.figures["loss"] for o in outcomes if o.seed == s and o.point["model.n_layers"] == v])
            for s in range(4)
        ]
        for v in (2, 1)
    )
    interval = stats.ttest_rel(high, low).confidence_interval(0.95)
    assert depths.size.mean - (depths.size.margin or 0) == pytest.approx(interval.low)


def test_a_value_that_misses_a_combination_is_compared_on_the_others_only(make_study: MakeStudy) -> None:
    study = make_study(axes={"lr": [0.1, 0.2], "n_layers": [1, 2]}, seeds=2)
    outcomes = made_up(study, lambda p, s: p["model.n_layers"] * 10 + p["optimizer.lr"] + 0.01 * s)
    broken = [replace(o, status="failed", figures={}) if o.number == 3 and o.seed == 1 else o for o in outcomes]
    effect = effect_of(study.axes[0], broken, "loss")
    assert effect is not None
    assert effect.contexts == 1
    assert effect.size.mean == pytest.approx(0.1)


def test_noise_alone_is_seldom_called_an_effect(make_study: MakeStudy) -> None:
    """Five values, ten pairs, nothing there: without the allowance for looking at ten pairs a quarter would be claimed."""
    study = make_study(axes={"lr": [0.1, 0.2, 0.3, 0.4, 0.5]}, seeds=5)
    rng = np.random.default_rng(0)
    claimed = 0
    for _ in range(200):
        effect = effect_of(study.axes[0], made_up(study, lambda p, s: float(rng.normal())), "loss")
        assert effect is not None
        claimed += effect.size.told_apart
    assert claimed / 200 < 0.06


def test_the_share_an_axis_explains_and_its_chance() -> None:
    rng = np.random.default_rng(0)
    axes = Axis(name="optimizer.lr", low=0.0, high=1.0), Axis(name="optimizer.weight_decay", low=0.0, high=1.0)
    points = {i: {axis.name: float(rng.uniform()) for axis in axes} for i in range(30)}
    means = {i: point["optimizer.lr"] + float(rng.normal(0, 0.05)) for i, point in points.items()}
    strong, weak = (share_of(axis, means, points, seed=0) for axis in axes)
    assert strong is not None and weak is not None
    assert strong.explained > 0.75 and strong.chance <= 0.002
    assert weak.explained < 0.3 and weak.chance > 0.05


@pytest.mark.parametrize("turn", [4, 9, 15])
def test_the_turn_is_found_where_it_was_put(turn: int, make_study: MakeStudy) -> None:
    study, rng = make_study(axes={"lr": [0.1]}, seeds=3), np.random.default_rng(turn)
    steps = tuple(range(0, 105, 5))
    outcomes = []
    for seed in range(3):
        held_out = tuple(3 + 0.02 * abs(i - turn) + float(rng.normal(0, 0.001)) for i in range(len(steps)))
        training = tuple(3 - 0.05 * i for i in range(len(steps)))
        course = {"step": steps, "loss": (9.0, *held_out[1:]), "train_loss": training}
        outcomes.append(replace(outcome(study, 0, {"optimizer.lr": 0.1}, seed, loss=held_out[-1]), course=course))
    found = turn_of(0, outcomes)
    assert found is not None and found.claimed
    assert found.step.low == found.step.mean == found.step.high == 5 * turn
    assert found.rise.mean == pytest.approx(0.02 * (20 - turn), abs=0.005)
    assert found.fall.mean == pytest.approx(0.05 * (20 - turn))


def test_no_turn_is_claimed_while_the_held_out_loss_falls_or_only_wobbles(make_study: MakeStudy) -> None:
    study, rng = make_study(axes={"lr": [0.1]}, seeds=3), np.random.default_rng(0)
    for slope in (-0.05, 0.0):
        outcomes = []
        for seed in range(3):
            held_out = tuple(3 + slope * i + float(rng.normal(0, 0.05)) for i in range(10))
            course = {
                "step": tuple(range(10)),
                "loss": held_out,
                "train_loss": tuple(3 + float(rng.normal(0, 0.05)) for _ in range(10)),
            }
            outcomes.append(replace(outcome(study, 0, {"optimizer.lr": 0.1}, seed, loss=held_out[-1]), course=course))
        found = turn_of(0, outcomes)
        assert found is not None and not found.claimed


def test_a_power_law_gives_its_exponent_back_with_an_honest_margin() -> None:
    x = np.geomspace(1e4, 1e7, 7)
    fit = power_law(list(x), list(1.5 + 40 * x**-0.3), floor=1.5)
    assert fit is not None
    assert fit.exponent == pytest.approx(0.3) and fit.margin < 1e-6
    assert fit.at(3e5) == pytest.approx(1.5 + 40 * 3e5**-0.3)
    assert fit.tenfold == pytest.approx(10**-0.3)
    rng, inside = np.random.default_rng(0), 0
    for _ in range(200):
        noisy = power_law(list(x), list(40 * x**-0.3 * np.exp(rng.normal(0, 0.1, 7))))
        assert noisy is not None
        inside += abs(noisy.exponent - 0.3) <= noisy.margin
        theirs = stats.linregress(np.log(x), np.log([noisy.at(one) for one in x]))
        assert theirs.slope == pytest.approx(-noisy.exponent)
    assert 0.91 <= inside / 200 <= 0.99, "a 95 % margin holds the truth about 95 times in 100"
    flat = power_law([1.0, 10.0, 100.0], [3.0, 3.1, 2.98])
    assert flat is not None and not flat.told_from_flat
    assert power_law([1.0, 10.0], [3.0, 2.0]) is None
    assert power_law([1.0, 10.0, 100.0], [3.0, 2.0, 1.0], floor=1.2) is None


def test_the_front_holds_exactly_what_nothing_cheaper_beats() -> None:
    rng = np.random.default_rng(0)
    cost, goal = ({i: float(v) for i, v in enumerate(rng.integers(0, 12, 40))} for _ in range(2))
    kept = front(cost, goal)
    for i in cost:
        beaten = any(
            cost[j] <= cost[i] and goal[j] <= goal[i] and (cost[j], goal[j]) != (cost[i], goal[i]) for j in cost
        )
        twin = any((cost[j], goal[j]) == (cost[i], goal[i]) for j in kept)
        assert twin != beaten


def test_a_cheaper_point_that_seeds_cannot_tell_from_the_best_is_recommended(
    make_study: MakeStudy, tmp_path: Path
) -> None:
    study = make_study(axes={"n_layers": [1, 2, 3]}, seeds=3)
    losses = {1: (3.5, 3.6, 3.4), 2: (2.01, 2.0, 2.03), 3: (2.0, 2.02, 2.0)}
    outcomes = made_up(study, lambda p, s: losses[p["model.n_layers"]][s], flops=lambda p: 100.0 * p["model.n_layers"])
    advice = result_of(study, outcomes, tmp_path / "a").recommendation
    assert advice is not None
    assert (advice.number, advice.best, advice.within_noise) == (1, 2, (1,))
    assert advice.says == (
        "Take n_layers 2: the validation loss is 2.013 nats a token (2.000 to 2.030 over 3 seeds). The best, n_layers 3 (2.007), "
        "is ahead by no more than the noise of seeds, and this takes 67% of its training compute."
    )
    apart = made_up(
        study,
        lambda p, s: losses[p["model.n_layers"]][s] + (p["model.n_layers"] == 2),
        flops=lambda p: 100.0 * p["model.n_layers"],
    )
    advice = result_of(study, apart, tmp_path / "b").recommendation
    assert advice is not None and advice.number == 2
    assert advice.says.endswith("the best mean.")


def test_a_setting_matters_most_only_if_it_is_told_from_the_next(make_study: MakeStudy, tmp_path: Path) -> None:
    """Otherwise the next sentence, that nobody can tell which of the two matters more, would take the first one back."""
    study = make_study(axes={"lr": [0.1, 0.2], "n_layers": [1, 2]}, seeds=3)
    for name, depth, noise, first in (
        ("near", 0.48, 0.04, "lr matters: from 0.2 to 0.1"),
        ("far", 0.10, 0.04, "lr matters most: from 0.2 to 0.1"),
        ("sure", 0.01, 0.40, "lr matters: from 0.2 to 0.1"),  # the other is not told from nothing, nor lr from it
    ):

        def loss(point: Mapping[str, Any], seed: int, depth: float = depth, noise: float = noise) -> float:
            deep = point["model.n_layers"] == 2
            return 3 + 0.5 * (point["optimizer.lr"] == 0.1) - depth * deep + noise * deep * (-1, 0, 1)[seed]

        says = [finding.says for finding in result_of(study, made_up(study, loss), tmp_path / name).findings]
        assert says[0].startswith(first), says
        assert any("cannot be told" in one for one in says) == (name == "near")


def test_figures_are_said_in_their_own_digits(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(axes={"n_layers": [1, 2]}, seeds=3, goal="tokens_per_second", ask=["effects", "pareto"])
    speeds = {
        "tokens_per_second": lambda p: 41_234.5 / p["model.n_layers"],
        "flops": lambda p: 6e8 * p["model.n_layers"],
    }
    result = result_of(study, made_up(study, lambda p, s: 3.0, **speeds), tmp_path)
    assert result.recommendation is not None
    assert result.recommendation.says.startswith(
        "Take n_layers 1: the training speed is 41,234 tokens/s (41,234 to 41,234 over 3 seeds)"
    )
    assert any("n_layers 1 (41,234 for 600 MFLOP)" in finding.says for finding in result.findings)
    assert [shortened(value) for value in (999.6, 999_950, 0.002, 65_536, 2e13)] == [
        "1 k",
        "1 M",
        "0.002",
        "65.5 k",
        "20 T",
    ]
    assert (shortened(950, "s"), shortened(4.1e7, "FLOP")) == ("950 s", "41 MFLOP")


def test_a_sentence_changes_with_its_figures(make_study: MakeStudy) -> None:
    """Told apart or not is a matter of the numbers, in every sentence that claims something."""
    effect = {
        "axis": "lr", "figure": "loss", "best": "0.1", "worst": "0.2", "difference": 0.3, "margin": 0.1, "seeds": 3,
        "told_apart": True, "combinations": 1, "rank": 1, "of": 2, "most": True, "levels": [0, 0],
    }  # fmt: skip
    assert sentence("effect", effect).startswith(
        "lr matters most: from 0.1 to 0.2 the validation loss rises by 0.300 ± 0.100"
    )
    assert sentence("effect", {**effect, "most": False}).startswith("lr matters: ")
    assert sentence("effect", {**effect, "margin": 0.5, "told_apart": False}).startswith(
        "lr makes no difference that 3 seeds can tell"
    )
    assert sentence("effect", {**effect, "margin": None, "told_apart": False}).endswith(
        "0.300 nats a token, on one seed."
    )
    turn = {
        "point": "lr 0.1", "step": 40.0, "step_low": 35.0, "step_high": 45.0, "last_step": 100, "seeds": 3, "rise": 0.5,
        "rise_margin": 0.1, "fall": 1.0, "fall_margin": 0.2, "claimed": True,
    }  # fmt: skip
    assert "overfitting begins at step 40 (35 to 45 over 3 seeds)" in sentence("turn", turn)
    assert "no turn can be claimed by step 100" in sentence("turn", {**turn, "claimed": False})
    law = {
        "x": "tokens", "exponent": 0.2, "margin": 0.05, "scale": 3.0, "r_squared": 0.99, "floor": 0.0, "points": 4, "low": 1e3,
        "high": 1e6, "told_from_flat": True, "tenfold": 0.63, "floor_known": False,
    }  # fmt: skip
    assert "falls with exponent 0.200 ± 0.050 (4 points from 1 k to 1 M, R² 0.990)" in sentence("power_law", law)
    assert "not told from no change" in sentence("power_law", {**law, "told_from_flat": False})
    assert set(SENTENCES) >= {"effect", "turn", "power_law", "front", "share", "by_heart"}
