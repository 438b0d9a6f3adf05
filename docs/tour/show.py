"""Run the notebook again, from its first cell, and keep what it shows: `python docs/tour/show.py`.

tour.ipynb -> a fresh folder, a fresh kernel -> every cell -> the same notebook with its outputs
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent / "tour.ipynb"


def executed(folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of all its cells; an error in one is raised. Runs are left in `folder`."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}, record_timing=False).execute()
    return notebook


if __name__ == "__main__":
    with TemporaryDirectory() as place:
        shown = executed(Path(place))
    nbformat.write(shown, NOTEBOOK)
