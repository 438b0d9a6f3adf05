"""Are the outputs of these pages and of the guides real? `python docs/findings/show.py` runs them and writes what they print.

`--check` compares and writes nothing; names (`rope-theta causality`) choose pages. How a page is run is that of the lessons
(docs/learn/show.py), each page in a folder of its own, in which `docs` is this one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent
GUIDES = [DOCS / "guides" / f"{name}.md" for name in ("case-study-babbling-engine", "counted-attention", "scale")]


def every_page() -> list[Path]:
    return [*sorted(HERE.glob("*.md")), *GUIDES]


def regenerated(page: Path) -> str:
    """A page with what its commands print now."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        Path("docs").symlink_to(DOCS)
        text: str = _lessons().page(page.read_text(encoding="utf-8"))
        return text


def _lessons() -> Any:
    spec = importlib.util.spec_from_file_location("show_lessons", DOCS / "learn" / "show.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(names: Sequence[str], *, check: bool) -> int:
    """Write or check; the exit code."""
    os.environ["NO_COLOR"] = "1"
    stale = []
    for path in every_page():
        if names and path.stem not in names:
            continue
        before, after = path.read_text(encoding="utf-8"), regenerated(path)
        if after != before:
            stale.append(path.stem)
            if not check:
                path.write_text(after, encoding="utf-8")
    if stale:
        print(("out of step: " if check else "written: ") + ", ".join(stale))
    return 1 if stale and check else 0


if __name__ == "__main__":
    asked = sys.argv[1:]
    sys.exit(main([name for name in asked if name != "--check"], check="--check" in asked))
