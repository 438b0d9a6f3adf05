from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from picolab.data import text_files as module
from picolab.data.text_files import SEPARATORS, read_documents, seen_division, text_files
from picolab.errors import BadData


def read(path: Path, content: str | bytes, division: str | None = None) -> list[str]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_documents(path, division or seen_division(path)))


@pytest.mark.parametrize(
    ("content", "division", "documents"),
    [
        ("one\ntwo\n", "lines", ["one", "two"]),
        ("one\ntwo\n\n\n", "lines", ["one", "two"]),  # blank lines at the end divide nothing
        ("one\nmore\n \t\ntwo\n", "paragraphs", ["one\nmore", "two"]),
        ("one\r\nmore\r\n\r\ntwo\r\n", "paragraphs", ["one\nmore", "two"]),
        ("one\n\nmore\n<|endoftext|>\ntwo\n<|endoftext|>\n", "endoftext", ["one\n\nmore", "two"]),
        ("\ufeffone é\ntwo", "lines", ["one é", "two"]),
    ],
)
def test_a_file_is_divided_by_the_marks_it_has(
    tmp_path: Path, content: str, division: str, documents: list[str]
) -> None:
    path = tmp_path / "a.txt"
    assert read(path, content) == documents
    assert seen_division(path) == division
    assert read(path, content, "whole") == [content.removeprefix("\ufeff").replace("\r\n", "\n").strip()]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(alphabet="ab é\n<", max_size=40),
    st.integers(0, 30),
    st.sampled_from(sorted(SEPARATORS)),
    st.integers(1, 15),
)
def test_where_a_chunk_ends_changes_nothing(tmp_path: Path, text: str, mark: int, division: str, chunk: int) -> None:
    text = text[:mark] + module.END + text[mark:]
    separator = SEPARATORS[division]
    expected = [part.strip() for part in (separator.split(text) if separator else [text]) if part.strip()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", chunk)
        assert read(tmp_path / "a.txt", text, division) == expected


@pytest.mark.parametrize("chunk", [1, 3, 2**20])
def test_bytes_that_are_no_text_are_named_with_their_place(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    with pytest.raises(BadData) as error:
        read(tmp_path / "a.txt", "é\nfine\n".encode() + b"caf\xe9 au lait", "lines")
    assert str(error.value) == f"`{tmp_path / 'a.txt'}` is not UTF-8 text: byte 0xe9 at offset 11"
    assert error.value.hint is not None and "iconv" in error.value.hint
    with pytest.raises(BadData, match="byte 0xc3 at offset 4"):
        read(tmp_path / "a.txt", b"half\xc3", "whole")


def test_a_folder_is_its_text_files_at_any_depth_in_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/c.md", "empty.txt", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("" if name == "empty.txt" else name)
    assert [p.relative_to(tmp_path).as_posix() for p in text_files(tmp_path)] == ["a/z.txt", "b.txt", "c.txt"]


def test_what_has_no_text_is_refused_by_name(tmp_path: Path) -> None:
    empty, folder, blank = tmp_path / "empty.txt", tmp_path / "folder", tmp_path / "blank"
    empty.touch()
    folder.mkdir()
    blank.mkdir()
    (blank / "a.txt").touch()
    for path, says in (
        (tmp_path / "missing.txt", "there is no file or folder `{}`"),
        (empty, "`{}` is empty"),
        (folder, "the folder `{}` has no *.txt file"),
        (blank, "all 1 *.txt files of `{}` are empty"),
        (Path("/dev/null"), "`{}` is neither a file nor a folder"),
    ):
        with pytest.raises(BadData) as error:
            text_files(path)
        assert str(error.value) == says.format(path) and error.value.hint


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for lines in (100_000, 400_000):
        path = tmp_path / f"{lines}.txt"
        path.write_text("a line of some thirty letters.\n" * lines)
        tracemalloc.start()
        assert sum(1 for _ in read_documents(path, "lines")) == lines
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
