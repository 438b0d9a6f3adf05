"""Files that take long begin first, and those that are named are there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from longest import LONGEST, begin_with_the_longest


def test_files_that_are_named_are_there_once():
    assert len(set(LONGEST)) == len(LONGEST) > 20
    assert [name for name in LONGEST if not (Path(__file__).parent / name).is_file()] == []


def test_the_longest_begin_first_and_a_files_tests_stay_in_their_order():
    ids = [
        "tests/a.py::one",
        f"tests/{LONGEST[1]}::b[x/y.py]",
        f"tests/{LONGEST[1]}::a",
        f"tests/{LONGEST[0]}::z",
        "tests/0.py::two",
    ]
    items = [SimpleNamespace(nodeid=name) for name in ids]
    begin_with_the_longest(items)
    assert [item.nodeid for item in items] == [ids[3], ids[1], ids[2], ids[0], ids[4]]


def test_make_keeps_that_order():
    assert "--dist loadfile --no-loadscope-reorder" in (Path(__file__).parents[1] / "Makefile").read_text()
