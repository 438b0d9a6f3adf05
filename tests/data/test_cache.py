from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from picolab.data.cache import CONTENTS, LEFT_BEHIND, cached, home, read_contents
from picolab.errors import BadData


class Work:
    """A build that counts how often it was asked for."""

    def __init__(self, error: OSError | None = None) -> None:
        self.times, self.error = 0, error

    def build(self, draft: Path) -> Mapping[str, Any]:
        self.times += 1
        (draft / "deep").mkdir()
        (draft / "deep" / "a").write_text("content")
        if self.error:
            raise self.error
        return {"answer": 42}

    def get(self, folder: Path) -> Mapping[str, Any]:
        return cached(folder, self.build, name="x", needs=lambda: 5e6)


def test_what_is_made_once_is_used_again(tmp_path: Path) -> None:
    work = Work()
    for _ in range(2):
        assert work.get(tmp_path / "data" / "k")["answer"] == 42
    assert work.times == 1
    assert os.listdir(tmp_path / "data") == ["k"]


@pytest.mark.parametrize("tear", ["truncate", "lose", "contents", "foreign"])
def test_a_torn_entry_is_made_again(tmp_path: Path, tear: str) -> None:
    work, folder = Work(), tmp_path / "k"
    work.get(folder)
    if tear == "truncate":
        (folder / "deep" / "a").write_text("conte")
    elif tear == "lose":
        (folder / "deep" / "a").unlink()
    elif tear == "contents":
        (folder / CONTENTS).write_text((folder / CONTENTS).read_text()[:-5])
    else:
        (folder / CONTENTS).write_text(json.dumps([1]))
    assert read_contents(folder) is None
    assert work.get(folder)["answer"] == 42 and work.times == 2
    assert (folder / "deep" / "a").read_text() == "content" and os.listdir(tmp_path) == ["k"]


def test_the_first_of_two_builders_wins(tmp_path: Path) -> None:
    class Slow(Work):
        def build(self, draft: Path) -> Mapping[str, Any]:
            Work().get(tmp_path / "k")
            super().build(draft)
            return {"answer": 43}

    assert Slow().get(tmp_path / "k")["answer"] == 42
    assert os.listdir(tmp_path) == ["k"]


def test_a_full_disk_says_how_much_was_needed_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        BadData, match=r"the disk is full: the tokens of `x` need about 5.0 MB in `.*`, which has .* MB left"
    ):
        Work(OSError(errno.ENOSPC, "No space left on device")).get(tmp_path / "k")
    assert os.listdir(tmp_path) == []
    with pytest.raises(OSError, match="strange"):
        Work(OSError(errno.EIO, "strange")).get(tmp_path / "k")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_is_swept_after_a_day(tmp_path: Path) -> None:
    old, young = tmp_path / ".building-a", tmp_path / ".building-b"
    for draft in (old, young):
        draft.mkdir()
    os.utime(old, (0, time.time() - LEFT_BEHIND - 60))
    Work().get(tmp_path / "k")
    assert sorted(os.listdir(tmp_path)) == [".building-b", "k"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadData) as error:
        Work().get(tmp_path / "file" / "data" / "k")
    assert (
        "nothing can be written into" in str(error.value)
        and error.value.hint == "set PICOLAB_HOME to a folder of yours"
    )


def test_home_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PICOLAB_HOME", str(tmp_path))
    assert home() == tmp_path and home(tmp_path / "b") == tmp_path / "b"
    monkeypatch.delenv("PICOLAB_HOME")
    assert home() == Path.home() / ".cache" / "picolab"
