"""Counts are those of a loop over the text: at every shape, across pieces and documents, resumed, merged from disk."""

import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from picolab.counts import count, runs
from picolab.counts import tables as tables_module
from picolab.counts.count import count_corpus, source_of, unigrams
from picolab.counts.information import conditional_information, far_and_near
from picolab.counts.shape import Shape
from picolab.counts.tables import FILE, open_tables
from picolab.data.batch import Batch
from picolab.data.prepare import prepare
from picolab.errors import BadData, BadSetting, UnknownName
from picolab.models.ngram import Config, NGram

SHAPES = [Shape.of(n, s) for n in (1, 2, 3) for s in (0, 1, 3, 8)] + [Shape((3, 1)), Shape((5, 2))]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcd "), size=int(n))) for n in generator.integers(1, 40, 60)]
    (folder / "text.txt").write_text("\n\n".join(words), encoding="utf-8")
    return prepare(str(folder), tokenizer="characters", cache_dir=folder / "cache")


def by_hand(dataset, shape):
    """Document by document, window by window."""
    found: Counter[tuple[int, ...]] = Counter()
    store, eot = dataset.train, dataset.tokenizer.eot
    for number in range(store.n_documents):
        stream = [eot, *store.document(number).tolist(), eot]
        for i in range(shape.back[0], len(stream)):
            found[(*(stream[i - b] for b in shape.back), stream[i])] += 1
    return found


def as_counter(table):
    found = {}
    for key, number in zip(table.keys.tolist(), table.counts.tolist(), strict=True):
        tokens = []
        for _ in range(len(table.shape.back) + 1):
            key, token = divmod(key, table.vocab_size)
            tokens.append(token)
        found[tuple(reversed(tokens))] = number
    return found


@pytest.mark.parametrize("piece", [2**24, 97])
def test_every_table_is_that_of_a_loop_over_the_text(dataset, tmp_path, piece):
    tables = count_corpus(dataset, SHAPES, folder=tmp_path, piece=piece)
    assert set(tables) == {shape.name for shape in SHAPES}
    for shape in SHAPES:
        table = tables[shape.name]
        assert as_counter(table) == by_hand(dataset, shape), shape
        assert (np.diff(table.keys) > 0).all()
    files = [path for path in tmp_path.iterdir() if path.name != count.LOCK]
    assert {path.suffix for path in files} == {".json", ".keys", ".counts"}
    assert len(files) == 1 + 2 * len(SHAPES)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_baseline_of_every_table_counts_the_same(dataset, tmp_path, order):
    """The n-gram model keeps another layout, a tree over contexts of any length; its longest n-grams are these numbers."""
    size, eot = dataset.tokenizer.vocab_size, dataset.tokenizer.eot
    model = NGram(Config(vocab_size=size, order=order + 1))
    texts = [[eot, *dataset.train.document(number).tolist(), eot] for number in range(dataset.train.n_documents)]
    model.estimate(
        Batch(
            tokens=torch.tensor([text[:-1]]),
            targets=torch.tensor([text[1:]]),
            documents=torch.zeros(1, len(text) - 1, dtype=torch.int64),
        )
        for text in texts
    )
    table = count_corpus(dataset, [Shape.of(order, 0)], folder=tmp_path)[f"n{order}-s0"]
    level, found = model.levels[-1], {}
    for key, number in zip(level.ngrams.tolist(), level.counts.tolist(), strict=True):
        node, target = divmod(key, size)
        context = []  # the oldest token is the last branch of the tree
        for depth in range(order, 0, -1):
            node, token = divmod(int(model.levels[depth].contexts[node]), size)
            context.append(token)
        found[(*context, target)] = number
    assert found == as_counter(table)


