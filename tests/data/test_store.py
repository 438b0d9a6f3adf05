from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from picolab.data.store import Mixture, StoreWriter, TokenStore, id_type, open_store
from picolab.errors import BadData, BadSetting


def write(folder: Path, documents: list[list[int]], vocab_size: int, at_once: int) -> TokenStore:
    writer = StoreWriter(folder, "train", vocab_size=vocab_size, eot=2, floors=True)
    for i in range(0, len(documents), at_once):
        part = documents[i : i + at_once]
        writer.add(part, [3 * len(d) for d in part], np.array([len(d) / 2 for d in part]))
    writer.close()
    return open_store(folder, "train", name="x", vocab_size=vocab_size, fill=2, floors=True)


@pytest.mark.parametrize("at_once", [1, 2, 7])
@pytest.mark.parametrize(("vocab_size", "high"), [(2**16, 65_535), (2**16 + 1, 65_536)])
def test_what_is_written_is_read(tmp_path: Path, at_once: int, vocab_size: int, high: int) -> None:
    documents = [[5, 6, high], [7], [], [8, 9]]
    store = write(tmp_path, documents, vocab_size, at_once)
    assert store.ids.tolist() == [2, 5, 6, high, 2, 7, 2, 2, 8, 9, 2]
    assert [store.document(i).tolist() for i in range(4)] == documents
    assert (store.n_documents, store.n_tokens, store.n_bytes) == (4, 10, 18)
    assert store.floor == pytest.approx(3 / 10)
    assert store.ids.dtype == id_type(vocab_size) and not store.ids.flags.writeable
    assert (tmp_path / "train.ids").stat().st_size == 11 * (2 if vocab_size <= 2**16 else 4)


def test_a_part_without_documents_can_be_opened(tmp_path: Path) -> None:
    store = write(tmp_path, [], 10, 1)
    assert (store.n_documents, store.n_tokens, store.n_bytes, store.floor) == (0, 0, 0, None)


def test_a_store_in_memory_is_like_one_on_disk() -> None:
    store = TokenStore.of([[5, 6], [7]], eot=2)
    assert store.ids.tolist() == [2, 5, 6, 2, 7, 2] and store.n_tokens == 5 and store.fill == 2
    with pytest.raises(BadData, match="`documents` has no document 2"):
        store.document(2)


def test_a_mixture_adds_up_and_argues_about_weights() -> None:
    a, b = TokenStore.of([[5, 6]], eot=2, name="a"), TokenStore.of([[7], [8]], eot=2, name="b")
    both = Mixture(stores=(a, b), weights=(1.0, 2.0))
    assert (both.name, both.n_documents, both.n_tokens, both.n_bytes, both.floor) == ("a,b", 3, 7, 4, None)
    for weights in ((1.0,), (1.0, 0.0), (1.0, float("inf")), (1.0, float("nan"))):
        with pytest.raises(BadSetting):
            Mixture(stores=(a, b), weights=weights)
