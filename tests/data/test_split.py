from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from picolab.data import split as module
from picolab.data.split import Split, find_cuts
from picolab.errors import BadData, BadSetting


def sides(documents: list[str], split: Split, folder: Path, seed: int = 0) -> list[str]:
    cuts = find_cuts(documents, split, seed, name="x", scratch=folder / "hashes")
    return [cuts.side(document) for document in documents]


@pytest.mark.parametrize("chunk", [3, 2**16])
def test_proportions_are_exact(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    documents = [f"document {i}" for i in range(1000)]
    counted = Counter(sides(documents, Split(validation=0.05, test=0.1), tmp_path))
    assert counted == {"train": 850, "validation": 50, "test": 100}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 30), min_size=40, max_size=90), st.integers(0, 9))
def test_equal_documents_never_fall_on_both_sides(tmp_path: Path, numbers: list[int], seed: int) -> None:
    documents = [*map(str, numbers), *map(str, range(10))]
    distinct = len(set(documents))
    side = dict(zip(documents, sides(documents, Split(validation=0.2, test=0.1), tmp_path, seed), strict=True))
    assert [side[d] for d in documents] == sides(documents, Split(validation=0.2, test=0.1), tmp_path, seed)
    counted = Counter(side.values())
    assert (counted["validation"], counted["test"]) == (round(distinct * 0.2), max(1, round(distinct * 0.1)))


def test_the_order_of_the_documents_does_not_matter_but_the_seed_does(tmp_path: Path) -> None:
    documents = [f"document {i}" for i in range(200)]
    one, other = (
        dict(zip(order, sides(order, Split(), tmp_path), strict=True)) for order in (documents, documents[::-1])
    )
    assert one == other
    assert one != dict(zip(documents, sides(documents, Split(), tmp_path, seed=1), strict=True))


def test_a_share_above_0_keeps_at_least_one_document_and_none_keeps_none(tmp_path: Path) -> None:
    documents = [f"document {i}" for i in range(5)]
    assert Counter(sides(documents, Split(validation=0.01, test=0.01), tmp_path)) == {
        "train": 3,
        "validation": 1,
        "test": 1,
    }
    assert Counter(sides(documents, Split(validation=0, test=0), tmp_path)) == {"train": 5}


def test_a_split_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData) as error:
        sides(["same"] * 9, Split(), tmp_path)
    assert str(error.value) == "`x` has 1 distinct document: a split into 2 parts leaves nothing to train on"
    assert error.value.hint is not None and "lines:FILE" in error.value.hint
    with pytest.raises(BadData, match="has 2 distinct documents: a split into 3 parts"):
        sides(["a", "b"], Split(validation=0.1, test=0.1), tmp_path)
    for wrong in ((0.5, 0.5), (-0.1, 0), (1, 0), (float("nan"), 0)):
        with pytest.raises(BadSetting, match="leave nothing to train on"):
            Split(validation=wrong[0], test=wrong[1])