def test_merging_in_many_small_ranges_is_merging(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RANGE", 50)
    tables = count_corpus(dataset, [Shape.of(2, 0)], folder=tmp_path, piece=97)
    assert as_counter(tables["n2-s0"]) == by_hand(dataset, Shape.of(2, 0))


def test_interrupted_it_goes_on_where_it_was(dataset, tmp_path, monkeypatch):
    done, real = [], runs.save

    def dies(run, path):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(path)
        real(run, path)

    monkeypatch.setattr(runs, "save", dies)
    with pytest.raises(KeyboardInterrupt, match="counted, which is kept in .*; the same command goes on"):
        count_corpus(dataset, SHAPES[:3], folder=tmp_path, piece=97, threads=1)
    assert len(done) == 5
    again = []
    monkeypatch.setattr(runs, "save", lambda run, path: (again.append(path), real(run, path)))
    told = []
    tables = count_corpus(dataset, SHAPES[:3], folder=tmp_path, piece=97, progress=lambda *at: told.append(at))
    assert not set(done) & set(again) and told[0][0] == 5 * 97
    assert told[-1][0] == told[-1][1] == 3 * len(dataset.train.ids)
    told.clear()
    count_corpus(dataset, SHAPES[:4], folder=tmp_path, piece=97, progress=lambda *at: told.append(at))
    assert told[0] == (3 * len(dataset.train.ids), 4 * len(dataset.train.ids))
    for shape in SHAPES[:3]:
        assert as_counter(tables[shape.name]) == by_hand(dataset, shape)


def test_the_most_frequent_and_the_number_of_contexts_are_those_of_a_loop(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(tables_module, "AT_ONCE", 7)
    for shape in (Shape.of(1, 0), Shape.of(2, 1)):
        table = count_corpus(dataset, [shape], folder=tmp_path)[shape.name]
        hand = sorted((-number, key) for key, number in zip(table.keys.tolist(), table.counts.tolist(), strict=True))
        expected = [(*divmod(key, table.vocab_size), -number) for number, key in hand[:20]]
        assert table.most_frequent(20) == expected
        assert table.n_contexts == len({key // table.vocab_size for key in table.keys.tolist()})


def test_two_that_count_the_same_text_at_once_wait_for_each_other(dataset, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(count_corpus, dataset, SHAPES[:4], folder=tmp_path, piece=97) for _ in range(4)]
        for tables in [job.result() for job in jobs]:
            assert all(as_counter(tables[shape.name]) == by_hand(dataset, shape) for shape in SHAPES[:4])


def test_what_is_there_is_not_counted_again(dataset, tmp_path, monkeypatch):
    count_corpus(dataset, SHAPES[:2], folder=tmp_path)
    monkeypatch.setattr(count.runs, "tally", None)
    assert set(count_corpus(dataset, SHAPES[:1], folder=tmp_path)) == {shape.name for shape in SHAPES[:2]}


def test_counts_of_another_corpus_are_refused(dataset, tmp_path):
    count_corpus(dataset, SHAPES[:1], folder=tmp_path)
    other = prepare("numeric:counting", tokenizer="characters")
    with pytest.raises(BadData, match="are of tokens .* not tokens"):
        count_corpus(other, SHAPES[:1], folder=tmp_path)
    for change in ({"split": "validation"}, {"vocab_size": 9}, {"tokenizer": "x"}):
        source = source_of(dataset)
        changed = type(source)(**{name: change.get(name, getattr(source, name)) for name in source.__slots__})
        with pytest.raises(BadData, match="are of"):
            open_tables(tmp_path).check(changed)


def test_a_matrix_has_a_row_for_every_token(dataset, tmp_path):
    table = count_corpus(dataset, [Shape.of(1, 1)], folder=tmp_path)["n1-s1"]
    matrix = table.matrix().toarray()
    for (context, target), number in by_hand(dataset, Shape.of(1, 1)).items():
        assert matrix[context, target] == number == table.look_up(context, target)
    assert matrix.sum() == table.total and table.look_up(0, 0) == matrix[0, 0]


def test_targets_are_counted_once_each(dataset):
    hand = Counter()
    for number in range(dataset.train.n_documents):
        hand.update([*dataset.train.document(number).tolist(), dataset.tokenizer.eot])
    assert unigrams(dataset).tolist() == [hand[token] for token in range(dataset.tokenizer.vocab_size)]


def test_information_is_what_a_dependence_has_and_independence_has_not(tmp_path):
    generator = np.random.default_rng(1)
    far, near = generator.integers(0, 2, (2, 60_000))
    for last, expected in ((far ^ near, np.log(2)), (generator.integers(0, 2, 60_000), 0.0), (near, 0.0)):
        keys = runs.tally((far * 2 + near) * 2 + last)
        from picolab.counts.tables import Table

        found = conditional_information(Table(far_and_near(2), 2, *keys))
        assert found == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "back"), [("n1-s0", (1,)), ("n2-s1", (3, 2)), ("n3-s8", (11, 10, 9)), ("3,1", (3, 1))]
)
def test_names_say_the_distances(name, back):
    assert Shape.named(name) == Shape(back) and Shape(back).name == name


@pytest.mark.parametrize("name", ["n0-s0", "n4-s0", "n1-s9", "1,3", "x", "12", "0", "3,3", "n1"])
def test_what_is_no_table_is_refused(name):
    with pytest.raises(BadSetting):
        Shape.named(name)


def test_a_vocabulary_that_64_bits_cannot_number_is_refused():
    Shape.of(3, 0).check(50257)
    with pytest.raises(BadSetting, match="more than 64 bits"):
        Shape.of(3, 0).check(60000)


def test_a_text_shorter_than_a_window_is_refused(tmp_path):
    (tmp_path / "t.txt").write_text("ab\n\ncd\n\nef", encoding="utf-8")
    short = prepare(str(tmp_path / "t.txt"), tokenizer="characters", cache_dir=tmp_path / "cache")
    with pytest.raises(BadData, match="fewer than the 12 a window spans"):
        count_corpus(short, [Shape.of(3, 8)], folder=tmp_path / "c")


def test_torn_counts_are_refused(dataset, tmp_path):
    count_corpus(dataset, SHAPES[:1], folder=tmp_path)
    keys = tmp_path / "n1-s0.keys"
    whole = keys.read_bytes()
    for torn, says in ((whole[:-3], "within a number"), (whole[:-8], "keys and")):
        keys.write_bytes(torn)
        with pytest.raises(BadData, match=says):
            open_tables(tmp_path)["n1-s0"]
    (tmp_path / FILE).write_text("{")
    with pytest.raises(BadData, match="is torn"):
        open_tables(tmp_path)
    with pytest.raises(BadData, match="holds no counts"):
        open_tables(tmp_path / "nothing")
    keys.write_bytes(whole)
    count.describe(tmp_path, source_of(dataset), ("n1-s0",))
    with pytest.raises(UnknownName):
        open_tables(tmp_path)["n1-s1"]


def test_runs_of_every_kind_merge_to_the_sum_of_all(tmp_path):
    generator = np.random.default_rng(2)
    parts = [generator.integers(0, 30, n) for n in (0, 1, 200, 7)]
    for i, part in enumerate(parts):
        runs.save(runs.tally(part.copy()), tmp_path / f"r{i}")
    runs.join([tmp_path / f"r{i}" for i in range(len(parts))], tmp_path / "all")
    expected = Counter(itertools.chain.from_iterable(part.tolist() for part in parts))
    joined = runs.load(tmp_path / "all")
    assert dict(zip(joined.keys.tolist(), joined.counts.tolist(), strict=True)) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.counts", "all.keys"]
