"""Can a model write several tokens in one pass? Guess them, read them all at once, keep those the model would have picked.

    text so far  .. the cat sat on the mat. the cat        a guess costs nothing: what followed the last time
    draft                                      sat on the
    one pass     the model picks               sat in       -> "sat" is accepted, "in" is the model's own, "on the" is taken back

Leviathan, Kalman and Matias 2023, arXiv:2211.17192; drafts copied from the text itself: Saxena 2023, "Prompt lookup decoding";
from counts of a corpus: He et al. 2023 (REST), arXiv:2311.08252. The paper accepts a guess x that the drafter was sure of with
probability p(x) and otherwise draws from what is left of p. Here the token is drawn from p first, with the random number plain
writing would have used, and the guess is accepted if it is that token: the same probabilities, and with the same seed the same
text. So drafts decide how fast a text is written, never what it says.

One reservation: a pass over several tokens adds its numbers in another order than a pass over one, and in float32 the logits
differ by about one part in a million. A text is the same wherever the model's choice is clearer than that; where two tokens
are level within the noise, either may be picked, as in a batch of another size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from picolab.errors import BadData, BadInput, BadSetting
from picolab.models.contract import LanguageModel
from picolab.models.ngram import count
from picolab.parts.cache import KeyValueCache
from picolab.sample.meter import Meter
from picolab.sample.pick import Sampler
from picolab.sample.reader import Reader
from picolab.sample.rows import Row
from picolab.text.tokenizer import Tokenizer

SHORTEST, LONGEST = 2, 8
"""Tokens of the text's end that must have occurred before, and that are looked for at most."""

ORDER = 5
"""Tokens of the longest sequences counted in a corpus, the guessed one included."""

MOST = 4_000_000
"""Tokens of a corpus that are counted at most: some seconds, some hundred megabytes."""

Keys = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Speculation:
    """How to guess: at most `k` tokens a pass, from the text itself and, where there is one, from a corpus."""

    k: int = 8
    corpus: Continuations | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise BadSetting(f"`speculate` is {self.k}, not a whole number from 1 up", hint="8 tokens a pass is usual")


class Lookup:
    """What followed the text's last tokens the last time they occurred; one text's, read as it grows."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # a sequence -> where the text went on after it

    def read(self, ids: Sequence[int]) -> None:
        """Take note of a text that continues the one read before."""
        for token in ids[len(self._ids) :]:
            # A sequence is known once something has followed it: the text's own end is not found there.
            for length in range(SHORTEST, min(LONGEST, len(self._ids)) + 1):
                self._after[tuple(self._ids[-length:])] = len(self._ids)
            self._ids.append(token)

    def draft(self, most: int) -> tuple[list[int], int]:
        """Up to `most` tokens, and how many of the text's last tokens had occurred before."""
        for length in range(min(LONGEST, len(self._ids)), SHORTEST - 1, -1):
            at = self._after.get(tuple(self._ids[-length:]))
            if at is not None:
                draft: list[int] = []
                for place in range(at, at + most):  # past the end it copies itself: a b a b -> a b a b ..
                    draft.append(self._ids[place] if place < len(self._ids) else draft[place - len(self._ids)])
                return draft, length
        return [], 0


