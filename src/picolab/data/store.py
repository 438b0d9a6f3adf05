"""How are the tokens of a corpus kept? As the stream a model reads, in a memory-mapped file; nothing is loaded before it is used.

    ids       eot  The  cat  sat  eot  A  dog  ran  eot        inputs of document i: offsets[i] .. offsets[i+1]
    offsets   0                   4                 8          its targets: the same range one further, ending with the next eot

So a document of n tokens has n + 1 scored positions, and `n_tokens` counts scored positions. Beside the ids: bytes of text a
document, for bits per byte, and where the rule of the data is known the least nats that any model can reach on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from picolab.errors import BadData, BadSetting

SMALL, LARGE = np.dtype(np.uint16), np.dtype(np.uint32)
_COLUMNS = {"offsets": np.dtype(np.int64), "bytes": np.dtype(np.int64), "floors": np.dtype(np.float64)}


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenStore:
    """Documents as token ids. `fill` is the id that stands in padding; `floors` the least nats a document, if known."""

    name: str
    ids: NDArray[Any]
    offsets: NDArray[np.int64]
    bytes: NDArray[np.int64]
    fill: int
    floors: NDArray[np.float64] | None = None

    @property
    def n_documents(self) -> int:
        return len(self.bytes)

    @property
    def n_tokens(self) -> int:
        """Scored positions: every token of every text and one end-of-text a document."""
        return int(self.offsets[-1])

    @property
    def n_bytes(self) -> int:
        return int(self.bytes.sum())

    @property
    def floor(self) -> float | None:
        """The least nats a token that any model can reach on these documents on average, where the rule is known."""
        return None if self.floors is None or self.n_tokens == 0 else float(self.floors.sum()) / self.n_tokens

    def document(self, i: int) -> NDArray[Any]:
        """The ids of one text, without the end-of-text tokens around it."""
        if not 0 <= i < self.n_documents:
            raise BadData(f"`{self.name}` has no document {i}", hint=f"it has documents 0 .. {self.n_documents - 1}")
        return self.ids[self.offsets[i] + 1 : self.offsets[i + 1]]

    def first(self, n: int) -> TokenStore:
        """The first `n` documents of this store."""
        if not 1 <= n <= self.n_documents:
            raise BadData(
                f"{n} training documents are asked for, and `{self.name}` has {self.n_documents}",
                hint="fewer, or leave `train_examples` out to learn all of them",
            )
        return replace(
            self,
            ids=self.ids[: self.offsets[n] + 1],
            offsets=self.offsets[: n + 1],
            bytes=self.bytes[:n],
            floors=None if self.floors is None else self.floors[:n],
        )

    @classmethod
    def of(
        cls, documents: Iterable[Sequence[int]], *, eot: int, fill: int | None = None, name: str = "documents"
    ) -> TokenStore:
        """A store in memory from lists of ids; a token counts as one byte of text."""
        parts = [np.asarray(d, np.int64) for d in documents]
        ids = np.concatenate([np.concatenate([[eot], part]) for part in parts] + [np.array([eot])])
        return cls(
            name=name,
            ids=ids.astype(LARGE),
            offsets=np.cumsum([0] + [len(part) + 1 for part in parts]),
            bytes=np.array([len(part) for part in parts], np.int64),
            fill=eot if fill is None else fill,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Several stores read side by side: a share `weights[i]` of all rows comes from `stores[i]`."""

    stores: tuple[TokenStore, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if (
            len(self.stores) != len(self.weights)
            or not self.stores
            or not all(0 < w < float("inf") for w in self.weights)
        ):
            raise BadSetting(
                f"weights {self.weights} do not fit {len(self.stores)} sources", hint="one positive weight a source"
            )

    @property
    def name(self) -> str:
        return ",".join(store.name for store in self.stores)

    @property
    def n_documents(self) -> int:
        return sum(store.n_documents for store in self.stores)

    @property
    def n_tokens(self) -> int:
        return sum(store.n_tokens for store in self.stores)

    @property
    def n_bytes(self) -> int:
        return sum(store.n_bytes for store in self.stores)

    @property
    def floor(self) -> float | None:
        """None: a model must also find out which source a document is of, and that has no closed form here."""
        return None


class StoreWriter:
    """Writes one store document by document; what it holds in memory does not grow."""

    def __init__(self, folder: Path, split: str, *, vocab_size: int, eot: int, floors: bool) -> None:
        self.dtype = id_type(vocab_size)
        self.eot, self.n_tokens, self.n_bytes, self.n_documents = eot, 0, 0, 0
        columns = ["ids", "offsets", "bytes", *(["floors"] if floors else [])]
        self._files: dict[str, IO[bytes]] = {}
        try:
            for column in columns:
                self._files[column] = (folder / f"{split}.{column}").open("wb")
            self._files["offsets"].write(np.zeros(1, np.int64).tobytes())
        except BaseException:
            self.abandon()
            raise

    def add(
        self, documents: Sequence[Sequence[int]], n_bytes: Sequence[int], floors: NDArray[np.float64] | None
    ) -> None:
        lengths = np.fromiter(map(len, documents), np.int64, len(documents)) + 1
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        ids = np.empty(total, self.dtype)
        is_text = np.ones(total, np.bool_)
        is_text[ends - lengths] = False
        ids[~is_text] = self.eot
        ids[is_text] = np.fromiter((i for d in documents for i in d), np.int64, total - len(documents))
        self._files["ids"].write(ids.tobytes())
        self._files["offsets"].write((ends + self.n_tokens).tobytes())
        self._files["bytes"].write(np.asarray(n_bytes, np.int64).tobytes())
        if floors is not None:
            self._files["floors"].write(floors.tobytes())
        self.n_tokens += total
        self.n_documents += len(documents)
        self.n_bytes += sum(n_bytes)

    def close(self) -> None:
        """Write the last end-of-text and make sure of the disk."""
        self._files["ids"].write(np.array([self.eot], self.dtype).tobytes())
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()

    def abandon(self) -> None:
        """Let go of the files; a full disk may refuse even that."""
        for file in self._files.values():
            try:
                file.close()
            except OSError:
                # The error that led here is the one worth reporting; the folder is deleted next.
                continue


def id_type(vocab_size: int) -> np.dtype[Any]:
    """Two bytes an id where they suffice."""
    return SMALL if vocab_size <= 2**16 else LARGE


def open_store(folder: Path, split: str, *, name: str, vocab_size: int, fill: int, floors: bool) -> TokenStore:
    """A store that `StoreWriter` wrote."""
    columns = {c: _map(folder / f"{split}.{c}", t) for c, t in _COLUMNS.items() if c != "floors" or floors}
    return TokenStore(name=name, ids=_map(folder / f"{split}.ids", id_type(vocab_size)), fill=fill, **columns)


def _map(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    # A plain array over the mapping: slices of `np.memmap` itself cost ten times as much.
    return np.asarray(np.memmap(path, dtype, mode="r"))
