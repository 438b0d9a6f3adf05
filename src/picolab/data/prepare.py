"""From a spec to tokens on disk, in a stream: nothing here grows with the corpus but files.

    documents -> content hash -> is it in the cache?  yes: open it
                                                      no:  rank hashes -> cuts of the split
                                                           training documents -> tokenizer (if it is made from text)
                                                           documents -> ids -> train, validation, test files
                                                           ids in use -> compact vocabulary -> ids renumbered in place

What needs all documents at once, ranking their hashes, sorts a file of 8 bytes a document.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from picolab.data.cache import cached, home, key_of
from picolab.data.corpus import Blend, Corpus, open_corpus
from picolab.data.dataset import Dataset, Store
from picolab.data.split import SPLITS, Cuts, Split, find_cuts
from picolab.data.store import Mixture, StoreWriter, TokenStore, id_type, open_store
from picolab.errors import BadData
from picolab.text.build import build_tokenizer
from picolab.text.compact import compact
from picolab.text.tokenizer import Tokenizer

FORMAT = 1
"""Raise it when the same corpus and settings would give other files."""

AT_ONCE = 2**18
"""Characters that are encoded together."""

AUTO = "auto"
Progress = Callable[[int, int], None]
"""Told how many bytes of text have become tokens, and of how many; never where the dataset lies in the cache."""
_LEARNED = re.compile(r"bpe-\d+|characters|integers")


def prepare(
    spec: str,
    *,
    tokenizer: str | Tokenizer = AUTO,
    compact_vocab: bool = False,
    split: Split | None = None,
    seed: int = 0,
    input_dir: str | Path | None = None,
    limit_examples: int | None = None,
    cache_dir: str | Path | None = None,
    gpt2_dir: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Dataset:
    """The dataset of a spec, from the cache where it has been made before.

    `seed` decides generated text and who is held out: runs that are to be compared share it. `tokenizer` is a tokenizer, its spec,
    or `auto`: integers for integer sequences, a trained BPE for text. Numbers and characters are collected from the whole corpus,
    because an unknown one cannot be spelled; BPE is trained on the training documents alone.
    """
    corpus = open_corpus(spec, input_dir=input_dir, limit_examples=limit_examples, seed=seed)
    job = _Job(corpus=corpus, compact_vocab=compact_vocab, split=split or Split(), seed=seed)
    surveys = [_survey(source) for source in job.sources]
    chosen = corpus.tokenizer if tokenizer == AUTO else tokenizer
    if isinstance(chosen, str) and not _LEARNED.fullmatch(chosen):
        chosen = build_tokenizer(chosen, gpt2_dir=gpt2_dir)
    folder = (
        home(cache_dir)
        / "data"
        / key_of(
            {
                "format": FORMAT,
                "contents": [s.content for s in surveys],
                "seed": seed,
                "compact": compact_vocab,
                "split": [job.split.validation, job.split.test],
                "groups": [s.group is not None for s in job.sources],
                "floors": [s.floors is not None for s in job.sources],
                "held_out": [s.held_out for s in job.sources],
                "tokenizer": f"{chosen} by tokenizers {tokenizers.__version__}"
                if isinstance(chosen, str)
                else chosen.fingerprint,
            }
        )
    )
    build = _Build(job, surveys, chosen, progress)
    contents = cached(folder, build.run, name=spec, needs=build.needs)
    return _open(job, folder, contents)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    corpus: Corpus | Blend
    compact_vocab: bool
    split: Split
    seed: int

    @property
    def sources(self) -> tuple[Corpus, ...]:
        return self.corpus.sources if isinstance(self.corpus, Blend) else (self.corpus,)


@dataclass(frozen=True, slots=True)
class _Survey:
    content: str
    documents: int
    bytes: int


class _Hash:
    """Of documents one after another; where each ends counts too."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.documents = self.bytes = 0

    def add(self, document: bytes) -> None:
        self._hash.update(len(document).to_bytes(8, "big"))
        self._hash.update(document)
        self.documents += 1
        self.bytes += len(document)

    @property
    def survey(self) -> _Survey:
        return _Survey(self._hash.hexdigest(), self.documents, self.bytes)


def _survey(source: Corpus) -> _Survey:
    seen = _Hash()
    for document in source:
        seen.add(document.encode())
    if not seen.documents:
        raise BadData(f"`{source.name}` has no document in it", hint="it is empty, or nothing but white space")
    return seen.survey


