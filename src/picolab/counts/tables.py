"""Counts on disk with where they come from: which corpus, which tokenizer, which split.

    FOLDER/counts.json     vocabulary, windows, tokens, hashes of corpus and tokenizer, the tables that are whole
    FOLDER/n1-s0.keys      context and target as one number, rising          FOLDER/n1-s0.counts

A table is a sparse matrix: a row for each context that was seen, a column a target.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picolab.counts import runs
from picolab.counts.shape import Shape
from picolab.errors import BadData, UnknownName

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FILE = "counts.json"
FORMAT = 1
DENSE = 2**30
AT_ONCE = 2**22
"""Keys that are looked through together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where counts come from: the training tokens of a corpus, cut by a tokenizer."""

    corpus: str
    split: str
    tokens_hash: str
    tokenizer: str
    vocab_size: int
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Table:
    """How often each context stood before each target: `keys` = context * vocab_size + target, rising."""

    shape: Shape
    vocab_size: int
    keys: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def n_contexts(self) -> int:
        """How many different contexts were seen."""
        found, last = 0, -1
        for start in range(0, len(self.keys), AT_ONCE):
            contexts = np.asarray(self.keys[start : start + AT_ONCE]) // self.vocab_size
            found += int(np.count_nonzero(np.diff(contexts, prepend=last)))
            last = int(contexts[-1])
        return found

    def most_frequent(self, number: int) -> list[tuple[int, int, int]]:
        """Context, target and count of the most frequent, the first key first where counts are equal."""
        best: list[tuple[int, int]] = []
        for start in range(0, len(self.counts), AT_ONCE):
            counts = np.asarray(self.counts[start : start + AT_ONCE])
            order = np.argsort(-counts, kind="stable")[:number]
            best = sorted([*best, *((-int(counts[i]), int(self.keys[start + i])) for i in order)])[:number]
        return [(*divmod(key, self.vocab_size), -count) for count, key in best]

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Context numbers and targets of every key."""
        context, target = np.divmod(self.keys, self.vocab_size)
        return context, target

    def matrix(self) -> csr_matrix:
        """Counts of one-token contexts as `(vocab, vocab)`, float64; O(pairs seen) memory."""
        from scipy.sparse import csr_matrix

        if len(self.shape.back) != 1:
            raise BadData(f"the contexts of `{self.shape.name}` are not single tokens: they have no square matrix")
        context, target = self.pairs()
        rows = np.concatenate([[0], np.cumsum(np.bincount(context, minlength=self.vocab_size))])
        return csr_matrix((self.counts.astype(np.float64), target, rows), shape=(self.vocab_size, self.vocab_size))

    def dense(self) -> NDArray[np.float64]:
        """The same with its zeros; refused where that would be more than `DENSE` bytes."""
        takes = 8 * self.vocab_size**2
        if takes > DENSE:
            raise BadData(
                f"all counts of {self.vocab_size:,} tokens by {self.vocab_size:,} at 8 bytes each are {takes / 1e9:,.1f} GB, "
                f"more than the {DENSE / 1e9:,.1f} GB that one matrix may take",
                hint="characters, or a vocabulary of 10,000 at most; everything else here keeps to the pairs that were seen",
            )
        return self.matrix().toarray()

    def look_up(self, context: int, target: int) -> int:
        """How often; 0 if never."""
        key = context * self.vocab_size + target
        at = int(np.searchsorted(self.keys, key))
        return int(self.counts[at]) if at < len(self.keys) and self.keys[at] == key else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables(Mapping[str, Table]):
    """All tables of a folder, by name; each is mapped when it is asked for."""

    folder: Path
    source: Source
    whole: tuple[str, ...] = field(default_factory=tuple)

    def __getitem__(self, name: str) -> Table:
        shape = Shape.named(name)
        if shape.name not in self.whole:
            raise UnknownName("table of these counts", name, self.whole)
        run = runs.load(self.folder / shape.name)
        return Table(shape, self.source.vocab_size, run.keys, run.counts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole)

    def __len__(self) -> int:
        return len(self.whole)

    def check(self, source: Source) -> Tables:
        """These counts, or `BadData` where they are of another corpus, split or vocabulary."""
        for name, ours, theirs in (
            ("the `{}` split", self.source.split, source.split),
            ("tokens {}", self.source.tokens_hash[:12], source.tokens_hash[:12]),
            ("tokenizer {}", self.source.tokenizer[:12], source.tokenizer[:12]),
            ("a vocabulary of {}", self.source.vocab_size, source.vocab_size),
        ):
            if ours != theirs:
                raise BadData(
                    f"the counts in `{self.folder}` are of {name.format(ours)}, not {name.format(theirs)}",
                    hint="count the corpus that the model learns",
                )
        return self


def describe(folder: Path, source: Source, whole: tuple[str, ...]) -> None:
    """Write counts.json."""
    content: dict[str, Any] = {"format": FORMAT, **asdict(source), "tables": list(whole)}
    draft = folder / (FILE + ".part")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(folder / FILE)


def open_tables(folder: Path) -> Tables:
    """The counts in a folder."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        source = Source(**{name: content[name] for name in Source.__dataclass_fields__})
        if content["format"] != FORMAT:
            raise BadData(f"`{folder}` holds counts of format {content['format']}, not {FORMAT}", hint="count again")
        return Tables(folder=folder, source=source, whole=tuple(content["tables"]))
    except FileNotFoundError as error:
        raise BadData(f"`{folder}` holds no counts", hint="`picolab count SPEC --out FOLDER` makes them") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadData(f"`{folder / FILE}` is torn: {error}", hint="delete the folder and count again") from error
