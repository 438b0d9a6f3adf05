"""Which rows does a step read? A pure function of (seed, step): a resume needs no state, processes need not agree on anything.

    row number g = step * batch_size + i
    one source      epoch = g // rows of an epoch, place = g % rows; every epoch is a new order drawn from (seed, epoch)
    several         g is the n-th row of its source, the sources taking turns so that after any g each is within a row or two of
                    its share; n then counts that source's epochs

The rank r of w processes takes the r-th of w equal slices of the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from picolab.data.batch import IGNORE, Batch
from picolab.data.packing import Ints, Order, Packing
from picolab.data.store import Mixture, TokenStore
from picolab.errors import BadData, BadSetting
from picolab.text.tokenizer import Tokenizer

SHARES = 2**30
"""Weights are rounded to this denominator, so that taking turns is integer arithmetic, exact at any step."""

KEPT = 2
"""Orders of epochs kept in memory, a source: a batch may end one epoch and begin the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """What a number of steps reads of one source; `repeats` says how often each of its documents is read on average."""

    name: str
    rows: int
    documents: float
    tokens: float
    share_of_documents: float
    share_of_tokens: float
    repeats: float


class Loader:
    """Batches of packed documents; `batch_size` rows over all processes together, `context_length` positions each."""

    def __init__(
        self,
        data: TokenStore | Mixture,
        *,
        batch_size: int,
        context_length: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
    ) -> None:
        if min(batch_size, context_length, world_size) < 1 or not 0 <= rank < world_size or seed < 0:
            raise BadSetting(
                f"batch_size {batch_size}, context_length {context_length}, seed {seed}, rank {rank} of {world_size} "
                "cannot be",
                hint="sizes are at least 1, the seed at least 0, ranks 0 .. world_size - 1",
            )
        if batch_size % world_size:
            raise BadSetting(
                f"batch_size {batch_size} is not a multiple of {world_size} processes",
                hint="batch_size counts the rows of all processes together",
            )
        self.batch_size, self.context_length, self.seed, self.shuffle = batch_size, context_length, seed, shuffle
        self.rank, self.world_size = rank, world_size
        mixture = data if isinstance(data, Mixture) else Mixture(stores=(data,), weights=(1.0,))
        for store in mixture.stores:
            if store.n_documents == 0:
                raise BadData(
                    f"`{store.name}` has no document to read", hint="give this part of the split a share above 0"
                )
        self._sources = [_Source(store, context_length, (seed, i)) for i, store in enumerate(mixture.stores)]
        self._turns = Turns(mixture.weights)

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every document of every source has been read at least once."""
        rows = max(self._turns.rows_until(i, source.packing.n_rows) for i, source in enumerate(self._sources))
        return -(-rows // self.batch_size)

    @property
    def padding(self) -> float:
        """The share of positions that hold nothing, in the long run."""
        return sum(w * s.packing.padding for w, s in zip(self._turns.shares, self._sources, strict=True))

    def batch(self, step: int) -> Batch:
        """The rows of one step: always the same for a seed, whatever was read before."""
        if step < 0:
            raise BadSetting(f"step {step} is before the first", hint="steps count from 0")
        here = self.batch_size // self.world_size
        rows = step * self.batch_size + self.rank * here + np.arange(here)
        batch = self._empty(here)
        for i, source in enumerate(self._sources):
            before = self._turns.taken(i, rows)
            mine = np.flatnonzero(self._turns.taken(i, rows + 1) > before)
            if len(mine):
                epoch, place = np.divmod(before[mine], source.packing.n_rows)
                for e in np.unique(epoch).tolist():
                    now = epoch == e
                    source.write(batch, mine[now], place[now], source.order(e if self.shuffle else 0))
        return batch.finish()

    def epoch(self) -> Iterator[Batch]:
        """Every document of every source exactly once, in an order that depends on the seed alone; the last batch may be smaller.

        With several processes each gets its share of the documents, in as many batches of the same size as the others; rows
        of nothing but padding even that out.
        """
        sizes = [source.packing.n_rows for source in self._sources]
        owner = np.repeat(np.arange(len(sizes)), sizes)
        place = _count_up(np.array(sizes))
        # Sources evenly interleaved: whoever reads only the first batches has read some of each.
        even = np.argsort((place + 0.5) / np.array(sizes)[owner], kind="stable")
        for begun in range(0, len(even), self.batch_size):
            rows = even[begun : begun + self.batch_size]
            here = -(-len(rows) // self.world_size)
            rows = rows[self.rank * here : (self.rank + 1) * here]
            batch = self._empty(here)
            for i, source in enumerate(self._sources):
                mine = np.flatnonzero(owner[rows] == i)
                if len(mine):
                    source.write(batch, mine, place[rows[mine]], source.order(0))
            yield batch.finish()

    def drawn(self, steps: int) -> tuple[Drawn, ...]:
        """What the first `steps` steps read of every source: the shares that result, not those that were asked for."""
        rows = [int(self._turns.taken(i, np.array(steps * self.batch_size))) for i in range(len(self._sources))]
        repeats = [n / s.packing.n_rows for n, s in zip(rows, self._sources, strict=True)]
        documents = [r * s.store.n_documents for r, s in zip(repeats, self._sources, strict=True)]
        tokens = [r * s.store.n_tokens for r, s in zip(repeats, self._sources, strict=True)]
        return tuple(
            Drawn(
                name=s.store.name,
                rows=rows[i],
                documents=documents[i],
                tokens=tokens[i],
                repeats=repeats[i],
                share_of_documents=documents[i] / max(sum(documents), 1e-9),
                share_of_tokens=tokens[i] / max(sum(tokens), 1e-9),
            )
            for i, s in enumerate(self._sources)
        )

    def _empty(self, rows: int) -> _Arrays:
        return _Arrays(rows, self.context_length, self._sources[0].store.fill)


def show_batch(batch: Batch, tokenizer: Tokenizer) -> list[str]:
    """Each row as text: every piece ends with what it must predict last, `<end>` or `<cut>`; padding is counted."""
    rows = []
    for tokens, targets, documents in zip(
        batch.tokens.tolist(), batch.targets.tolist(), batch.documents.tolist(), strict=True
    ):
        said = ""
        for document, places in groupby(range(len(tokens)), key=documents.__getitem__):
            at = list(places)
            if document < 0:
                said += f"<padding {len(at)}>"
                continue
            text = [targets[i] for i in at]
            ended = text[-1] == tokenizer.eot
            opened = "" if tokens[at[0]] == tokenizer.eot else "<cut>"
            said += opened + tokenizer.decode(text[: len(text) - ended]) + ("<end>" if ended else "<cut>")
        rows.append(said)
    return rows


class Turns:
    """Sources take turns by weight: of the first g rows the first source has round(g * share), the rest go on the same way.

    Closed form and exact, so the row of a step needs no history.
    """

    def __init__(self, weights: tuple[float, ...]) -> None:
        total = sum(Fraction(w) for w in weights)
        self.shares = tuple(float(Fraction(w) / total) for w in weights)
        rest = [sum(Fraction(w) for w in weights[i:]) for i in range(len(weights))]
        self._of_rest = [max(1, round(Fraction(w) / r * SHARES)) for w, r in zip(weights, rest, strict=True)]

    def taken(self, source: int, rows: Ints) -> Ints:
        """How many of the first `rows` rows are of this source."""
        left = rows
        for i in range(source + 1):
            mine = (left * self._of_rest[i] + SHARES // 2) // SHARES
            left = left - mine
        return mine

    def rows_until(self, source: int, wanted: int) -> int:
        """After how many rows this source has had `wanted` of them."""
        low, high = 0, 1
        while int(self.taken(source, np.array(high))) < wanted:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if int(self.taken(source, np.array(middle))) < wanted:
                low = middle
            else:
                high = middle
        return high


class _Source:
    """One store, its packing and the orders of the epochs in use."""

    def __init__(self, store: TokenStore, context_length: int, seed: tuple[int, int]) -> None:
        self.store, self._seed = store, seed
        self.packing = Packing(store.offsets, context_length)
        self._orders: dict[int, Order] = {}

    def order(self, epoch: int) -> Order:
        if epoch not in self._orders:
            while len(self._orders) >= KEPT:
                self._orders.pop(next(iter(self._orders)))
            self._orders[epoch] = self.packing.order(np.random.default_rng([*self._seed, epoch]))
        return self._orders[epoch]

    def write(self, arrays: _Arrays, into: Ints, places: Ints, order: Order) -> None:
        """Put the rows `places` of an epoch into the rows `into` of a batch."""
        first, counts = order.first[places], order.first[places + 1] - order.first[places]
        within = _count_up(counts)
        piece = np.repeat(first, counts) + within
        lengths = order.lengths[piece]
        ends = np.cumsum(lengths)
        row_ends = ends[np.cumsum(counts) - 1]
        filled = np.diff(row_ends, prepend=0)
        at = np.repeat(into * arrays.context_length, filled) + _count_up(filled)
        source = np.repeat(order.starts[piece], lengths) + _count_up(lengths)
        arrays.tokens[at] = self.store.ids[source]
        arrays.targets[at] = self.store.ids[source + 1]
        arrays.documents[at] = np.repeat(within, lengths)


class _Arrays:
    """A batch of nothing but padding, to be written into."""

    def __init__(self, rows: int, context_length: int, fill: int) -> None:
        self.context_length = context_length
        self.tokens = np.full(rows * context_length, fill, np.int64)
        self.targets = np.full(rows * context_length, IGNORE, np.int64)
        self.documents = np.full(rows * context_length, -1, np.int64)

    def finish(self) -> Batch:
        def tensor(array: NDArray[Any]) -> torch.Tensor:
            return torch.from_numpy(array.reshape(-1, self.context_length))

        return Batch(tensor(self.tokens), tensor(self.targets), tensor(self.documents))


def _count_up(counts: Ints) -> Ints:
    """0 .. n - 1 for each count n, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
