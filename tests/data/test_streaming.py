"""A corpus larger than one would load: rows are read from the file where they lie, and processes share them out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from picolab.data.loader import Loader
from picolab.data.store import TokenStore, id_type, open_store
from picolab.errors import BadSetting
from picolab.measure.memory import give_back_unused
from picolab.train.distributed import World

MIB = 2**20
DOCUMENTS, LENGTH, VOCAB = 2**17, 256, 2**16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 MB of tokens, in files as `StoreWriter` writes them; every document begins with end-of-text, 0, and counts up."""
    folder = tmp_path_factory.mktemp("store")
    ids = np.add.outer(np.arange(DOCUMENTS, dtype=id_type(VOCAB)) % 200, np.arange(LENGTH, dtype=id_type(VOCAB)))
    ids[:, 0] = 0
    np.append(ids.ravel(), ids[0, :1]).tofile(folder / "train.ids")
    (np.arange(DOCUMENTS + 1, dtype=np.int64) * LENGTH).tofile(folder / "train.offsets")
    np.full(DOCUMENTS, LENGTH - 1, dtype=np.int64).tofile(folder / "train.bytes")
    return folder


def opened(folder: Path) -> TokenStore:
    return open_store(folder, "train", name="large", vocab_size=VOCAB, fill=0, floors=False)


def anonymous_bytes() -> int:
    """Memory that holds what no file holds: pages of a mapped file, which the system may drop at any time, are not in it."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a mapped file's pages from others")
def test_a_token_file_is_read_where_it_lies(folder: Path) -> None:
    assert (folder / "train.ids").stat().st_size > 64 * MIB
    give_back_unused()
    before = anonymous_bytes()
    loader = Loader(opened(folder), batch_size=8, context_length=LENGTH, seed=0)
    for step in range(0, 50, 5):
        assert (loader.batch(step).tokens[:, 0] == 0).all()
    # Numbers a document are made (where it begins, the order of an epoch), no copy of its tokens.
    assert anonymous_bytes() - before < 24 * MIB


def test_processes_read_disjoint_rows_that_together_are_those_of_one(folder: Path) -> None:
    whole = Loader(opened(folder), batch_size=8, context_length=LENGTH, seed=3)
    worlds = [World(rank=rank, size=4, device=torch.device("cpu")) for rank in range(4)]
    starts = []
    for step in (0, 1, 1000):
        batch = whole.batch(step)
        parts = [world.rows(whole.batch(step)) for world in worlds]
        sharded = [
            Loader(opened(folder), batch_size=8, context_length=LENGTH, seed=3, rank=rank, world_size=4).batch(step)
            for rank in range(4)
        ]
        for name in ("tokens", "targets", "documents"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
            assert torch.equal(torch.cat([getattr(part, name) for part in sharded]), getattr(batch, name))
        starts += [tuple(row) for row in batch.tokens[:, :2].tolist()]
    assert len(set(starts)) > 12, "rows of one document each, drawn from everywhere"


def test_rows_that_processes_cannot_share_are_refused(folder: Path) -> None:
    batch = Loader(opened(folder), batch_size=6, context_length=LENGTH, seed=3).batch(0)
    with pytest.raises(BadSetting, match=r"^`training.batch_size` 6 cannot be shared by 4 processes$"):
        World(rank=1, size=4, device=torch.device("cpu")).rows(batch)
