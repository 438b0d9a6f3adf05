"""Write the generated parts of the documents: `python docs/generate.py`; with `--check`, fail if one is out of step.

<!-- generated: NAME -->  ... replaced by what the function NAME returns ...  <!-- end -->
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "picolab"
PAGES = [
    "README.md",
    "DESIGN.md",
    "CONTRIBUTING.md",
    *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md"))),
]
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tree() -> str:
    """The package, folder by folder, each with the first line of its docstring."""
    lines = ["src/picolab/"]
    for path in sorted(PACKAGE.iterdir(), key=lambda p: (p.is_dir(), p.name)):
        if path.is_dir() and (path / "__init__.py").exists():
            files = sorted(p.stem for p in path.glob("*.py") if p.stem != "__init__")
            files += sorted(f"{p.parent.name}/" for p in path.glob("*/__init__.py"))
            lines.append(f"  {path.name + '/':14} {_says(path / '__init__.py')}")
            lines += _wrap(files)
        elif path.suffix == ".py" and not path.name.startswith("__"):
            lines.append(f"  {path.name:14} {_says(path)}")
    return "```\n" + "\n".join(lines) + "\n```\n"


def layers() -> str:
    """The layers that the import linter enforces."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    rows = [re.sub(r"\((\w+)\)", r"\1", row) for row in contract["layers"]]
    return "```\n" + "\n".join(rows) + "\n```\n"


def presets() -> str:
    """Every preset with its architecture and what it says of itself."""
    from picolab.zoo import PRESETS

    rows = [f"| `{name}` | {preset.architecture} | {preset.says} |" for name, preset in PRESETS.items()]
    return "| preset | architecture | |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def verbs() -> str:
    """The verbs of the command line, with the first line of their help."""
    shown = subprocess.run(
        [sys.executable, "-m", "picolab", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "80", **_env()},
    ).stdout
    return "```\n" + "\n".join(line.rstrip() for line in shown.strip().splitlines()) + "\n```\n"


GENERATORS = {f.__name__: f for f in (tree, layers, presets, verbs)}


def main() -> int:
    """Write or check every page; the exit code."""
    stale = []
    for name in PAGES:
        path = ROOT / name
        if not path.exists():
            continue
        before = path.read_text(encoding="utf-8")
        after = BLOCK.sub(lambda m: m[1] + GENERATORS[m[2]]() + m[3], before)
        if name == "docs/benchmarks.md":
            sys.path.insert(0, str(ROOT / "benchmarks"))
            from all import page

            after = page()
        if after != before:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(after, encoding="utf-8")
    stale += _findings(check="--check" in sys.argv)
    if stale:
        print(("out of step: " if "--check" in sys.argv else "written: ") + ", ".join(stale))
    return 1 if stale and "--check" in sys.argv else 0


def _findings(*, check: bool) -> list[str]:
    """The pages of laws and causes that are out of step, or belong to none; written again or removed unless only checked."""
    sys.path.insert(0, str(ROOT / "docs" / "findings"))
    from generate_findings import pages

    made = pages()
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "findings").glob("*.md")}
    stale = [
        name for name, text in made.items() if name not in there or (ROOT / name).read_text(encoding="utf-8") != text
    ]
    left = sorted(there - set(made))
    if not check:
        for name in stale:
            (ROOT / name).write_text(made[name], encoding="utf-8")
        for name in left:
            (ROOT / name).unlink()
    return [*stale, *left]


def _says(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0].rstrip(".") if text else ""


def _wrap(names: list[str], width: int = 100) -> list[str]:
    lines, line = [], ""
    for name in names:
        if len(line) + len(name) > width:
            lines.append(line)
            line = ""
        line += name + " "
    return [" " * 17 + line.rstrip() for line in [*lines, line] if line]


def _env() -> dict[str, str]:
    import os

    return {k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"NO_COLOR": "1"}


if __name__ == "__main__":
    sys.exit(main())
