"""What a run keeps of its origin."""

from __future__ import annotations

import sys

import pytest

from picolab.runs.machine import command_line, describe, without_password


def test_a_password_in_the_command_is_not_kept_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "/bin/picolab",
        "sweep",
        "a.yaml",
        "--storage",
        "postgresql://me:se:c@ret@host:5432/x",
        "--prompt",
        "a:b@c d",
    ]
    monkeypatch.setattr(sys, "argv", words)
    shown = "postgresql://me@host:5432/x"
    assert describe()["command"] == [*words[:4], shown, *words[5:]]
    assert command_line() == f"picolab sweep a.yaml --storage {shown} --prompt 'a:b@c d'"


def test_a_password_after_the_question_mark_is_none_to_keep() -> None:
    assert without_password("mysql://me@host/x?password=secret") == "mysql://me@host/x"
    assert without_password("mysql://host/x?password=a@b&charset=utf8") == "mysql://host/x?charset=utf8"
    assert (
        without_password("mysql://host/x?user=me&PASSWD=secret&charset=utf8") == "mysql://host/x?user=me&charset=utf8"
    )


def test_an_address_without_a_password_is_shown_as_it_is() -> None:
    for address in ("sqlite:///a.db", "postgresql://me@host/x", "mysql://host/x", "mysql://host/x?charset=utf8"):
        assert without_password(address) == address
