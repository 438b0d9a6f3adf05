"""How is a corpus counted? Piece by piece and table by table, on all cores; what was done is kept.

    training ids -> pieces of PIECE tokens (overlapping by a window) -> codes -> sort -> a run on disk       x tables
    all runs of a table -> merge -> the table                                          then counts.json says that it is whole

Only training text is counted: there is no argument for another split. A window never reaches into another document. Interrupted,
the same call goes on with the runs that are there. Of two processes that count the same text, one waits for the other.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from picolab.counts import runs
from picolab.counts.shape import Shape
from picolab.counts.tables import FILE, Source, Tables, describe, open_tables
from picolab.data.cache import home, key_of
from picolab.data.dataset import Dataset
from picolab.data.store import Mixture, TokenStore
from picolab.errors import BadData
from picolab.text.tokenizer import Tokenizer

PIECE = 2**24
"""Tokens counted at once: 134 MB of codes, 300 MB with what sorting and counting need."""

LOCK = ".lock"

Progress = Callable[[int, int], None]
"""Told tokens counted and to be counted, every table's together; the first time what was there already."""


@dataclass(frozen=True, slots=True)
class _Piece:
    store: int
    start: int
    stop: int


def count_corpus(
    dataset: Dataset,
    shapes: Iterable[Shape],
    *,
    folder: Path | None = None,
    threads: int | None = None,
    piece: int = PIECE,
    progress: Progress = lambda done, total: None,
) -> Tables:
    """Count the training text of a dataset; from `folder` (in the cache if not given) what is there already.

    Raises `BadData` for a text shorter than the widest window, `BadSetting` for a vocabulary too large to number;
    a `KeyboardInterrupt` says what is kept.
    """
    source = source_of(dataset)
    wanted = tuple(dict.fromkeys(shapes))
    for shape in wanted:
        shape.check(source.vocab_size)
    stores = _stores(dataset.train)
    widest = max(shape.width for shape in wanted)
    if max(len(store.ids) for store in stores) < widest:
        raise BadData(
            f"`{source.corpus}` has {source.n_tokens} training tokens, fewer than the {widest} a window spans",
            hint="more text, or a smaller order and skip",
        )
    folder = folder or folder_of(source)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / LOCK):
        done = open_tables(folder).check(source).whole if (folder / FILE).exists() else ()
        describe(folder, source, done)  # whose these runs are, before the first one
        left = [shape for shape in wanted if shape.name not in done]
        eot = dataset.tokenizer.eot
        before = sum(len(store.ids) for store in stores) * (len(wanted) - len(left))
        share = 0.0

        def tell(counted: int, total: int) -> None:
            nonlocal share
            share = (before + counted) / max(before + total, 1)
            progress(before + counted, before + total)

        try:
            with closing(_count(folder, stores, left, eot, source.vocab_size, piece, threads, tell)) as counted:
                for shape, total in counted:
                    runs.join(total, folder / shape.name)
                    done = (*done, shape.name)
                    describe(folder, source, done)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(
                f"interrupted with {share:.0%} counted, which is kept in {folder}; the same command goes on"
            ) from error
    return open_tables(folder)


def folder_of(source: Source) -> Path:
    """Where these counts lie if no other folder is named."""
    return home() / "counts" / key_of({"tokens": source.tokens_hash, "tokenizer": source.tokenizer})


def _count(
    folder: Path,
    stores: Sequence[TokenStore],
    shapes: Sequence[Shape],
    eot: int,
    vocab_size: int,
    piece: int,
    threads: int | None,
    progress: Progress,
) -> Generator[tuple[Shape, list[Path]]]:
    """Each table with its runs, as soon as they are all there."""
    pieces = [
        _Piece(number, start, min(start + piece, len(store.ids)))
        for number, store in enumerate(stores)
        for start in range(0, len(store.ids), piece)
    ]
    paths = {shape: [folder / f"{shape.name}.{i:05d}-{piece}" for i in range(len(pieces))] for shape in shapes}
    jobs = [(shape, i) for shape in shapes for i in range(len(pieces))]
    left = [(shape, i) for shape, i in jobs if not runs.exists(paths[shape][i])]
    missing = {shape: sum(one == shape for one, _ in left) for shape in shapes}
    sizes = [one.stop - one.start for one in pieces]
    total = sum(sizes[i] for _, i in jobs)
    done = total - sum(sizes[i] for _, i in left)
    progress(done, total)

    def work(shape: Shape, i: int) -> tuple[Shape, int]:
        where = pieces[i]
        ids = np.asarray(stores[where.store].ids[max(0, where.start - shape.back[0]) : where.stop])
        runs.save(runs.tally(_codes(shape, ids, eot, vocab_size)), paths[shape][i])
        return shape, i

    for shape in shapes:
        if not missing[shape]:
            yield shape, paths[shape]
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:  # NumPy sorts without holding the interpreter
        running: set[Future[tuple[Shape, int]]] = {pool.submit(work, *job) for job in left}
        try:
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for shape, i in (future.result() for future in finished):
                    missing[shape] -= 1
                    done += sizes[i]
                    progress(done, total)
                    if not missing[shape]:
                        yield shape, paths[shape]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _codes(shape: Shape, ids: NDArray[np.integer], eot: int, vocab_size: int) -> NDArray[np.int64]:
    """Codes of the windows that lie in one document: an end-of-text only as their first or last token."""
    codes = shape.codes(ids, vocab_size)
    if not len(codes):
        return codes
    ends = np.flatnonzero(ids == eot)
    inner = shape.back[0] - 1  # tokens strictly inside a window
    if not inner or not len(ends):
        return codes
    inside = np.zeros(
        len(codes) + 1, np.int32
    )  # how many windows begin to hold an end strictly inside, minus how many cease
    np.add.at(inside, np.clip(ends - inner, 0, len(codes)), 1)
    np.add.at(inside, np.clip(ends, 0, len(codes)), -1)
    return codes[np.cumsum(inside[:-1]) == 0]


def source_of(dataset: Dataset) -> Source:
    """Where counts of this dataset come from; `tokens_hash` is of every training token."""
    found = hashlib.blake2b(digest_size=16)
    for store in _stores(dataset.train):
        found.update(b"%d %d" % (store.n_documents, len(store.ids)))
        for start in range(0, len(store.ids), PIECE):
            found.update(np.ascontiguousarray(store.ids[start : start + PIECE]).tobytes())
    return Source(
        corpus=dataset.name,
        split="train",
        tokens_hash=found.hexdigest(),
        tokenizer=dataset.tokenizer.fingerprint,
        vocab_size=dataset.tokenizer.vocab_size,
        n_tokens=dataset.train.n_tokens,
    )


def _stores(part: TokenStore | Mixture) -> tuple[TokenStore, ...]:
    return part.stores if isinstance(part, Mixture) else (part,)


def unigrams(dataset: Dataset) -> NDArray[np.int64]:
    """How often each token is a target in training."""
    vocab_size, total = dataset.tokenizer.vocab_size, np.zeros(dataset.tokenizer.vocab_size, np.int64)
    for store in _stores(dataset.train):
        for start in range(1, len(store.ids), PIECE):
            total += np.bincount(store.ids[start : start + PIECE].astype(np.int64), minlength=vocab_size)
    return total


def spelled(tokenizer: Tokenizer, context: int, order: int) -> list[str]:
    """The words of a context, the oldest first."""
    words = []
    for _ in range(order):
        context, token = divmod(context, tokenizer.vocab_size)
        words.append(tokenizer.token_name(token))
    return words[::-1]
