"""What does a model read while it is looked at? Texts of its data, in groups where the data has kinds.

    numeric           a group a family: counting, arithmetic, ...      random-walk is what no rule explains
    a=0.5,b=0.5       a group a source
    anything else     one group

Every text is its tokens with the opening token before them, cut to what the model can read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from picolab.data.corpus import Blend, Corpus, open_corpus
from picolab.data.numeric import FAMILIES, WALK
from picolab.errors import BadData, BadInput
from picolab.models.contract import LanguageModel
from picolab.parts.cross_entropy import IGNORE
from picolab.text.tokenizer import Tokenizer

AT_ONCE = 16
"""Texts in a batch."""

LOOKED_THROUGH = 4000
"""Documents of a corpus among which texts are drawn."""

TEXTS = 48
"""Texts of a group."""

LONGEST = 64
"""Tokens of a text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Texts:
    """`ids[i]` are the tokens of a text, `group[i]` says which of `names` it is of."""

    ids: tuple[tuple[int, ...], ...]
    group: tuple[int, ...]
    names: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, name: str) -> Texts:
        """The texts of one group."""
        at = self.names.index(name)
        ids = tuple(ids for ids, group in zip(self.ids, self.group, strict=True) if group == at)
        return Texts(ids=ids, group=(0,) * len(ids), names=(name,), source=f"{name} of {self.source}")

    @property
    def longest(self) -> int:
        return max(len(ids) for ids in self.ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class Padded:
    """Some texts side by side: `real` is True where a token is one, `rows` are their places among all texts."""

    tokens: Tensor
    real: Tensor
    rows: tuple[int, ...]

    @property
    def targets(self) -> Tensor:
        """What follows every token; `IGNORE` at the end of a text."""
        later = torch.full_like(self.tokens, IGNORE)
        later[:, :-1] = torch.where(self.real[:, 1:], self.tokens[:, 1:], IGNORE)
        return later


def batches(ids: Sequence[Sequence[int]], *, at_once: int = AT_ONCE) -> Iterator[Padded]:
    """Texts of like length side by side, padded at the end, where no earlier token sees it."""
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    for start in range(0, len(order), at_once):
        rows = order[start : start + at_once]
        time = max(len(ids[row]) for row in rows)
        tokens = torch.zeros(len(rows), time, dtype=torch.int64)
        real = torch.zeros(len(rows), time, dtype=torch.bool)
        for at, row in enumerate(rows):
            tokens[at, : len(ids[row])] = torch.tensor(ids[row])
            real[at, : len(ids[row])] = True
        yield Padded(tokens=tokens, real=real, rows=tuple(rows))


def texts_of(
    spec: str,
    model: LanguageModel,
    tokenizer: Tokenizer,
    *,
    input_dir: str | None = None,
    each: int = TEXTS,
    longest: int = LONGEST,
    seed: int = 0,
) -> Texts:
    """Up to `each` different texts of every group of a corpus, drawn from its first documents."""
    corpus = open_corpus(spec, input_dir=input_dir, seed=seed)
    gathered: dict[str, list[str]] = {}
    for source in corpus.sources if isinstance(corpus, Blend) else (corpus,):
        kind = _kind(source, blended=isinstance(corpus, Blend))
        # One text counts once: as two it would make chance look smaller than it is.
        for document in dict.fromkeys(islice(source.documents(), LOOKED_THROUGH)):
            gathered.setdefault(kind(document), []).append(document)
    rng = np.random.default_rng(seed)
    longest = min(longest, model.config.context_length)
    ids, group, names = [], [], sorted(gathered, key=_as_listed)
    for at, name in enumerate(names):
        documents = gathered[name]
        chosen = sorted(rng.choice(len(documents), size=min(each, len(documents)), replace=False).tolist())
        for row in encoded((documents[i] for i in chosen), tokenizer, longest):
            ids.append(row)
            group.append(at)
    if not ids:
        raise BadData(f"`{spec}` holds no text of two tokens", hint="give longer texts")
    return Texts(ids=tuple(ids), group=tuple(group), names=tuple(names), source=spec)


def encoded(documents: Iterable[str], tokenizer: Tokenizer, longest: int) -> Iterator[tuple[int, ...]]:
    """The opening token and the first of a text's own; texts without two tokens are left out."""
    for document in documents:
        row = (*tokenizer.opening, *tokenizer.encode(document))[:longest]
        if len(row) >= 2:
            yield row


def check_tokens(ids: Sequence[int], model: LanguageModel) -> None:
    """Refuse tokens that the model cannot read."""
    vocab_size, context = model.config.vocab_size, model.config.context_length
    if len(ids) < 2:
        raise BadInput(f"{len(ids)} token is too few to look at", hint="give a text of two tokens or more")
    if len(ids) > context:
        raise BadInput(f"{len(ids)} tokens are more than the model's context of {context}", hint="shorten the text")
    if not 0 <= min(ids) <= max(ids) < vocab_size:
        wrong = next(i for i in ids if not 0 <= i < vocab_size)
        raise BadInput(f"token {wrong} is outside the vocabulary of {vocab_size}", hint="ids count from 0")


@contextmanager
def at_rest(model: LanguageModel) -> Iterator[None]:
    """While open, the model neither trains nor drops anything out."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _kind(source: Corpus, *, blended: bool) -> Callable[[str], str]:
    """How a document of a corpus is called: its family where rules explain it, else its source."""
    grouped = source.group
    if grouped is None or blended:
        return lambda document: source.name

    def family(document: str) -> str:
        first = grouped(document).split(" ")[0]
        return first if first in FAMILIES else WALK

    return family


def _as_listed(name: str) -> tuple[int, str]:
    """Families in their own order, then the others by name."""
    families = [*FAMILIES]
    return (families.index(name) if name in families else len(families), name)
