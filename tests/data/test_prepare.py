from __future__ import annotations

import errno
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from picolab.data import prepare as module
from picolab.data import split as split_by_hash
from picolab.data import text_files
from picolab.data.dataset import Dataset
from picolab.data.numeric import World, parse, rule_of
from picolab.data.numeric_floor import document_floors
from picolab.data.prepare import prepare
from picolab.data.split import Split
from picolab.data.store import Mixture, StoreWriter, TokenStore
from picolab.errors import BadData, UnknownName
from picolab.text.build import build_tokenizer


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PICOLAB_HOME", str(tmp_path / "home"))


def texts(dataset: Dataset, split: str) -> list[str]:
    part = dataset.part(split)
    stores = part.stores if isinstance(part, Mixture) else (part,)
    return [dataset.tokenizer.decode(store.document(i)) for store in stores for i in range(store.n_documents)]


def corpus_file(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"lines:{path}"


@pytest.mark.parametrize("tokenizer", ["bytes", "characters", "bpe-300"])
@pytest.mark.parametrize("compact_vocab", [False, True])
def test_every_document_is_on_one_side_and_reads_as_it_was_written(
    tmp_path: Path, tokenizer: str, compact_vocab: bool
) -> None:
    lines = [f"Line {i}: naïve café, {'x' * (i % 7 + 1)}" for i in range(100)]
    spec = corpus_file(tmp_path / "a.txt", [*lines, *lines[:30]])
    dataset = prepare(spec, tokenizer=tokenizer, compact_vocab=compact_vocab, split=Split(validation=0.1, test=0.2))
    parts = {split: texts(dataset, split) for split in ("train", "validation", "test")}
    assert sorted(text for part in parts.values() for text in part) == sorted([*lines, *lines[:30]])
    assert {split: len(set(part)) for split, part in parts.items()} == {"train": 70, "validation": 10, "test": 20}
    for split, part in parts.items():
        store = dataset.part(split)
        assert store.n_bytes == sum(len(text.encode()) for text in part)
        assert store.n_tokens == sum(len(dataset.tokenizer.encode(text)) + 1 for text in part)
        assert store.ids[0] == store.ids[-1] == dataset.tokenizer.eot
    used = {int(i) for split in parts for i in np.unique(dataset.part(split).ids)}
    if compact_vocab:
        assert used | {dataset.tokenizer.eot, dataset.tokenizer.pad} - {None} == set(
            range(dataset.tokenizer.vocab_size)
        )
    assert max(used) < dataset.tokenizer.vocab_size


def test_a_second_time_nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = corpus_file(tmp_path / "a.txt", [f"line {i}" for i in range(50)])
    first = prepare(spec, tokenizer="bpe-300")
    with monkeypatch.context() as patch:
        patch.setattr(module, "StoreWriter", None)
        again = prepare(spec, tokenizer="bpe-300")
        assert again.train.ids.tolist() == first.train.ids.tolist()
        assert again.tokenizer.fingerprint == first.tokenizer.fingerprint
        for change in (
            {"seed": 1},
            {"tokenizer": "bytes"},
            {"compact_vocab": True},
            {"split": Split(validation=0.5)},
            {"limit_examples": 49},
        ):
            with pytest.raises(TypeError):
                prepare(spec, **{"tokenizer": "bpe-300", **change})
    corpus_file(tmp_path / "a.txt", [f"line {i}" for i in range(49)] + ["line x"])
    assert "line x" in texts(prepare(spec, tokenizer="bpe-300", split=Split(validation=0)), "train")


def test_a_torn_cache_is_built_again(tmp_path: Path) -> None:
    spec = corpus_file(tmp_path / "a.txt", [f"line {i}" for i in range(50)])
    expected = prepare(spec, tokenizer="bytes").train.ids.tolist()
    (torn,) = (tmp_path / "home" / "data").glob("*/0-train.ids")
    torn.write_bytes(torn.read_bytes()[:-2])
    assert prepare(spec, tokenizer="bytes").train.ids.tolist() == expected


def test_two_processes_may_build_the_same_at_once(tmp_path: Path) -> None:
    spec = corpus_file(tmp_path / "a.txt", [f"line {i}" for i in range(3000)])
    code = f"from picolab.data.prepare import prepare; d = prepare({spec!r}, tokenizer='bytes'); print(int(d.train.ids.sum()))"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = {process.communicate(timeout=120)[0] for process in both}
    assert outputs == {f"{int(prepare(spec, tokenizer='bytes').train.ids.sum())}\n"}
    assert all(process.returncode == 0 for process in both)
    assert len(os.listdir(tmp_path / "home" / "data")) == 1


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = corpus_file(tmp_path / "a.txt", ["word " * 20 + str(i) for i in range(20_000)])

    def full(self: StoreWriter) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(StoreWriter, "close", full)
    with pytest.raises(BadData) as error:
        prepare(spec, tokenizer="bytes")
    # 2.1 MB of text, two bytes for the token of each byte, 24 bytes a document
    assert str(error.value).startswith(f"the disk is full: the tokens of `{spec}` need about 4.7 MB in ")
    assert os.listdir(tmp_path / "home" / "data") == []


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every buffer is small enough to be full with the smaller corpus.
    monkeypatch.setattr(module, "AT_ONCE", 2**14)
    monkeypatch.setattr(text_files, "CHUNK", 2**14)
    monkeypatch.setattr(split_by_hash, "CHUNK", 2**10)
    prepare("field_notes", tokenizer="bytes")  # what is loaded on first use is no part of the corpus
    peaks = []
    for n in (4_000, 16_000):
        spec = corpus_file(tmp_path / f"{n}.txt", [f"line {i} of some thirty letters" for i in range(n)])
        tracemalloc.start()
        prepare(spec, tokenizer="bytes")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_the_floor_of_integers_is_that_of_the_documents_kept() -> None:
    dataset = prepare("numeric:documents=2000", split=Split(validation=0.1, test=0.1))
    world = World()
    assert dataset.tokenizer.kind == "integers"
    for split in ("train", "validation", "test"):
        documents = texts(dataset, split)
        expected = document_floors(documents, world).sum() / dataset.part(split).n_tokens
        assert dataset.floor(split) == pytest.approx(expected) and 1 < expected < 1.8
    with pytest.raises(UnknownName, match="no split is called `val`"):
        dataset.floor("val")


def test_integers_are_held_out_by_rule() -> None:
    dataset = prepare("numeric:documents=3000", split=Split(validation=0.2))
    world = World()
    train, validation = (
        {rule for text in texts(dataset, split) if (rule := rule_of(parse(text, world), world))}
        for split in ("train", "validation")
    )
    assert len(validation) > 50 and not train & validation


def test_the_tokenizer_is_trained_on_training_documents_but_knows_every_number(tmp_path: Path) -> None:
    lines = [
        f"{word} {word} {word}" for word in ("apple", "pears", "plums", "grape", "lemon", "melon", "mango", "olive")
    ]
    dataset = prepare(corpus_file(tmp_path / "a.txt", lines), tokenizer="bpe-300", split=Split(validation=0.4))
    words = {split: {text.split()[0] for text in texts(dataset, split)} for split in ("train", "validation")}
    known = {
        dataset.tokenizer.token_bytes(i).decode(errors="replace").strip() for i in range(dataset.tokenizer.vocab_size)
    }
    assert words["train"] <= known and not words["validation"] & known
    numbers = prepare(corpus_file(tmp_path / "b.txt", [f"{i} {i}" for i in range(20)]), tokenizer="integers")
    assert numbers.tokenizer.vocab_size >= 21


def test_a_blend_keeps_its_sources_apart_and_duplicates_together(tmp_path: Path) -> None:
    a = corpus_file(tmp_path / "a.txt", [f"line {i}" for i in range(60)])
    b = corpus_file(tmp_path / "b.txt", [f"line {i}" for i in range(30, 150)])
    dataset = prepare(f"{a}=0.75,{b}=0.25", tokenizer="bytes", split=Split(validation=0.2))
    assert isinstance(dataset.train, Mixture) and dataset.train.weights == (0.75, 0.25)
    assert not set(texts(dataset, "train")) & set(texts(dataset, "validation"))
    assert len(set(texts(dataset, "validation"))) == 30
    summary = dataset.summary(tokens=10_000)
    assert [s.name for s in summary.sources] == [a, b] and summary.tokens == 10_000
    for source, store in zip(summary.sources, dataset.train.stores, strict=True):
        assert source.repeats == pytest.approx(10_000 * source.share_of_tokens / store.n_tokens)
    assert sum(s.share_of_documents for s in summary.sources) == pytest.approx(1)
    assert [s.share_of_tokens for s in summary.sources] == [0.75, 0.25]
    # The same text with other weights is the same data on disk.
    prepare(f"{a}=0.5,{b}=0.5", tokenizer="bytes", split=Split(validation=0.2))
    assert len(os.listdir(tmp_path / "home" / "data")) == 1


def test_a_small_source_of_a_blend_may_have_nothing_to_hold_out(tmp_path: Path) -> None:
    a = corpus_file(tmp_path / "a.txt", [f"line {i}" for i in range(500)])
    b = corpus_file(tmp_path / "b.txt", ["a", "b"])
    dataset = prepare(f"{a}=0.9,{b}=0.1", tokenizer="bytes", split=Split(validation=0.01))
    assert isinstance(dataset.validation, TokenStore) and dataset.validation.n_documents == 5


def test_a_summary_says_what_is_learned() -> None:
    dataset = prepare("field_notes", tokenizer="bytes", split=Split(validation=0.1, test=0.1))
    summary = dataset.summary()
    (source,) = summary.sources
    assert (source.weight, source.share_of_documents, source.repeats) == (1, 1, 1)
    assert [s.name for s in summary.splits] == ["train", "validation", "test"]
    assert summary.splits[0].documents + summary.splits[1].documents + summary.splits[2].documents >= 200
    assert summary.bytes_per_token == pytest.approx(source.bytes / (source.bytes + source.documents))
    assert (summary.tokenizer, summary.held_out, summary.note, summary.splits[1].floor) == ("bytes", True, None, None)


def test_three_sequences_hold_nothing_out_and_say_so() -> None:
    dataset = prepare("3seqs", limit_examples=9)
    assert dataset.validation.ids.tolist() == dataset.train.ids.tolist() == dataset.test.ids.tolist()
    assert dataset.summary().note == "nothing is held out: the validation text is the training text"
    assert dataset.tokenizer.vocab_size >= 1000


def test_a_given_tokenizer_is_used(tmp_path: Path) -> None:
    tokenizer = build_tokenizer("bytes")
    dataset = prepare("field_notes", tokenizer=tokenizer)
    assert dataset.tokenizer.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (" \n\n \n", "has no document in it"),
        ("the same\nthe same\n", "has 1 distinct document: a split into 2 parts leaves nothing to train on"),
    ],
)
def test_a_corpus_of_almost_nothing_is_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(BadData, match=says) as error:
        prepare(f"lines:{tmp_path / 'a.txt'}", tokenizer="bytes")
    assert error.value.hint
    assert not (tmp_path / "home" / "data").exists() or os.listdir(tmp_path / "home" / "data") == []


def test_a_corpus_of_one_token_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(BadData, match="is 1 token long: nothing in it follows anything"):
        prepare(str(tmp_path / "a.txt"), tokenizer="bytes", split=Split(validation=0))


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = corpus_file(tmp_path / "a.txt", [f"line {i}" for i in range(50)])
    find = module.find_cuts

    def find_and_change(*args: object, **settings: object) -> object:
        corpus_file(tmp_path / "a.txt", [f"line {i}" for i in range(51)])
        return find(*args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "find_cuts", find_and_change)
    with pytest.raises(BadData, match="changed while it was read"):
        prepare(spec, tokenizer="bytes")


def test_reading_is_told_from_nothing_to_the_last_byte_and_not_where_nothing_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 64)
    lines = [f"line {i} of this text" for i in range(40)]
    spec, told = corpus_file(tmp_path / "a.txt", lines), []
    prepare(spec, tokenizer="bytes", progress=lambda done, total: told.append((done, total)))
    total = sum(map(len, lines))
    assert told[0] == (0, total) and told[-1] == (total, total) and len(told) > 5
    assert told == sorted(told)
    told.clear()
    prepare(spec, tokenizer="bytes", progress=lambda done, total: told.append((done, total)))
    assert told == []
