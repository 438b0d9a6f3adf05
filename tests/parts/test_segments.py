"""Packed rows taken apart and put together again."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from picolab.parts.segments import split

rows = st.lists(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=1, max_size=6), min_size=1, max_size=4)


def documents_from(rows):
    """Rows of (is padding, length) as document numbers, all rows as long as the longest, the rest padding."""
    drawn = [[-1 if padding else i for i, (padding, n) in enumerate(row) for _ in range(n)] for row in rows]
    longest = max(len(row) for row in drawn)
    return torch.tensor([row + [-1] * (longest - len(row)) for row in drawn])


def documents_of(documents):
    """(row, start, stop) of every document, found one token after another."""
    for row, numbers in enumerate(documents.tolist()):
        start = 0
        for stop in range(1, len(numbers) + 1):
            if stop == len(numbers) or numbers[stop] != numbers[start]:
                if numbers[start] >= 0:
                    yield row, start, stop
                start = stop


@given(rows)
@settings(max_examples=60, deadline=None)
def test_a_layer_runs_as_on_every_document_alone(rows):
    documents = documents_from(rows)
    torch.manual_seed(0)
    layer = nn.LSTM(3, 5, batch_first=True).double()
    x = torch.randn(*documents.shape, 3, dtype=torch.float64)
    segments = split(documents)
    out = layer(x)[0] if segments is None else segments.run(lambda part: layer(part)[0], x)
    for row, start, stop in documents_of(documents):
        alone = layer(x[row : row + 1, start:stop])[0][0]
        torch.testing.assert_close(out[row, start:stop], alone, rtol=0, atol=1e-12)
    if segments is not None:
        assert not out[documents < 0].any()


@given(rows)
@settings(max_examples=60, deadline=None)
def test_every_token_is_in_one_place_and_at_most_half_of_the_places_are_waste(rows):
    documents = documents_from(rows)
    segments = split(documents)
    if segments is None:
        assert all(start == 0 for _, start, _ in documents_of(documents))
        return
    places = torch.cat([group.at[group.real] for group in segments.groups])
    assert places.sort().values.tolist() == (documents >= 0).flatten().nonzero().squeeze(1).tolist()
    assert sum(group.at.numel() for group in segments.groups) <= 2 * len(places)


def test_rows_of_one_document_need_no_taking_apart_whatever_padding_follows():
    assert split(torch.tensor([[0, 0, 0], [0, -1, -1], [3, 3, -1], [-1, -1, -1]])) is None
    assert split(torch.tensor([[0, 0, 0], [-1, 0, 0]])) is not None
    assert split(torch.tensor([[0, 0, 1]])) is not None


def test_no_gradient_crosses_a_border_and_none_is_lost():
    documents = torch.tensor([[0, 0, 0, 1, 1, -1]])
    layer = nn.LSTM(3, 5, batch_first=True)
    x = torch.randn(1, 6, 3, requires_grad=True)
    out = split(documents).run(lambda part: layer(part)[0], x)
    (grad,) = torch.autograd.grad(out[0, 3:].sum(), x)
    assert grad[0].abs().sum(-1).gt(0).tolist() == [False, False, False, True, True, False]
