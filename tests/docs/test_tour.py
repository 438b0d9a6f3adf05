"""The notebook runs from its first cell to its last, and shows what it promises."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SHOW = Path(__file__).parents[2] / "docs" / "tour" / "show.py"


# Jupyter opens sockets that its garbage collection closes.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_cell_of_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "work").mkdir()
    notebook = runpy.run_path(str(SHOW))["executed"](tmp_path / "work")
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    told = " ".join("".join(output.get("text", "") for cell in cells for output in cell.outputs).split())
    assert "\x1b" not in told
    assert "linear-pico fails counting" in told
    assert "lr matters most" in told
    assert "healthy: 7 laws hold" in told
    assert "scale-wrong: scores are 0.707107 times the reference's, which is sqrt(head_dim/d_model)" in told
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs) == 5
    assert all(cell.outputs for cell in cells[1:])
