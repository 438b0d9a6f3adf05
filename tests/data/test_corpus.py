from __future__ import annotations

import hashlib
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from picolab.data import stories
from picolab.data.corpus import Blend, Corpus, open_corpus
from picolab.errors import BadData, BadSetting, MissingExtra, PicolabError, UnknownName


def opened(spec: str, **settings: object) -> Corpus:
    corpus = open_corpus(spec, **settings)  # type: ignore[arg-type]
    assert isinstance(corpus, Corpus)
    return corpus


@pytest.mark.parametrize(
    "spec",
    [
        "stories",
        "stories-shipped",
        "stories-generated:7",
        *stories.SHIPPED,
        "numeric:documents=50",
        "numeric:counting+alternating:numbers=30:documents=40",
        "3seqs",
    ],
)
def test_a_named_corpus_can_be_read_again_and_again(spec: str) -> None:
    corpus = opened(spec)
    first = list(corpus)
    assert first and list(corpus) == first == list(opened(spec))
    assert all(document.strip() == document and document for document in first)
    assert corpus.says


def test_generated_text_depends_on_the_seed_and_the_number_asked_for() -> None:
    assert len(list(opened("stories-generated:7"))) == 7
    assert list(opened("stories-generated:7", seed=1)) != list(opened("stories-generated:7"))
    assert list(opened("numeric", seed=1, limit_examples=9)) != list(opened("numeric", limit_examples=9))
    assert len(list(opened("numeric:documents=123"))) == 123


def test_three_sequences_are_the_course_file_to_the_byte() -> None:
    corpus = opened("3seqs")
    written = hashlib.sha256()
    size = 0
    for line in corpus:
        written.update(line.encode() + b"\n")
        size += len(line) + 1
    i = "0"
    for n in range(1, 1000):
        i += f" {n}"
    e, p, power = "0", "1", 1
    for n in range(2, 1000, 2):
        e += f" {n}"
    for _ in range(99):
        power *= 2
        p += f" {power}"
    expected = (
        (i + "\n")
        + (i + "\n" + e + "\n" + p + "\n") * 100
        + (e + "\n" + p + "\n")
        + (i + "\n" + e + "\n" + p + "\n") * 1010
    )
    assert size == 8_304_725
    assert written.hexdigest() == hashlib.sha256(expected.encode()).hexdigest()
    assert not corpus.held_out and "the validation text is the training text" in corpus.says
    assert corpus.floors is not None
    lines = list(corpus)
    counted = Counter(lines)
    np.testing.assert_allclose(corpus.floors(lines).sum(), -sum(n * np.log(n / 3333) for n in counted.values()))


def test_files_and_folders_are_corpora(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "deep" / "b.txt").write_text("three\nmore\n\nfour\n")
    assert list(opened(str(tmp_path / "a.txt"))) == ["one", "two"]
    assert list(opened(str(tmp_path))) == ["one", "two", "three\nmore", "four"]
    assert opened(str(tmp_path)).says == "2 files, documents between blank lines or one document a line"
    assert list(opened(f"lines:{tmp_path}")) == ["one", "two", "three", "more", "four"]
    assert list(opened(f"whole:{tmp_path}")) == ["one\ntwo", "three\nmore\n\nfour"]
    assert list(opened(f"lines:{tmp_path}", limit_examples=3)) == ["one", "two", "three"]
    assert list(opened("input", input_dir=tmp_path, limit_examples=1)) == ["one"]
    assert list(opened("lines:input", input_dir=tmp_path)) == ["one", "two", "three", "more", "four"]


def test_an_input_folder_that_is_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting) as error:
        open_corpus("stories", input_dir=tmp_path)
    assert str(error.value) == f"the input folder `{tmp_path}` is not part of the data `stories`"
    assert error.value.hint == "`input` stands for it: `input`, or `stories=0.5,input=0.5`"
    with pytest.raises(BadData, match="`input` is the folder given with --input-dir, and none is given"):
        open_corpus("input")


