"""Are the outputs in these lessons real? `python docs/learn/show.py` runs every command and writes what it printed into the pages.

    ```sh or ```python          a block that is run, in the order of the pages, in a folder of its own
    <!-- shown: A, B/5 -->      what it printed: each part from the line with A (B) to the next empty line, of B 5 lines at most;
    ```text .. ``` <!-- end -->                without names all of it

`--check` compares and writes nothing; `--into FOLDER` leaves the written pages and the trained model there. A processor's last
bits decide the last digits, and training makes them larger: a block that is alike (words equal, numbers within 3 %) stays as it is.
"""

from __future__ import annotations

import io
import os
import re
import runpy
import shlex
import sys
import tempfile
from contextlib import chdir, redirect_stderr, redirect_stdout
from decimal import Decimal
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGES = ("README.md", *sorted(path.name for path in HERE.glob("[1-9]-*.md")))
CODE = re.compile(r"```(sh|python)\n(.*?)```\n", re.DOTALL)
SHOWN = re.compile(r"(<!-- shown(?:: (.*?))? -->\n)```text\n(.*?)```\n(<!-- end -->)", re.DOTALL)
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
FINE, VERDICT, JUDGES = (0,), (0, 1), ("doctor", "diff")
"""Exit codes of commands that succeed; a judge succeeds with a bad verdict, too."""

CLOSE = Decimal("0.03")
NOTHING = Decimal("1e-5")
"""A number below is what rounding left."""


def regenerated(folder: Path) -> dict[str, str]:
    """Every page with what its commands print now; they are run in `folder`, where the trained model stays."""
    with chdir(folder):
        return {name: page((HERE / name).read_text(encoding="utf-8")) for name in PAGES}


def page(text: str) -> str:
    """A page with what its blocks print now; they run in the current folder."""
    names: dict[str, Any] = {}
    parts, at, printed = [], 0, ""
    for found in sorted([*CODE.finditer(text), *SHOWN.finditer(text)], key=re.Match.start):
        parts.append(text[at : found.start()])
        at = found.end()
        if found.re is CODE:
            printed = _run(found[1], found[2], names)
            parts.append(found[0])
        else:
            shown = excerpt(printed, found[2])
            kept = found[3] if alike(found[3], shown) else shown
            parts.append(f"{found[1]}```text\n{kept}```\n{found[4]}")
    return "".join([*parts, text[at:]])


def commands(code: str) -> list[list[str]]:
    """The commands of a shell block, each as its words, without those that install."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line)) and words[0] != "pip"]


def _run(language: str, code: str, names: dict[str, Any]) -> str:
    """What a block prints on stdout; a page's Python blocks share their names."""
    from picolab.cli.app import main

    printed, aside = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(aside):
        if language == "python":
            exec(compile(code, "lesson", "exec"), names)
        else:
            for program, *words in commands(code):
                if program == "python":
                    _script(*words)
                elif program != "picolab" or main(words) not in (VERDICT if words[0] in JUDGES else FINE):
                    raise RuntimeError(f"`{shlex.join([program, *words])}` failed: {aside.getvalue()}")
    return printed.getvalue()


def _script(path: str, *words: str) -> None:
    """What `python PATH WORDS` does."""
    before, sys.argv = sys.argv, [path, *words]
    try:
        runpy.run_path(path, run_name="__main__")
    finally:
        sys.argv = before


def excerpt(printed: str, wanted: str | None) -> str:
    """The parts of an output that are wanted, an empty line between those that had one."""
    if wanted is None:
        return printed
    lines, parts = printed.splitlines(), []
    for name, _, most in (name.partition("/") for name in wanted.split(", ")):
        first = next((i for i, line in enumerate(lines) if name in line), None)
        if first is None:
            raise RuntimeError(f"nothing is called `{name}` in:\n{printed}")
        part = lines[first : next((i for i in range(first, len(lines)) if not lines[i]), len(lines))]
        if most and int(most) < len(part):
            part = [*part[: int(most)], "  .."]
        parts.append("\n".join(part) + "\n")
    return "\n".join(parts)


def alike(old: str, new: str) -> bool:
    """Whether two outputs say the same: line breaks do not count, words do, numbers with a point are close."""
    a, b = old.split(), new.split()
    if len(a) != len(b):
        return False
    return all(_same(x, y, share="%" in after) for x, y, after in zip(a, b, [*a[1:], ""], strict=True))


def _same(x: str, y: str, *, share: bool) -> bool:
    if x == y:
        return True
    if ".py:" in x or NUMBER.sub("#", x) != NUMBER.sub("#", y):
        return False
    return all(_close(m, n, share=share) for m, n in zip(NUMBER.findall(x), NUMBER.findall(y), strict=True))


def _close(m: str, n: str, *, share: bool) -> bool:
    """A whole number is a token, a place or a size, so it is equal; unless it is a rounded share."""
    a, b = Decimal(m.replace(",", "")), Decimal(n.replace(",", ""))
    if not share and "." not in m + n and "e" not in m + n:
        return a == b
    last_digit = Decimal(1).scaleb(max(_last_place(a), _last_place(b)))
    return abs(a - b) <= max(CLOSE * max(abs(a), abs(b)), last_digit) or max(abs(a), abs(b)) < NOTHING


def _last_place(number: Decimal) -> int:
    return int(number.as_tuple().exponent)


def main() -> int:
    """Write or check; the exit code."""
    os.environ["NO_COLOR"] = "1"
    check = "--check" in sys.argv
    with tempfile.TemporaryDirectory() as spare:
        into = Path(sys.argv[sys.argv.index("--into") + 1]).resolve() if "--into" in sys.argv else None
        pages = regenerated(into or Path(spare))
    stale = [name for name, text in pages.items() if text != (HERE / name).read_text(encoding="utf-8")]
    if into is not None or not check:
        for name in pages if into else stale:
            ((into or HERE) / name).write_text(pages[name], encoding="utf-8")
    if stale:
        print(("out of step: " if check else "written: ") + ", ".join(stale))
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
