"""Running a command line, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from picolab.cli.app import main

SOURCE = str(Path(__file__).parents[2] / "src")


@dataclass
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def picolab(capsys, monkeypatch, tmp_path):
    """Run a command line in this process, in an empty folder: `picolab("ls", "presets")`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PICOLAB_DEBUG", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PICOLAB_HOME", str(tmp_path / "home"))

    def run(*words: str) -> Ran:
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run


@pytest.fixture
def process(tmp_path):
    """Run a command line as a person does, in a process of its own and an empty folder."""

    def run(*words: str, **environment: str) -> Ran:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PICOLAB_")}
        ours = {"PYTHONPATH": SOURCE, "COLUMNS": "80", "OMP_NUM_THREADS": "1", "PICOLAB_HOME": str(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, "-m", "picolab", *words],
            cwd=tmp_path,
            env={**inherited, **ours, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run
