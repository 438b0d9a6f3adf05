"""The writers that the guide shows write bundles that are read here: Python and C wherever the tests run, Rust where it is."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from picolab.trace.bundle import read_bundle

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "trace-bundle.md"


def code(language):
    return re.search(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[1]


def check(folder):
    recording = read_bundle(folder / "bundle")
    assert recording.tokens.tolist() == [[5, 17, 200]]
    (entry,) = recording.entries
    assert (entry.site, entry.dims) == ("blocks.0.attention.q_rope", "batch time heads head_dim")
    assert entry.positions == (0, 1, 2) and entry.phase == "prefill"
    assert torch.equal(entry.value, torch.arange(24.0).reshape(1, 3, 2, 4))


def test_the_writer_in_python_writes_a_bundle(tmp_path):
    subprocess.run([sys.executable, "-c", code("python")], cwd=tmp_path, check=True)
    check(tmp_path)


def test_the_writer_in_c_writes_a_bundle(tmp_path):
    (tmp_path / "writer.c").write_text(code("c"), encoding="utf-8")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler, "a C compiler is needed to test what the guide shows"
    subprocess.run([compiler, "-Wall", "-Werror", "-o", "writer", "writer.c"], cwd=tmp_path, check=True)
    (tmp_path / "bundle").mkdir()
    subprocess.run(["./writer"], cwd=tmp_path, check=True)
    check(tmp_path)


@pytest.mark.skipif(shutil.which("rustc") is None, reason="no Rust compiler here; the guide's C and Python are tested")
def test_the_writer_in_rust_writes_a_bundle(tmp_path):
    (tmp_path / "writer.rs").write_text(code("rust"), encoding="utf-8")
    subprocess.run(["rustc", "writer.rs"], cwd=tmp_path, check=True, capture_output=True)
    subprocess.run(["./writer"], cwd=tmp_path, check=True)
    check(tmp_path)
