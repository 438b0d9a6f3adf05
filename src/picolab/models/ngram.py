"""n-gram counts with Kneser-Ney smoothing: the baseline every table carries. Kneser and Ney 1995; Chen and Goodman 1998.

    p(w | h) = (a(h w) - D) / a(h)  +  gamma(h) * p(w | h without its oldest token)          down to 1 / vocab_size

`a` is a true count where no longer context exists: in the longest n-grams, and at the start of a document. Elsewhere it counts how
many different tokens were seen before the n-gram: "Francisco" is frequent, but hardly ever follows anything but "San".
The discount D is one of three an order, for n-grams counted once, twice or more often ("modified" Kneser-Ney, interpolated).

Contexts are numbered as the nodes of a tree whose branches lead from the newest token to older ones:

    depth 0   (nothing)      node 0                       key of a context    its parent * vocab_size + its oldest token
    depth 1   the            node = rank of its key       key of an n-gram    its context * vocab_size + its last token
    depth 2   of the

so that a table of any order is a sorted array of int64, exact, and many n-grams are looked up in one binary search.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from picolab.errors import BadCheckpoint, BadData, BadInput, BadSetting
from picolab.models.contract import LanguageModel
from picolab.parts.attention import positions_within
from picolab.parts.cross_entropy import IGNORE
from picolab.parts.recent import EMPTY, RecentTokens, recent
from picolab.parts.tap import tap
from picolab.shapes import Documents, Logits, TokenLosses, Tokens

Keys = npt.NDArray[np.int64]
Nodes = Int64[Tensor, " tokens"]

CHUNK_ELEMENTS = 2**22
"""Probabilities held at once where whole distributions are asked for: 32 MB in float64."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`order` counts the tokens of the longest n-gram, the predicted one included: 5 looks four tokens back."""

    vocab_size: int = 50257
    context_length: int = 256
    order: int = 5

    def __post_init__(self) -> None:
        if self.order < 1:
            raise BadSetting(f"order {self.order} is not positive", hint="order 1 ignores the context, 5 is usual")


@runtime_checkable
class Packed(Protocol):
    """What `estimate` reads of a batch."""

    @property
    def tokens(self) -> Tokens: ...
    @property
    def targets(self) -> Tokens: ...
    @property
    def documents(self) -> Documents: ...


