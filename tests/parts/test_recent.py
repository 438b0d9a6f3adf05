"""The newest k tokens."""

from __future__ import annotations

import pytest
import torch

from picolab.errors import BadInput
from picolab.parts.recent import EMPTY, RecentTokens, recent


def test_the_newest_token_is_the_one_just_read_and_nothing_stands_before_the_first():
    context = recent(torch.tensor([[7, 0, 5, 3]]), 3)
    assert context.tolist() == [[[7, EMPTY, EMPTY], [0, 7, EMPTY], [5, 0, 7], [3, 5, 0]]]


def test_a_context_ends_where_its_document_begins():
    tokens, documents = torch.tensor([[7, 8, 7, 9, 6]]), torch.tensor([[0, 0, 1, 1, -1]])
    slots = recent(tokens, 3, documents=documents)[0].tolist()
    assert slots == [[7, EMPTY, EMPTY], [8, 7, EMPTY], [7, EMPTY, EMPTY], [9, 7, EMPTY], [6, EMPTY, EMPTY]]


def test_documents_that_share_a_number_but_not_a_border_are_apart():
    slots = recent(torch.tensor([[1, 2, 3]]), 3, documents=torch.tensor([[0, 1, 0]]))[0]
    assert slots.tolist() == [[1, EMPTY, EMPTY], [2, EMPTY, EMPTY], [3, EMPTY, EMPTY]]


def test_no_slots_at_all_is_a_context_too():
    assert recent(torch.tensor([[1, 2, 3]]), 0).shape == (1, 3, 0)


@pytest.mark.parametrize("k", [0, 1, 2, 5])
@pytest.mark.parametrize("chunks", [[7], [1] * 7, [3, 1, 3], [1, 6]])
def test_a_cache_continues_in_any_chunks(k, chunks):
    tokens = torch.randint(0, 17, (2, 7), generator=torch.Generator().manual_seed(0))
    cache = RecentTokens(batch_size=2, k=k, capacity=7, device=tokens.device)
    read = [recent(part, k, cache=cache) for part in tokens.split(chunks, dim=1)]
    assert torch.equal(torch.cat(read, dim=1), recent(tokens, k))
    assert cache.length == 7 and cache.tokens.shape == (2, max(k - 1, 0))


def test_a_cache_belongs_to_rows_of_one_document_and_to_as_many_rows_as_it_was_made_for():
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    cache = RecentTokens(batch_size=1, k=2, capacity=3, device=tokens.device)
    with pytest.raises(BadInput, match="^the cache holds 1 rows and 2 continue them$"):
        recent(tokens, 2, cache=cache)
    with pytest.raises(BadInput, match="^packed documents and a cache cannot be combined$"):
        recent(tokens[:1], 2, cache=cache, documents=tokens[:1])
