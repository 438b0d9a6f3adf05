from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picolab.data.numeric import WALK, World, rule_of, sample
from picolab.data.numeric_floor import document_floors, following, next_distribution, position_floors
from picolab.errors import BadData, BadSetting

SMALL = World(numbers=9, shortest=3, longest=5, difference=2, ratio=3, width=2)
WORLDS = [
    SMALL,
    World(families=("counting",)),
    World(families=(WALK,), numbers=5, shortest=3, longest=4),
    World(families=("geometric", "alternating"), numbers=17, shortest=3, longest=7),
]


def every_document(world: World) -> dict[tuple[int, ...], float]:
    """All documents of a small world and their probabilities, straight from the words of the file's docstring."""
    found: Counter[tuple[int, ...]] = Counter()
    for family in world.families:
        sequences = []
        for start in range(world.numbers):
            if family == "counting":
                sequences.append(list(range(start, world.numbers)))
            elif family == "arithmetic":
                for d in set(range(-world.difference, world.difference + 1)) - {0, 1}:
                    sequences.append([x for x in (start + d * i for i in range(99)) if 0 <= x < world.numbers])
            elif family == "geometric":
                for r in range(2, world.ratio + 1):
                    sequences.append([start * r**i for i in range(9) if 0 < start * r**i < world.numbers])
                    sequences.append([start // r**i for i in range(9) if start % r**i == 0 and start])
            elif family == "alternating":
                for other in set(range(world.numbers)) - {start}:
                    sequences.append([start, other] * world.longest)
            else:
                for width in range(1, world.width + 1):
                    sequences.append((start, width))
        kept = [s for s in sequences if family == WALK or len(s) >= world.shortest]
        for s in kept:
            longest = world.longest if family == WALK else min(world.longest, len(s))
            for length in range(world.shortest, longest + 1):
                weight = 1 / len(world.families) / len(kept) / (longest - world.shortest + 1)
                if family != WALK:
                    found[tuple(s[:length])] += weight
                    continue
                for steps in itertools.product([i for i in range(-s[1], s[1] + 1) if i], repeat=length - 1):
                    path = [s[0], *itertools.accumulate(steps, initial=s[0])][1:]
                    if all(0 <= x < world.numbers for x in path):
                        chance = weight
                        for x in path[:-1]:
                            chance /= sum(1 for i in range(-s[1], s[1] + 1) if i and 0 <= x + i < world.numbers)
                        found[tuple(path)] += chance
    return dict(found)


@pytest.mark.parametrize("world", WORLDS)
def test_the_floor_is_the_one_counted_over_every_document_there_is(world: World) -> None:
    every = every_document(world)
    assert math.isclose(sum(every.values()), 1, rel_tol=1e-12)
    texts = [" ".join(map(str, d)) for d in every]
    np.testing.assert_allclose(np.exp(-document_floors(texts, world)), list(every.values()), rtol=1e-9)

    begins: Counter[tuple[int, ...]] = Counter()
    for document, p in every.items():
        for t in range(len(document) + 1):
            begins[document[:t]] += p
    for prefix in list(begins)[:: max(1, len(begins) // 400)]:
        expected = [begins[(*prefix, x)] / begins[prefix] for x in range(world.numbers)]
        expected.append(every.get(prefix, 0) / begins[prefix])
        np.testing.assert_allclose(next_distribution(prefix, world), expected, atol=1e-12)


@pytest.mark.parametrize("world", WORLDS)
def test_sampled_surprise_converges_to_the_entropy(world: World) -> None:
    every = every_document(world)
    entropy = -sum(p * math.log(p) for p in every.values())
    nats = document_floors([e.text for e in sample(world, 20_000, seed=3)], world)
    assert abs(nats.mean() - entropy) < 5 * nats.std() / math.sqrt(len(nats))
    assert abs(nats.mean() - entropy) < 0.03 * entropy


def test_samples_have_the_probabilities_that_the_floor_assumes() -> None:
    every = every_document(SMALL)
    seen = Counter(e.numbers for e in sample(SMALL, 50_000, seed=0))
    assert set(seen) <= set(every)
    counted = np.array([seen[d] for d in every]), np.array(list(every.values())) * 50_000
    chi_squared = float((((counted[0] - counted[1]) ** 2) / counted[1]).sum())
    assert abs(chi_squared - len(every)) < 6 * math.sqrt(2 * len(every))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_what_may_follow_sums_to_one(i: int) -> None:
    world = World()
    example = next(itertools.islice(sample(world, 1, seed=i), 1))
    for t in range(len(example.numbers) + 1):
        p = next_distribution(example.numbers[:t], world)
        assert p.shape == (129,) and (p >= 0).all() and math.isclose(p.sum(), 1, rel_tol=1e-9)


NOISY = [
    World(numbers=5, shortest=3, longest=4, difference=1, ratio=2, width=2, noise=20),
    World(families=("counting", "alternating"), numbers=6, shortest=3, longest=3, noise=35),
    World(families=(WALK,), numbers=4, shortest=3, longest=4, width=2, noise=10),
]


@pytest.mark.parametrize("world", NOISY)
def test_with_noise_the_floor_is_the_one_counted_over_every_hidden_document_and_every_slip(world: World) -> None:
    hidden = every_document(world)
    seen = [
        d for n in range(world.shortest, world.longest + 1) for d in itertools.product(range(world.numbers), repeat=n)
    ]
    slip = world.noise / 100 / world.numbers
    every = {
        y: sum(
            p * math.prod(slip + (1 - world.noise / 100) * (a == b) for a, b in zip(x, y, strict=True))
            for x, p in hidden.items()
            if len(x) == len(y)
        )
        for y in seen
    }
    assert math.isclose(sum(every.values()), 1, rel_tol=1e-9)
    texts = [" ".join(map(str, d)) for d in every]
    np.testing.assert_allclose(np.exp(-document_floors(texts, world)), list(every.values()), rtol=1e-9)
    begins: Counter[tuple[int, ...]] = Counter()
    for document, p in every.items():
        for t in range(len(document) + 1):
            begins[document[:t]] += p
    for prefix in list(begins)[::7]:
        expected = [begins[(*prefix, x)] / begins[prefix] for x in range(world.numbers)]
        expected.append(every.get(prefix, 0) / begins[prefix])
        np.testing.assert_allclose(next_distribution(prefix, world), expected, atol=1e-12)


def test_noise_spoils_as_many_numbers_as_it_says_and_the_rule_goes_on() -> None:
    clean, noisy = World(), World(noise=20)
    pairs = list(zip(sample(clean, 3000, seed=4), sample(noisy, 3000, seed=4), strict=True))
    assert all(a.rule == b.rule and len(a.numbers) == len(b.numbers) for a, b in pairs)
    numbers = [(x, y) for a, b in pairs for x, y in zip(a.numbers, b.numbers, strict=True)]
    changed = sum(x != y for x, y in numbers) / len(numbers)
    assert abs(changed - 0.2 * 127 / 128) < 0.01
    found = [rule_of(b.numbers, noisy) == b.rule for _, b in pairs if b.rule.family != WALK and len(b.numbers) > 8]
    assert sum(found) / len(found) > 0.95
    with pytest.raises(BadSetting, match="noise 100 is not 0 to 99 percent"):
        World(noise=100)


def test_what_follows_many_documents_is_what_follows_each_prefix() -> None:
    for world in (World(), World(numbers=20, longest=6, noise=10)):
        documents = [example.numbers for example in sample(world, 12, seed=9)]
        for numbers, p in zip(documents, following(documents, world), strict=True):
            assert p.shape == (len(numbers) + 1, world.numbers + 1)
            for t in range(len(numbers) + 1):
                np.testing.assert_allclose(p[t], next_distribution(numbers[:t], world), atol=1e-12)
    with pytest.raises(BadData, match="no rule of this world writes `1 8 2`"):
        list(following([(1, 8, 2)], SMALL))


def test_positions_are_the_surprise_of_the_distributions() -> None:
    world = World()
    for example in sample(world, 20, seed=1):
        (nats,) = position_floors([example.text], world)
        what = [*example.numbers, world.numbers]
        expected = [-math.log(next_distribution(example.numbers[:t], world)[x]) for t, x in enumerate(what)]
        np.testing.assert_allclose(nats, expected, atol=1e-9)


def test_two_four_is_explained_by_several_families_and_two_four_six_by_two() -> None:
    p = next_distribution([2, 4], World())
    assert {x for x in range(129) if p[x] > 0} == {1, 2, 3, 5, 6, 7, 8}  # walks, alternating, arithmetic, geometric
    p = next_distribution([2, 4, 6, 8, 10], World())
    assert p[12] > 0.7 and p[8] > 0 and p[128] > 0


def test_a_certain_position_costs_nothing() -> None:
    world = World(families=("counting",), numbers=30, shortest=4, longest=4)
    (nats,) = position_floors(["7 8 9 10"], world)
    np.testing.assert_allclose(nats, [math.log(27), 0, 0, 0, 0], atol=1e-12)


def test_a_document_no_rule_writes_is_refused() -> None:
    with pytest.raises(BadData, match="no rule of this world writes `1 8 2`"):
        document_floors(["1 8 2"], SMALL)
    with pytest.raises(BadData, match="no rule of this world writes `1 8 2`"):
        next_distribution([1, 8, 2], SMALL)
