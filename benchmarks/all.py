"""Run every benchmark, or only write docs/benchmarks.md from the results that are there (`--write`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from harness import RESULTS, render

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
SCRIPTS = sorted(path for path in HERE.glob("*.py") if path.name not in ("all.py", "harness.py"))

HEAD = """# Benchmarks

Generated from `benchmarks/results/` by `python benchmarks/all.py --write`; do not edit. Every figure is measured beside its peer in
the same run, interleaved, warm, median of several (benchmarks/harness.py).

"""


def page() -> str:
    """The whole document."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    return HEAD + "\n".join(render(result) for result in results)


if __name__ == "__main__":
    if "--write" not in sys.argv:
        for script in SCRIPTS:
            print(f"== {script.name}", flush=True)
            subprocess.run([sys.executable, script], check=True, cwd=HERE.parent)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
