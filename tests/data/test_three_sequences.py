from __future__ import annotations

import math

import pytest

from picolab.data.corpus import open_corpus
from picolab.data.three_sequences import document_floors, lines, next_distribution
from picolab.errors import BadData


def test_the_corpus_is_its_lines_and_each_comes_as_often() -> None:
    assert list(open_corpus("3seqs")) == list(lines()) and len(lines()) == 3333
    assert sorted(lines().count(line) for line in set(lines())) == [1111, 1111, 1111]


def test_what_follows_is_certain_once_the_line_is_known() -> None:
    assert next_distribution([]) == pytest.approx({0: 2 / 3, 1: 1 / 3})
    assert next_distribution([0]) == pytest.approx({1: 0.5, 2: 0.5})
    assert next_distribution([1]) == {2: 1.0}
    assert next_distribution([0, 2]) == {4: 1.0}
    assert next_distribution(range(1000)) == {None: 1.0}
    with pytest.raises(BadData, match="no line begins with `0 3`"):
        next_distribution([0, 3])


def test_a_document_costs_what_its_tokens_cost() -> None:
    for line in set(lines()):
        numbers: list[int | None] = [*map(int, line.split()), None]
        if len(numbers) > 600:  # a thousand numbers, each asked of all: the first are enough, the others are certain
            numbers = numbers[:20]
        nats = sum(
            -math.log(next_distribution([n for n in numbers[:t] if n is not None])[x]) for t, x in enumerate(numbers)
        )
        assert document_floors([line])[0] == pytest.approx(nats)