def test_a_blend_has_weights_that_sum_to_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    blend = open_corpus(
        "field_notes=3, numeric:counting:numbers=30=0.5,input=0.5", input_dir=tmp_path, limit_examples=5
    )
    assert isinstance(blend, Blend)
    assert [s.name for s in blend.sources] == ["field_notes", "numeric:counting:numbers=30", "input"]
    assert blend.weights == (0.75, 0.125, 0.125)
    assert len(list(blend)) == 11
    assert blend.tokenizer == "bpe-2048"
    numbers = open_corpus("numeric=1,3seqs=1")
    assert numbers.tokenizer == "integers"


def test_a_file_with_a_comma_in_its_name_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a,b=1.txt").write_text("one\n")
    assert list(opened(str(tmp_path / "a,b=1.txt"))) == ["one"]


@pytest.mark.parametrize(
    ("spec", "kind", "says"),
    [
        ("storys", UnknownName, "no file, folder or corpus is called `storys`"),
        ("field_notes:3", UnknownName, "no file, folder or corpus is called `field_notes:3`"),
        ("", BadSetting, "no data is named"),
        ("x" * 300, UnknownName, f"no file, folder or corpus is called `{'x' * 300}`"),
        ("nowhere.txt", BadData, "there is no file or folder `nowhere.txt`"),
        ("a/b", BadData, "there is no file or folder `a/b`"),
        ("lines:nowhere", BadData, "there is no file or folder `nowhere`"),
        ("stories-generated", BadSetting, "`stories-generated` does not say how many stories"),
        ("stories-generated:0", BadSetting, "`stories-generated:0` does not say how many stories"),
        ("numeric:count", UnknownName, "no integer family is called `count`"),
        ("numeric:counting:number=3", UnknownName, "no option of `numeric` is called `number`"),
        ("numeric:counting:numbers", BadSetting, "`numbers` in `numeric:counting:numbers` is not a whole number"),
        ("numeric:documents=0", BadSetting, "`numeric:documents=0` asks for no documents"),
        (
            "stories=1,numeric",
            BadSetting,
            "`numeric` in the blend `stories=1,numeric` is not a name and a positive weight",
        ),
        (
            "stories=1,numeric=-1",
            BadSetting,
            "`numeric=-1` in the blend `stories=1,numeric=-1` is not a name and a positive weight",
        ),
        (
            "stories=nan,numeric=1",
            BadSetting,
            "`stories=nan` in the blend `stories=nan,numeric=1` is not a name and a positive weight",
        ),
        ("stories=1,stories=2", BadSetting, "the blend `stories=1,stories=2` names a source twice"),
    ],
)
def test_a_spec_that_means_nothing_is_refused_with_a_hint(spec: str, kind: type[PicolabError], says: str) -> None:
    with pytest.raises(kind) as error:
        open_corpus(spec)
    assert str(error.value) == says and error.value.hint


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(BadSetting, match="limit_examples 0 leaves nothing"):
        open_corpus("stories", limit_examples=0)


class Hub(ModuleType):
    """A stand-in for the `datasets` package."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__("datasets")
        self.error, self.asked = error, SimpleNamespace(streaming=None)

    def load_dataset(self, name: str, *, split: str, streaming: bool) -> list[dict[str, str]]:
        self.asked = SimpleNamespace(name=name, split=split, streaming=streaming)
        if self.error:
            raise self.error
        return [{"text": " Once upon a time. "}, {"text": ""}, {"text": "The end."}]


def test_tinystories_are_read_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(None)
    monkeypatch.setitem(sys.modules, "datasets", hub)
    corpus = opened("tinystories")
    assert list(corpus) == list(corpus) == ["Once upon a time.", "The end."]
    assert hub.asked == SimpleNamespace(name="roneneldan/TinyStories", split="train", streaming=False)
    assert list(opened("tinystories", limit_examples=1)) == ["Once upon a time."]
    assert hub.asked.streaming


def test_tinystories_without_a_network_or_the_package_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", Hub(ConnectionError("Couldn't reach the Hub\nlong details")))
    with pytest.raises(BadData) as error:
        open_corpus("tinystories")
    assert str(error.value) == "`roneneldan/TinyStories` cannot be had from the hub: Couldn't reach the Hub"
    assert error.value.hint is not None and "`stories`, which needs no network" in error.value.hint
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra) as missing:
        open_corpus("tinystories")
    assert missing.value.hint == "pip install 'picolab[hub]'"