class _Build:
    """One dataset being made in a draft folder."""

    def __init__(self, job: _Job, surveys: Sequence[_Survey], tokenizer: str | Tokenizer, progress: Progress) -> None:
        self.job, self.surveys, self.tokenizer, self.progress = job, surveys, tokenizer, progress
        self.bytes = sum(survey.bytes for survey in surveys)
        self.read = self.written = 0

    def needs(self) -> float:
        """Bytes on disk: what has been read tells how many tokens the rest has; before that, four bytes of text a token."""
        tokens = self.bytes * self.written / self.read if self.read else self.bytes / 4
        return 2 * tokens + 24 * sum(survey.documents for survey in self.surveys)

    def run(self, draft: Path) -> Mapping[str, Any]:
        """Write everything into the draft; what is returned, and the files, are all that `_open` needs."""
        self.progress(0, self.bytes)
        scratch = draft / "hashes"
        cuts = find_cuts(self._groups(), self.job.split, self.job.seed, name=self.job.corpus.name, scratch=scratch)
        scratch.unlink()
        tokenizer = self.tokenizer
        if isinstance(tokenizer, str):
            only = "train" if tokenizer.startswith("bpe") else None
            tokenizer = build_tokenizer(tokenizer, lambda: self._documents(cuts, only))
        used = np.zeros(tokenizer.vocab_size, np.bool_)
        sources = [self._write(draft, i, tokenizer, cuts, used) for i in range(len(self.job.sources))]
        n_text = sum(part["tokens"] - part["documents"] for parts in sources for part in parts.values())
        if n_text < 2:
            raise BadData(
                f"`{self.job.corpus.name}` is {n_text} token{'s' * (n_text != 1)} long: nothing in it follows anything",
                hint="give more text",
            )
        stored_size = tokenizer.vocab_size
        if self.job.compact_vocab:
            tokenizer = _compacted(draft, tokenizer, used)
        tokenizer.save(draft / "tokenizer")
        return {"sources": sources, "stored_size": stored_size}

    def _groups(self) -> Iterator[str]:
        for source in self.job.sources:
            if source.held_out:
                yield from source if source.group is None else map(source.group, source)

    def _documents(self, cuts: Cuts, only: str | None) -> Iterator[str]:
        for source in self.job.sources:
            for document in source:
                if only is None or _side(source, cuts, document) == only:
                    yield document

    def _write(
        self, draft: Path, number: int, tokenizer: Tokenizer, cuts: Cuts, used: NDArray[np.bool_]
    ) -> dict[str, Any]:
        source = self.job.sources[number]
        writers: dict[str, StoreWriter] = {}
        seen = _Hash()
        try:
            for name in SPLITS if source.held_out else SPLITS[:1]:
                writers[name] = StoreWriter(
                    draft,
                    f"{number}-{name}",
                    vocab_size=tokenizer.vocab_size,
                    eot=tokenizer.eot,
                    floors=source.floors is not None,
                )
            for documents in _portions(source, AT_ONCE):
                raw = [document.encode() for document in documents]
                for document in raw:
                    seen.add(document)
                ids = tokenizer.encode_batch(documents)
                floors = None if source.floors is None else source.floors(documents)
                sides = np.array([_side(source, cuts, document) for document in documents])
                for name, writer in writers.items():
                    mine = np.flatnonzero(sides == name)
                    begun = writer.n_tokens
                    writer.add(
                        [ids[i] for i in mine], [len(raw[i]) for i in mine], None if floors is None else floors[mine]
                    )
                    self.written += writer.n_tokens - begun
                for row in ids:
                    used[row] = True
                self.read += sum(map(len, raw))
                self.progress(self.read, self.bytes)
            for writer in writers.values():
                writer.close()
        except BaseException:
            for writer in writers.values():
                writer.abandon()
            raise
        if seen.survey != self.surveys[number]:
            raise BadData(f"`{source.name}` changed while it was read", hint="wait until nothing writes to it")
        return {
            name: {"documents": w.n_documents, "tokens": w.n_tokens, "bytes": w.n_bytes} for name, w in writers.items()
        }


def _side(source: Corpus, cuts: Cuts, document: str) -> str:
    if not source.held_out:
        return "train"
    return cuts.side(document if source.group is None else source.group(document))


def _portions(documents: Iterable[str], characters: int) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for document in documents:
        group.append(document)
        size += len(document)
        if size >= characters:
            yield group
            group, size = [], 0
    if group:
        yield group


def _compacted(draft: Path, tokenizer: Tokenizer, used: NDArray[np.bool_]) -> Tokenizer:
    """The tokenizer of the ids in use, and all files of ids renumbered for it."""
    small = compact(tokenizer, np.flatnonzero(used))
    new = np.arange(small.vocab_size)
    renumbered = np.zeros(tokenizer.vocab_size, id_type(tokenizer.vocab_size))
    renumbered[tokenizer.to_compact(small.to_full(new))] = new
    for path in sorted(draft.glob("*.ids")):
        ids = np.memmap(path, renumbered.dtype, mode="r+")
        for begun in range(0, len(ids), AT_ONCE):
            ids[begun : begun + AT_ONCE] = renumbered[ids[begun : begun + AT_ONCE]]
        ids.flush()
    return small


def _open(job: _Job, folder: Path, contents: Mapping[str, Any]) -> Dataset:
    tokenizer = Tokenizer.load(folder / "tokenizer")
    fill = tokenizer.eot if tokenizer.pad is None else tokenizer.pad
    stores: dict[str, list[TokenStore]] = {name: [] for name in SPLITS}
    for number, source in enumerate(job.sources):
        for name in SPLITS:
            kept = name if source.held_out else SPLITS[0]
            stores[name].append(
                open_store(
                    folder,
                    f"{number}-{kept}",
                    name=source.name,
                    vocab_size=contents["stored_size"],
                    fill=fill,
                    floors=source.floors is not None,
                )
            )
    weights = job.corpus.weights if isinstance(job.corpus, Blend) else (1.0,)
    for store in stores["train"]:
        if not store.n_documents:
            raise BadData(
                f"the split leaves no document of `{store.name}` to train on",
                hint="give it more text or a smaller share",
            )
    return Dataset(
        name=job.corpus.name,
        says=tuple(source.says for source in job.sources),
        tokenizer=tokenizer,
        held_out=all(source.held_out for source in job.sources),
        train=_joined(stores["train"], weights),
        validation=_joined(stores["validation"], weights),
        test=_joined(stores["test"], weights),
    )


def _joined(stores: Sequence[TokenStore], weights: Sequence[float]) -> Store:
    """Those that have documents; a small source of a blend may have none to hold out."""
    full = [i for i, store in enumerate(stores) if store.n_documents]
    if len(full) <= 1:
        return stores[full[0] if full else 0]
    return Mixture(stores=tuple(stores[i] for i in full), weights=tuple(weights[i] for i in full))
