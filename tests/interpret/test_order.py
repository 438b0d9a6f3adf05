"""Points whose shape is known: a line, a circle, two heaps, a cloud; and labels that mean nothing."""

import numpy as np
import pytest

from picolab.errors import BadInput
from picolab.interpret import embeddings
from picolab.interpret.chance import Band, band, false_finds, measured, p_value, shuffles
from picolab.interpret.embeddings import components_of, space_of_numbers
from picolab.interpret.order import order_of

N, D = 60, 16


def cloud(seed, scale=1.0):
    return np.random.default_rng(seed).normal(size=(N, D)) * scale


def circle():
    angle = 2 * np.pi * np.arange(N) / N
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(D, 2)))[0]
    return np.stack([np.cos(angle), np.sin(angle)], 1) @ turned.T


def line():
    return np.arange(N)[:, None] * np.random.default_rng(2).normal(size=(1, D)) / N


def test_numbers_on_a_line_are_known_ranked_and_in_order():
    order = order_of(line() + cloud(0, 0.01))
    assert order.is_there and order.steps.value < 0.05
    assert order.known.value > 0.99 and order.rank.value > 0.99
    assert order.known.p == order.rank.p == order.steps.p == 0.001
    assert order.ends > 2


def test_numbers_on_a_circle_are_in_order_and_the_path_closes_but_no_component_knows_the_number():
    order = order_of(circle() + cloud(0, 0.01))
    assert order.is_there and order.steps.value < 0.05
    assert order.ends < 0.3
    assert 0.5 < order.known.value < 0.7  # 6 / pi^2 = 0.61: a circle's angle is no line
    assert order.rank.value < 0.9


def test_a_circle_has_two_components_that_explain_the_same():
    explained = components_of(circle(), [str(i) for i in range(N)]).explained
    assert explained[0] == pytest.approx(0.5) and explained[1] == pytest.approx(0.5)


def test_numbers_in_a_cloud_are_in_no_order_and_the_sentence_says_no():
    order = order_of(cloud(3))
    assert not order.is_there
    assert order.steps.value == pytest.approx(1, abs=0.15)
    table = cloud(3)
    (said, *rest) = embeddings.says(space_of_numbers("embedding", table, {i: i for i in range(N)}))
    assert "do not lie in their order" in said


def test_even_numbers_apart_from_odd_ones_are_a_period_of_two():
    apart = cloud(4, 0.3) + np.where(np.arange(N) % 2, 1.0, -1.0)[:, None]
    order = order_of(apart)
    assert order.every == 2 and order.period.p == 0.001
    share = 1 / (1 + 0.09)
    assert order.period.value == pytest.approx(share, abs=0.03)
    assert not order.is_there  # each number lies far from the next


def test_a_line_is_no_period():
    assert order_of(line()).period.p > 0.5


def test_the_path_does_not_depend_on_where_the_points_lie_or_how_they_are_turned():
    points = line() + cloud(0, 0.05)
    turned = np.linalg.qr(np.random.default_rng(7).normal(size=(D, D)))[0]
    one, other = order_of(points), order_of(3 * points @ turned + 5)
    assert one.steps.value == pytest.approx(other.steps.value)
    assert one.known.value == pytest.approx(other.known.value)
    assert one.rank.value == pytest.approx(other.rank.value)


def test_components_agree_with_the_eigenvalues_of_the_covariance():
    points = cloud(8) * np.arange(1, D + 1)
    values = np.linalg.eigvalsh(np.cov(points.T))[::-1]
    assert components_of(points, [""] * N).explained == pytest.approx(tuple(values / values.sum())[:10])


def test_independent_dimensions_explain_what_chance_does():
    points = np.random.default_rng(9).normal(size=(400, D))
    found = components_of(points, [""] * 400)
    assert sum(found.explained[:2]) == pytest.approx(found.by_chance, rel=0.1)


@pytest.mark.parametrize(("points", "says"), [(np.ones((9, 4)), "same vector"), (np.zeros((9, 4)), "same vector")])
def test_points_that_are_all_one_have_no_components(points, says):
    with pytest.raises(BadInput, match=says):
        components_of(points, [""] * 9)


def test_where_nothing_is_to_be_found_p_is_uniform():
    orders = [order_of(np.random.default_rng(seed).normal(size=(20, 6))) for seed in range(150)]
    for answer in ("steps", "known", "rank", "period"):
        ps = np.array([getattr(order, answer).p for order in orders])
        for share in (0.05, 0.25, 0.5, 0.75):
            # The number of 150 below `share` is binomial; four standard deviations.
            assert abs((ps <= share).mean() - share) < 4 * np.sqrt(share * (1 - share) / 150), answer


def test_p_counts_the_labelling_itself_and_is_never_zero():
    assert p_value(10.0, np.zeros(99)) == pytest.approx(0.01)
    assert p_value(0.0, np.zeros(99)) == 1.0
    assert p_value(-1.0, np.zeros(99), small=True) == pytest.approx(0.01)
    assert measured(1.0, np.arange(100) / 100).high == pytest.approx(0.965, abs=0.01)


def test_false_finds_agree_with_scipy():
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(0).random(300) ** 2
    assert false_finds(p) == pytest.approx(false_discovery_control(p))


def test_every_shuffle_holds_every_item_and_most_are_different():
    orders = shuffles(9, 0, 50)
    assert (np.sort(orders, axis=1) == np.arange(9)).all()
    assert len({tuple(row) for row in orders.tolist()}) > 45


def test_an_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    bands = [band(rng.normal(3, 2, size=12)) for _ in range(2000)]
    assert np.mean([b.low <= 3 <= b.high for b in bands]) == pytest.approx(0.95, abs=0.02)
    assert str(Band(mean=1.0, low=0.5, high=1.5, count=3)) == "1.000 ± 0.500"
    assert str(band([1.0])) == "1.000"