class NGram(LanguageModel):
    """The whole model: one table of n-grams a context length. It counts (`estimate`) and has no parameters to train."""

    architecture = "ngram"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.levels = cast("list[Level]", nn.ModuleList(Level(config.vocab_size) for _ in range(config.order)))

    def estimate(self, batches: Iterable[Packed]) -> None:
        """Count the n-grams of these batches, in place of what was counted before; contexts end where documents begin."""
        streams = [_scored_stream(batch.tokens, batch.targets, batch.documents) for batch in batches]
        if not any((targets != IGNORE).any() for _, _, targets in streams):
            raise BadData("there is nothing to count: no position of any batch has a target")
        tokens, positions, targets = (np.concatenate(part) for part in zip(*streams, strict=True))
        self._check(torch.from_numpy(tokens), torch.from_numpy(targets[targets != IGNORE]))
        tables = count(tokens, positions, targets, order=self.config.order, vocab_size=self.config.vocab_size)
        for level, table in zip(self.levels, tables, strict=True):
            level.fill(table)

    def losses(self, tokens: Tokens, targets: Tokens, *, documents: Documents | None = None) -> TokenLosses:
        """-ln p of every target in nats, 0 where it is `IGNORE`; no gradient. A model that counted nothing is uniform."""
        scored = targets != IGNORE
        self._check(tokens, targets[scored])
        context, words = recent(tokens, self.config.order - 1, documents=documents)[scored], targets[scored]
        p = torch.full(words.shape, 1 / self.config.vocab_size, dtype=torch.float64, device=tokens.device)
        for level, node in zip(self.levels, self._nodes(context), strict=True):
            p = level.mix(p, node, words)
        return torch.zeros(targets.shape, device=tokens.device).masked_scatter(scored, -p.log().float())

    def forward(
        self, tokens: Tokens, *, cache: RecentTokens | None = None, documents: Documents | None = None
    ) -> Logits:
        """The log-probability of every word at every position: logits that need no softmax."""
        self._check(tokens, tokens)
        vocab = self.config.vocab_size
        context = recent(tokens, self.config.order - 1, documents=documents, cache=cache).flatten(0, 1)
        logits = torch.empty(context.shape[0], vocab, device=tokens.device)
        for some, out in zip(*(x.split(max(1, CHUNK_ELEMENTS // vocab)) for x in (context, logits)), strict=True):
            p = torch.full((len(some), vocab), 1 / vocab, dtype=torch.float64, device=tokens.device)
            for level, node in zip(self.levels, self._nodes(some), strict=True):
                p = level.mix_all(p, node)
            out.copy_(p.log_())
        return tap(self, "logits", logits.unflatten(0, tokens.shape))

    def features(self, tokens: Tokens, *, cache: Any = None, documents: Documents | None = None) -> NoReturn:
        raise BadInput("an n-gram model has no features: it counts", hint="ask it for logits or losses")

    def new_cache(self, batch_size: int, capacity: int) -> RecentTokens:
        return RecentTokens(batch_size=batch_size, k=self.config.order - 1, capacity=capacity, device=self.device)

    @property
    def device(self) -> torch.device:
        return self.levels[0].ngrams.device

    @property
    def n_counts(self) -> int:
        """How many different n-grams are stored, all orders together."""
        return sum(len(level.ngrams) for level in self.levels)

    def _nodes(self, context: Int64[Tensor, "tokens past"]) -> Iterator[Nodes]:
        """The node of each context of 0, 1, 2 .. tokens; -1 where it was never seen or reaches before the document."""
        node = torch.zeros(len(context), dtype=torch.int64, device=context.device)
        yield node if len(self.levels[0].ngrams) else node - 1
        for level, older in zip(self.levels[1:], context.unbind(1), strict=True):
            node = find(level.contexts, node * self.config.vocab_size + older, (node >= 0) & (older != EMPTY))
            yield node

    def _check(self, *ids: Int64[Tensor, ...]) -> None:
        # A key is node * vocab_size + token: a larger id would be taken for another n-gram.
        largest = max((int(some.max()) for some in ids if some.numel()), default=0)
        if largest >= self.config.vocab_size:
            raise BadData(f"token {largest} is outside a vocabulary of {self.config.vocab_size}")


class Level(nn.Module):
    """All n-grams with a context of one length. Whole numbers only, so that no change of dtype blurs a probability."""

    STORED = ("contexts", "ngrams", "counts")
    contexts: Int64[Tensor, " nodes"]  # sorted keys; empty at depth 0, whose one context needs none
    ngrams: Int64[Tensor, " ngrams"]  # sorted keys
    counts: Int64[Tensor, " ngrams"]
    totals: Int64[Tensor, " nodes"]  # of the counts in each context
    kinds: Int64[Tensor, "nodes 4"]  # how many n-grams of each context were counted 0 (none), 1, 2, 3 or more times

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        for name in (*self.STORED, "totals"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64), persistent=name in self.STORED)
        self.register_buffer("kinds", torch.empty(0, 4, dtype=torch.int64), persistent=False)
        self.discounts = [0.0] * 4
        self.register_load_state_dict_pre_hook(_make_room)
        self.register_load_state_dict_post_hook(_index)

    def fill(self, table: Table) -> None:
        """Take over the counts of a table."""
        for name in self.STORED:
            setattr(self, name, torch.from_numpy(getattr(table, name)).to(self.ngrams.device))
        self.index()

    def index(self) -> None:
        """Work out what follows from the counts: totals, how many n-grams of each kind, discounts."""
        if len(self.ngrams) != len(self.counts):
            raise BadCheckpoint(f"{len(self.counts)} counts for {len(self.ngrams)} n-grams", hint="the file is damaged")
        nodes = len(self.contexts) or min(1, len(self.ngrams))
        node, kind = self.ngrams // self.vocab_size, self.counts.clamp(max=3)
        self.totals = torch.zeros(nodes, dtype=torch.int64, device=node.device).index_add_(0, node, self.counts)
        self.kinds = torch.bincount(node * 4 + kind, minlength=nodes * 4).view(nodes, 4)
        self.discounts = discounts_of(self.counts)

    def mix(self, p: Float64[Tensor, " tokens"], node: Nodes, words: Int64[Tensor, " tokens"]) -> Tensor:
        """The probability of each word in its context, given the one in the context a token shorter."""
        seen, node = node >= 0, node.clamp(min=0)
        if not len(self.totals):
            return p
        at = find(self.ngrams, node * self.vocab_size + words, seen)
        own = torch.where(at >= 0, self._discounted(at.clamp(min=0)), 0.0) / self.totals[node]
        return torch.where(seen, own + self._gamma(node) * p, p)

    def mix_all(self, p: Float64[Tensor, "tokens vocab"], node: Nodes) -> Float64[Tensor, "tokens vocab"]:
        """`mix` for every word of the vocabulary, in place."""
        row = torch.nonzero(node >= 0).squeeze(1)
        if not len(row):
            return p
        node = node[row]
        p[row] *= self._gamma(node)[:, None]
        # The n-grams of a context are neighbours: a range each, laid end to end.
        first = torch.searchsorted(self.ngrams, node * self.vocab_size)
        length = torch.searchsorted(self.ngrams, (node + 1) * self.vocab_size) - first
        which = torch.repeat_interleave(length)
        at = torch.arange(len(which), device=node.device) + (first - length.cumsum(0) + length)[which]
        p[row[which], self.ngrams[at] % self.vocab_size] += self._discounted(at) / self.totals[node[which]]
        return p

    def _discounted(self, at: Int64[Tensor, " some"]) -> Float64[Tensor, " some"]:
        counts = self.counts[at]
        return counts - self._discounts()[counts.clamp(max=3)]

    def _gamma(self, node: Nodes) -> Float64[Tensor, " tokens"]:
        """The share that discounting has freed, for the shorter context to give away."""
        return (self.kinds[node].double() @ self._discounts()) / self.totals[node]

    def _discounts(self) -> Float64[Tensor, 4]:
        return torch.tensor(self.discounts, dtype=torch.float64, device=self.counts.device)


@dataclass(frozen=True, slots=True)
class Table:
    """Sorted keys of the contexts of one length, sorted keys of the n-grams in them, and their counts."""

    contexts: Keys
    ngrams: Keys
    counts: Keys


def count(tokens: Keys, positions: Keys, targets: Keys, *, order: int, vocab_size: int) -> list[Table]:
    """The adjusted counts `a` of every n-gram up to `order`, shortest context first.

    `positions` are the tokens' places in their own documents: the context of token i reaches back `positions[i] + 1` tokens.
    """
    at = np.flatnonzero(targets != IGNORE)
    node = np.zeros(len(at), dtype=np.int64)
    contexts, whole = [np.empty(0, dtype=np.int64)], []
    for depth in range(order):
        if depth:
            longer = positions[at] >= depth - 1
            at, node = at[longer], node[longer]
            keys, node = np.unique(node * vocab_size + tokens[at - depth + 1], return_inverse=True)
            contexts.append(keys)
        # N-grams whose context ends here, at the order or at the document's start: nothing stands to their left.
        ended = np.full(len(at), True) if depth == order - 1 else positions[at] == depth - 1
        whole.append(np.unique(node[ended] * vocab_size + targets[at[ended]], return_counts=True))
    tables = [Table(contexts[-1], *whole[-1])]
    for depth in reversed(range(order - 1)):
        above = tables[0]
        parent, word = above.contexts[above.ngrams // vocab_size] // vocab_size, above.ngrams % vocab_size
        ngrams, lefts = np.unique(parent * vocab_size + word, return_counts=True)
        tables.insert(0, Table(contexts[depth], *_join(ngrams, lefts, *whole[depth])))
    return tables


def discounts_of(counts: Int64[Tensor, " ngrams"]) -> list[float]:
    """What is taken from counts of 0, 1, 2 and 3 or more (Chen and Goodman 1998, equation 26); 0.75 where that is undefined."""
    n1, n2, n3, n4 = torch.bincount(counts.clamp(max=5), minlength=6)[1:5].tolist()
    if n1 and n2 and n3 and n4:
        y = n1 / (n1 + 2 * n2)
        modified = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
        if min(modified) > 0:
            return [0.0, *modified]
    return [0.0, 0.75, 0.75, 0.75]


def find(keys: Int64[Tensor, " keys"], wanted: Int64[Tensor, " some"], valid: Tensor) -> Int64[Tensor, " some"]:
    """Where each wanted key stands among the sorted keys; -1 where it does not, or is not valid."""
    if not len(keys):
        return torch.full_like(wanted, -1)
    at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(valid & (keys[at] == wanted), at, -1)


def _scored_stream(tokens: Tokens, targets: Tokens, documents: Documents) -> tuple[Keys, Keys, Keys]:
    """A batch as one stream without padding: tokens, their positions in their documents, targets."""
    real = documents >= 0
    return tuple(x[real].cpu().numpy() for x in (tokens, positions_within(documents), targets))  # type: ignore[return-value]


def _join(ngrams: Keys, lefts: Keys, starts: Keys, counts: Keys) -> tuple[Keys, Keys]:
    """Adjusted counts of n-grams with something to their left (how many different tokens), with nothing, or both.

    With nothing alone, the true count. With both, which happens where a long document was cut: one different token more.
    """
    keys = np.union1d(ngrams, starts)
    adjusted = np.zeros(len(keys), dtype=np.int64)
    adjusted[np.searchsorted(keys, ngrams)] = lefts
    at = np.searchsorted(keys, starts)
    adjusted[at] = np.where(adjusted[at] > 0, adjusted[at] + 1, counts)
    return keys, adjusted


def _make_room(level: Level, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before loading: tables as large as the ones that come."""
    for name in Level.STORED:
        if prefix + name in state:
            setattr(level, name, torch.empty_like(state[prefix + name], device=level.ngrams.device))


def _index(level: Level, _: Any) -> None:
    level.index()
