"""Preference pairs as what a step reads: two responses to one prompt, which of them is better, and what a reference said of both.

    pair        prompt  eot Once upon a time      chosen  there was a cat . eot      rejected  cat . there a was eot
    tokens      eot Once upon a time there was a cat .         one row a response, the better one first
    targets      -   -   -    -  there was a cat . eot         `IGNORE` in the prompt: only the response is counted
    packed      short rows share a longer one's place, so little is computed for padding

`reference` holds ln p(response | prompt) under the frozen model; it never changes, so it is computed once (train/dpo_reference.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from picolab.data.batch import IGNORE, Batch
from picolab.errors import BadSetting

SIDES = ("chosen", "rejected")


@dataclass(frozen=True, slots=True)
class TokenPair:
    """One pair as ids; `kind` says how the rejected side was made."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]
    kind: str

    @property
    def sides(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.chosen, self.rejected

    @property
    def positions(self) -> int:
        """How many tokens the model reads at once, at most: the last one of a response is only predicted."""
        return len(self.prompt) + max(map(len, self.sides)) - 1


@dataclass(frozen=True, slots=True)
class PairBatch:
    """The pairs of a step. `response` counts each response's tokens, `row` what a row holds; `typical` is the mean length of the
    chosen responses of the whole step, which stays the same when the step is cut into parts."""

    tokens: Int64[Tensor, "pairs 2 time"]
    targets: Int64[Tensor, "pairs 2 time"]
    row: Int64[Tensor, "pairs 2"]
    response: Int64[Tensor, "pairs 2"]
    reference: Float[Tensor, "pairs 2"]
    typical: float

    @property
    def height(self) -> int:
        return self.tokens.shape[0]

    @property
    def scored(self) -> int:
        """The mean is over pairs."""
        return self.height

    @property
    def n_tokens(self) -> int:
        """Response tokens, of both sides."""
        return int(self.response.sum())

    def part(self, rows: slice) -> PairBatch:
        return replace(
            self,
            tokens=self.tokens[rows],
            targets=self.targets[rows],
            row=self.row[rows],
            response=self.response[rows],
            reference=self.reference[rows],
        )

    def to(self, device: torch.device | str) -> PairBatch:
        """The same on another device; lengths stay where they are read, on the CPU."""
        return replace(
            self,
            tokens=self.tokens.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            reference=self.reference.to(device, non_blocking=True),
        )


@dataclass(frozen=True, slots=True)
class Packed:
    """The responses of a batch in as few rows as hold them; `owner` numbers the response a scored position belongs to."""

    tokens: Int64[Tensor, "rows time"]
    targets: Int64[Tensor, "rows time"]
    documents: Int64[Tensor, "rows time"] | None
    owner: Int64[Tensor, " scored"]

    def as_batch(self) -> Batch:
        """What a model's `losses` reads."""
        documents = torch.zeros_like(self.tokens) if self.documents is None else self.documents
        return Batch(self.tokens, self.targets, documents)


def batch_of(pairs: Sequence[TokenPair], reference: Float[Tensor, "pairs 2"], *, fill: int) -> PairBatch:
    """Pairs side by side; `fill` stands in padding."""
    if not pairs:
        raise BadSetting("a batch of no pairs", hint="give at least one")
    time = max(pair.positions for pair in pairs)
    tokens = np.full((len(pairs), 2, time), fill, np.int64)
    targets = np.full((len(pairs), 2, time), IGNORE, np.int64)
    for i, pair in enumerate(pairs):
        for side, response in enumerate(pair.sides):
            whole = (*pair.prompt, *response)
            tokens[i, side, : len(whole) - 1] = whole[:-1]
            targets[i, side, len(pair.prompt) - 1 : len(whole) - 1] = response
    response_lengths = torch.tensor([[len(side) for side in pair.sides] for pair in pairs])
    prompts = torch.tensor([[len(pair.prompt)] for pair in pairs])
    return PairBatch(
        torch.from_numpy(tokens),
        torch.from_numpy(targets),
        prompts + response_lengths - 1,
        response_lengths,
        reference,
        float(response_lengths[:, 0].float().mean()),
    )


def pack(batch: PairBatch) -> Packed:
    """Whole responses into rows as long as the longest one, longest first, each into the first row with room.

    Where no two fit into one row, the rows stay as they are: right-padded rows need no mask beside the causal one, since what
    comes after a response cannot reach it.
    """
    lengths = batch.row.flatten().tolist()
    time = max(lengths)
    room: list[int] = []
    held: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fits = next((r for r, left in enumerate(room) if left >= lengths[i]), None)
        if fits is None:
            room.append(time)
            held.append([])
            fits = len(room) - 1
        room[fits] -= lengths[i]
        held[fits].append(i)
    tokens, targets = batch.tokens.flatten(0, 1)[:, :time], batch.targets.flatten(0, 1)[:, :time]
    if len(held) == len(lengths):
        owner = torch.repeat_interleave(torch.arange(len(lengths)), batch.response.flatten()).to(tokens.device)
        return Packed(tokens.contiguous(), targets.contiguous(), None, owner)
    # One gather puts every response in its place: `at` names the token of `tokens` that stands there.
    at = np.zeros((len(held), time), np.int64)
    documents = np.full((len(held), time), -1, np.int64)
    for r, members in enumerate(held):
        begun = 0
        for number, i in enumerate(members):
            here = slice(begun, begun + lengths[i])
            at[r, here] = i * time + np.arange(lengths[i])
            documents[r, here] = number
            begun += lengths[i]
    where, which = torch.from_numpy(at).to(tokens.device), torch.from_numpy(documents).to(tokens.device)
    packed = targets.flatten()[where].masked_fill(which < 0, IGNORE)
    order = torch.tensor([i for members in held for i in members])
    owner = torch.repeat_interleave(order, batch.response.flatten()[order]).to(tokens.device)
    return Packed(tokens.flatten()[where], packed, which, owner)
