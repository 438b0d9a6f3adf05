"""Numbers and texts as they are printed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picolab.cli import console


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (99.4, "99 s"), (100, "1 min 40 s"), (200, "3 min 20 s"),
        (7199, "119 min 59 s"), (7200, "2 h 0 min"), (9999, "2 h 46 min"), (math.inf, "unknown"), (math.nan, "unknown"),
    ],
)  # fmt: skip
def test_seconds_as_people_say_them(seconds, said):
    assert console.duration(seconds) == said


@pytest.mark.parametrize(
    ("n_bytes", "said"),
    [
        (0, "0 B"), (512, "512 B"), (999, "999 B"), (1000, "1.0 kB"), (1500, "1.5 kB"), (99_940, "99.9 kB"),
        (340e6, "340 MB"), (999.9e6, "1.0 GB"), (1.07e9, "1.1 GB"), (5e12, "5000 GB"),
    ],
)  # fmt: skip
def test_bytes_as_people_say_them(n_bytes, said):
    assert console.size(n_bytes) == said


def test_json_holds_plain_data_only(capsys):
    @dataclass
    class Thing:
        where: Path
        loss: float
        names: tuple[str, ...]

    console.emit({"thing": Thing(Path("a/b"), math.nan, ("x", "y")), 3: {1}})
    assert json.loads(capsys.readouterr().out) == {
        "thing": {"where": "a/b", "loss": None, "names": ["x", "y"]},
        "3": [1],
    }


@given(text=st.text())
def test_what_a_model_wrote_cannot_steer_a_terminal(text):
    shown = console.quoted(text).plain
    assert len(shown) == len(text)
    assert all(letter.isprintable() or letter == "\n" for letter in shown)
    assert all(a == b for a, b in zip(text, shown, strict=True) if a.isprintable() or a == "\n")


def test_lines_of_a_table_end_where_their_words_do(capsys):
    console.show(console.table("t", ["a", "b"], [["1", "[bold]"], ["1234", ""]], right=["a"]))
    assert capsys.readouterr().out.splitlines() == ["t", "   a  b", "   1  [bold]", "1234"]