class Continuations:
    """What most often follows each sequence of a corpus: tables of contexts of 1 to `ORDER` - 1 tokens, sorted keys."""

    def __init__(self, contexts: Sequence[Keys], best: Sequence[Keys], vocab_size: int, n_tokens: int) -> None:
        self._contexts, self._best, self._vocab_size = contexts, best, vocab_size
        self.n_tokens = n_tokens

    @classmethod
    def of_texts(
        cls, texts: Iterable[str], tokenizer: Tokenizer, *, vocab_size: int, at_most: int = MOST
    ) -> Continuations:
        """Count texts, about the first `at_most` tokens of them."""
        documents: list[list[int]] = []
        n_tokens, rest = 0, iter(texts)
        while n_tokens < at_most and (some := list(islice(rest, 256))):
            encoded = tokenizer.encode_batch(some)
            documents += encoded
            n_tokens += sum(len(document) for document in encoded)
        opening = tokenizer.opening[-1] if tokenizer.opening else tokenizer.eot
        return cls.of(documents, opening=opening, vocab_size=vocab_size)

    @classmethod
    def of(cls, documents: Iterable[Sequence[int]], *, opening: int, vocab_size: int) -> Continuations:
        """Count documents of token ids; each opens with the token `opening`."""
        texts = [np.asarray([opening, *document], np.int64) for document in documents if len(document)]
        if not texts:
            raise BadData("there is nothing to guess from: the corpus is empty")
        tokens = np.concatenate([text[:-1] for text in texts])
        targets = np.concatenate([text[1:] for text in texts])
        positions = np.concatenate([np.arange(len(text) - 1) for text in texts])
        largest = int(max(tokens.max(), targets.max()))
        if largest >= vocab_size:
            raise BadData(f"token {largest} of the corpus is outside the model's vocabulary of {vocab_size}")
        tables = count(tokens, positions, targets, order=ORDER, vocab_size=vocab_size)[1:]
        best = []
        for table in tables:
            node, word = np.divmod(table.ngrams, vocab_size)
            order = np.lexsort((-table.counts, node))  # stable: of equal counts the lower id
            first = np.unique(node[order], return_index=True)
            following = np.full(len(table.contexts), -1, np.int64)
            following[first[0]] = word[order][first[1]]
            best.append(following)
        return cls([table.contexts for table in tables], best, vocab_size, len(targets))

    def draft(self, ids: Sequence[int], most: int) -> tuple[list[int], int]:
        """Up to `most` tokens, each what most often followed the longest known context, and how long the first one's was."""
        past, draft, known = list(ids[-(ORDER - 1) :]), list[int](), 0
        for _ in range(most):
            token, length = self._next(past)
            if length < SHORTEST:
                break
            known = known or length
            draft.append(token)
            past = [*past[-(ORDER - 2) :], token]
        return draft, known

    def _next(self, past: Sequence[int]) -> tuple[int, int]:
        node, token, length = 0, -1, 0
        for depth, (contexts, best) in enumerate(zip(self._contexts, self._best, strict=True), start=1):
            if depth > len(past):
                break
            key = node * self._vocab_size + past[-depth]
            node = int(np.searchsorted(contexts, key))
            if node == len(contexts) or contexts[node] != key:
                break
            if best[node] >= 0:
                token, length = int(best[node]), depth
        return token, length


def write_with_drafts(
    reader: Reader, row: Row, sampler: Sampler, speculation: Speculation, readable: int, meter: Meter
) -> Iterator[None]:
    """Write one row to its end; yields after every pass."""
    lookup = Lookup()

    def pick(logits: torch.Tensor) -> int:
        history = [row.history] if sampler.repetition_penalty != 1 else None
        token = int(sampler.pick(logits[:, :readable], row.generator, history))
        row.take(token)
        return token

    with meter.reading():
        token = pick(reader.begin([row.prompt_ids])[:, -1])
        meter.tokens_read += len(row.prompt_ids)
    yield
    while row.reason is None:
        with meter.writing():
            ids = [*row.prompt_ids, *row.ids]
            lookup.read(ids)
            # The pass itself picks one more than it was given.
            draft = _draft(lookup, speculation, ids, min(speculation.k, row.left - 1))
            logits = reader.read(torch.tensor([[token, *draft]], device=reader.model.device), last=1 + len(draft))
            accepted = 0
            for at, guess in enumerate([*draft, None]):
                token = pick(logits[:, at])
                meter.tokens_written += 1
                accepted += token == guess
                if row.reason is not None or token != guess:
                    break
            reader.take_back(len(draft) - accepted)
            meter.drafted += len(draft)
            meter.accepted += accepted
        yield


def _draft(lookup: Lookup, speculation: Speculation, ids: Sequence[int], most: int) -> list[int]:
    """The guess that rests on more of the text's last tokens; of equals the text's own."""
    draft, known = lookup.draft(most)
    if speculation.corpus is not None and known < ORDER - 1:
        other, others_known = speculation.corpus.draft(ids, most)
        if others_known > known:
            return other
    return draft


def check_speculation(model: LanguageModel) -> None:
    """Refuse a model that cannot forget what it has read."""
    if not isinstance(model.new_cache(1, 1), KeyValueCache):
        raise BadInput(
            f"`{model.architecture}` cannot take back what it has read, so it cannot try a guess",
            hint="speculation is for models with attention; write without it",
        )
