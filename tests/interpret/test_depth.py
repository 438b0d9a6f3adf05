"""The lens over many texts; neighbours of words whose use is known."""

import numpy as np
import pytest

from handmade import copier
from picolab.errors import BadData, BadInput
from picolab.interpret import neighbours
from picolab.interpret.ablate import losses_of
from picolab.interpret.depth import depths_of, lens_of, says
from picolab.interpret.embeddings import space_of_words, vectors_of
from picolab.interpret.heads import repeated
from picolab.interpret.neighbours import likeness_of
from picolab.interpret.texts import Texts
from picolab.zoo import create


def texts_of_copies(rows=6):
    ids = tuple(tuple(row) for row in repeated(range(12), opening=(12,), length=10, rows=rows))
    return Texts(ids=ids, group=(0,) * rows, names=("a",), source="a")


def test_read_from_the_last_block_the_lens_is_the_model():
    model, texts = copier(), texts_of_copies()
    depths = depths_of(model, texts)
    assert [depth.place for depth in depths] == ["embed", "blocks.0.resid_post", "blocks.1.resid_post"]
    assert depths[-1].agrees.mean == 1
    assert depths[-1].loss.mean == pytest.approx(float(losses_of(model, texts.ids).over().mean()), abs=1e-5)


def test_where_only_the_last_block_writes_the_answer_the_earlier_ones_know_nothing():
    depths = depths_of(copier(), texts_of_copies())
    # The head reads lanes that nothing has written yet: it is as good as guessing among 14.
    assert depths[0].loss.mean == pytest.approx(np.log(14), abs=1e-5)
    assert depths[1].loss.mean == pytest.approx(np.log(14), abs=1e-5)
    assert "block 1 brings the most" in says(depths, 6)[1]


def test_a_model_without_a_stream_has_no_lens():
    with pytest.raises(BadInput, match="no stream"):
        lens_of(create("lstm", vocab_size=14, seed=0), [1, 2, 3])


def cycle(rng, kinds, length):
    """Texts in which a token of one kind is followed by one of the next: tokens of a kind are used alike."""
    return [[int(rng.choice(kinds[i % len(kinds)])) for i in range(length)] for _ in range(60)]


KINDS = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_vectors_that_follow_use_are_said_to():
    rng = np.random.default_rng(0)
    kind = np.repeat(np.arange(3), 4)
    table = np.eye(8)[kind] + 0.1 * rng.normal(size=(12, 8))
    likeness = likeness_of(table, cycle(rng, KINDS, 15), frozenset())
    assert likeness.correlation.value > 0.5 and likeness.correlation.p == 0.001
    for one in likeness.shown:
        assert {token // 4 for token, _ in one.nearest[:3]} == {one.token // 4}
        assert one.token not in dict(one.nearest)
    assert "follows" in neighbours.says(likeness, "embedding")


def test_vectors_that_have_nothing_to_do_with_use_are_said_not_to():
    rng = np.random.default_rng(1)
    likeness = likeness_of(rng.normal(size=(12, 8)), cycle(rng, KINDS, 15), frozenset())
    assert likeness.correlation.p > 0.05
    assert "does not follow" in neighbours.says(likeness, "embedding")


def test_control_tokens_are_nobodys_neighbours():
    rng = np.random.default_rng(1)
    likeness = likeness_of(rng.normal(size=(12, 8)), cycle(rng, KINDS, 15), frozenset({0}))
    assert all(one.token != 0 and 0 not in dict(one.nearest) for one in likeness.shown)


def test_too_few_tokens_have_no_neighbours():
    with pytest.raises(BadData, match="2 different tokens"):
        likeness_of(np.eye(4), [[0, 1, 0]], frozenset())


def test_a_component_that_tells_how_often_a_word_occurs_is_found():
    rng = np.random.default_rng(0)
    counts = {token: 1000 // (token + 1) for token in range(40)}
    words = {token: str(token) for token in counts}
    table = rng.normal(size=(40, 6))
    assert not space_of_words("embedding", table, words, counts).frequency.is_clear
    table[:, 0] += 10 * np.log([counts[t] for t in range(40)])
    assert space_of_words("embedding", table, words, counts).frequency.value > 0.9


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_head_is_told_once(tied):
    model = create("qwen2-pico", vocab_size=14, seed=0, tied=tied)
    assert [*vectors_of(model)] == (["embedding"] if tied else ["embedding", "unembedding"])
    assert all(table.shape == (14, 128) for table in vectors_of(model).values())


def test_a_model_of_one_hot_tokens_has_an_unembedding_only():
    assert [*vectors_of(create("kgram-onehot", vocab_size=14, seed=0))] == ["unembedding"]
