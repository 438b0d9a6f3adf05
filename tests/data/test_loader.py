from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from picolab.data.batch import IGNORE, Batch
from picolab.data.loader import Loader, Turns, show_batch
from picolab.data.store import Mixture, TokenStore
from picolab.errors import BadData, BadSetting
from picolab.text.build import build_tokenizer

EOT, FILL = 0, 999


def store(lengths: list[int], first: int = 1, name: str = "documents") -> TokenStore:
    """Documents whose tokens are all different numbers, so that each can be told from its first."""
    documents, token = [], first
    for length in lengths:
        documents.append(list(range(token, token + length)))
        token += length
    return TokenStore.of(documents, eot=EOT, fill=FILL, name=name)


def read_back(batches: list[Batch]) -> Counter[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Inputs and targets of every document that the batches hold."""
    seen: Counter[tuple[tuple[int, ...], tuple[int, ...]]] = Counter()
    for batch in batches:
        for tokens, targets, documents in zip(
            batch.tokens.tolist(), batch.targets.tolist(), batch.documents.tolist(), strict=True
        ):
            for document in set(documents) - {-1}:
                at = [i for i, d in enumerate(documents) if d == document]
                assert at == list(range(at[0], at[0] + len(at)))
                seen[tuple(tokens[i] for i in at), tuple(targets[i] for i in at)] += 1
    return seen


def expected(data: TokenStore) -> Counter[tuple[tuple[int, ...], tuple[int, ...]]]:
    texts = [data.document(i).tolist() for i in range(data.n_documents)]
    return Counter({((EOT, *text), (*text, EOT)): 1 for text in texts})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 15), min_size=1, max_size=40), st.integers(1, 7), st.integers(0, 3), st.integers(1, 3))
def test_an_epoch_reads_every_document_once(lengths: list[int], batch_size: int, seed: int, world_size: int) -> None:
    data = store(lengths)
    ranks = [
        Loader(data, batch_size=batch_size * world_size, context_length=16, seed=seed, rank=r, world_size=world_size)
        for r in range(world_size)
    ]
    batches = [list(rank.epoch()) for rank in ranks]
    assert len({tuple(b.tokens.shape for b in own) for own in batches}) == 1
    assert read_back([b for own in batches for b in own]) == expected(data)


def test_steps_go_through_the_documents_epoch_after_epoch() -> None:
    data = store([3, 5, 9, 2, 7, 7, 1, 4, 12, 12, 6])
    loader = Loader(data, batch_size=2, context_length=13, seed=1)
    rows = len(list(Loader(data, batch_size=1, context_length=13, seed=1).epoch()))
    assert rows % 2 == 1 and loader.steps_per_epoch == (rows + 1) // 2
    two_epochs = read_back([loader.batch(step) for step in range(rows)])
    assert two_epochs == Counter(dict.fromkeys(expected(data), 2))


def test_padding_is_never_scored_and_everything_else_is() -> None:
    for batch in Loader(store([3, 9, 5]), batch_size=2, context_length=11, seed=0).epoch():
        padding = batch.documents == -1
        assert ((batch.targets == IGNORE) == padding).all() and ((batch.tokens == FILL) == padding).all()
        assert batch.tokens.dtype == batch.targets.dtype == batch.documents.dtype == torch.int64


def test_documents_of_a_row_are_numbered_from_0() -> None:
    (batch,) = Loader(store([2, 3, 1]), batch_size=1, context_length=12, seed=0).epoch()
    numbers = batch.documents[0].tolist()
    assert numbers == sorted(numbers[:9]) + [-1] * 3 and set(numbers[:9]) == {0, 1, 2}
    assert [batch.tokens[0, numbers.index(i)].item() for i in range(3)] == [EOT] * 3


def test_a_document_longer_than_the_context_is_cut_and_still_scored_once() -> None:
    data = store([30])
    seen = read_back(list(Loader(data, batch_size=2, context_length=8, seed=0).epoch()))
    inputs, targets = [EOT, *range(1, 31)], [*range(1, 31), EOT]
    assert seen == Counter({(tuple(inputs[i : i + 8]), tuple(targets[i : i + 8])): 1 for i in range(0, 31, 8)})


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    data = store(list(range(1, 60)))
    loader = Loader(data, batch_size=4, context_length=64, seed=3)
    forward = [loader.batch(step) for step in range(30)]
    fresh = Loader(data, batch_size=4, context_length=64, seed=3)
    for step in (29, 0, 17, 5):
        assert torch.equal(fresh.batch(step).tokens, forward[step].tokens)
    assert not torch.equal(Loader(data, batch_size=4, context_length=64, seed=4).batch(0).tokens, forward[0].tokens)


def test_epochs_differ_unless_they_are_told_not_to() -> None:
    data = store([4] * 36)
    kinds = [Loader(data, batch_size=12, context_length=5, seed=0, shuffle=shuffle) for shuffle in (True, False)]
    (a, b), (c, d) = ((k.batch(0).tokens, k.batch(k.steps_per_epoch).tokens) for k in kinds)
    assert not torch.equal(a, b) and torch.equal(c, d) and torch.equal(a, c)


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_slices_of_all_processes_are_the_rows_of_one(world_size: int) -> None:
    data = Mixture(stores=(store([3, 8, 5, 9, 2]), store([7] * 9, first=100)), weights=(0.3, 0.7))
    alone = Loader(data, batch_size=12, context_length=10, seed=0)
    ranks = [
        Loader(data, batch_size=12, context_length=10, seed=0, rank=r, world_size=world_size) for r in range(world_size)
    ]
    for step in range(5):
        parts = [rank.batch(step) for rank in ranks]
        assert torch.equal(torch.cat([p.tokens for p in parts]), alone.batch(step).tokens)
        assert torch.equal(torch.cat([p.documents for p in parts]), alone.batch(step).documents)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=5))
def test_sources_have_their_share_of_the_rows_at_any_moment(weights: list[float]) -> None:
    turns = Turns(tuple(weights))
    rows = torch.arange(0, 500).numpy()
    taken = [turns.taken(i, rows) for i in range(len(weights))]
    assert (sum(taken) == rows).all()
    for share, mine in zip(turns.shares, taken, strict=True):
        assert abs(mine - share * rows).max() <= (1 + len(weights)) / 2
        assert set((mine[1:] - mine[:-1]).tolist()) <= {0, 1}


def test_a_blend_reads_the_shares_it_says() -> None:
    sources = (store([9] * 20, name="long"), store([1] * 300, first=1000, name="short"))
    loader = Loader(Mixture(stores=sources, weights=(3.0, 1.0)), batch_size=8, context_length=10, seed=0)
    counted = {"long": Counter[str](), "short": Counter[str]()}
    for step in range(25):
        batch = loader.batch(step)
        for tokens, targets, documents in zip(batch.tokens, batch.targets, batch.documents, strict=True):
            kind = counted["short" if tokens.max() >= 1000 and tokens[tokens != FILL].max() >= 1000 else "long"]
            kind["rows"] += 1
            kind["documents"] += int(documents.max()) + 1
            kind["tokens"] += int((targets != IGNORE).sum())
    long, short = loader.drawn(25)
    assert (long.rows, short.rows) == (counted["long"]["rows"], counted["short"]["rows"]) == (150, 50)
    for said, seen in ((long, counted["long"]), (short, counted["short"])):
        assert said.documents == pytest.approx(seen["documents"], rel=0.02)
        assert said.tokens == pytest.approx(seen["tokens"], rel=0.02)
    assert long.repeats == 150 / 20 and short.repeats == pytest.approx(50 / 60)
    assert long.share_of_tokens + short.share_of_tokens == pytest.approx(1)
    assert long.share_of_tokens > 0.7 > 0.4 > long.share_of_documents


def test_an_epoch_of_a_blend_reads_every_source_once_and_none_first() -> None:
    sources = (store([4] * 40), store([4] * 10, first=1000))
    batches = list(Loader(Mixture(stores=sources, weights=(1.0, 9.0)), batch_size=5, context_length=5, seed=0).epoch())
    assert read_back(batches) == expected(sources[0]) + expected(sources[1])
    for batch in batches:
        assert int((batch.tokens[:, 1] >= 1000).sum()) == 1


def test_fewer_rows_than_a_batch_are_repeated_and_a_short_corpus_is_padded() -> None:
    data = store([2, 3])
    loader = Loader(data, batch_size=4, context_length=100, seed=0)
    assert loader.steps_per_epoch == 1 and loader.padding == pytest.approx(0.93)
    assert read_back([loader.batch(0)]) == Counter(dict.fromkeys(expected(data), 4))


def test_what_cannot_be_read_is_refused() -> None:
    data = store([3])
    with pytest.raises(BadSetting, match="batch_size 3 is not a multiple of 2 processes"):
        Loader(data, batch_size=3, context_length=4, seed=0, world_size=2)
    for wrong in ({"batch_size": 0}, {"context_length": 0}, {"rank": 1}, {"seed": -1}):
        with pytest.raises(BadSetting, match="cannot be"):
            Loader(data, **{"batch_size": 1, "context_length": 4, "seed": 0, **wrong})
    with pytest.raises(BadData, match="`nothing` has no document to read"):
        Loader(store([], name="nothing"), batch_size=1, context_length=4, seed=0)
    with pytest.raises(BadSetting, match="step -1 is before the first"):
        Loader(data, batch_size=1, context_length=4, seed=0).batch(-1)


def test_a_batch_is_shown_as_text_with_its_ends_and_cuts() -> None:
    tokenizer = build_tokenizer("bytes")
    data = TokenStore.of([tokenizer.encode("hello"), tokenizer.encode("abcdefghijk")], eot=tokenizer.eot)
    batches = Loader(data, batch_size=1, context_length=8, seed=0).epoch()
    assert sorted(row for batch in batches for row in show_batch(batch, tokenizer)) == [
        "<cut>ijk<end><padding 4>",
        "abcdefgh<cut>",
        "hello<end><padding 2>",
    ]
