"""Which line computed a value? Asked of Python itself, while one token goes through the model.

tap(self, "q_rope", rotate(q, turn))     the frame that calls `tap` stands on that line
scores = einsum(..) * scale              where only a name is handed over, the line that gave it its value
scores = tap(module, "scores", scores)
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from picolab.models.contract import LanguageModel
from picolab.parts.tap import listening
from picolab.report.narration.step import Source

PACKAGE = Path(__file__).parents[2]
"""The folder `picolab`: files in it are named from there."""


@torch.inference_mode()
def sources_of(model: LanguageModel) -> dict[str, Source]:
    """The line behind every site of a model of ours."""
    found: dict[str, Source] = {}

    def ask(site: str, value: Tensor) -> None:
        frame = inspect.currentframe()
        while frame is not None and (frame.f_code is ask.__code__ or "tap" not in frame.f_code.co_names):
            frame = frame.f_back  # tap itself, and what a type checker put between
        if frame is not None and site not in found:
            found[site] = _line(frame.f_code, frame.f_lineno, site.rpartition(".")[2])

    was_training = model.training
    with listening(model.eval(), ask):
        model(torch.zeros(1, 1, dtype=torch.int64, device=model.device))
    model.train(was_training)
    return found


def line_of(function: Callable[..., Any], containing: str) -> Source:
    """The first line of a function that holds these letters: for what has no site, such as the loss or a step."""
    function = inspect.unwrap(function)
    lines, first = inspect.getsourcelines(function)
    for number, line in enumerate(lines):
        if containing in line:
            return Source(file=_named(inspect.getsourcefile(function) or ""), line=first + number, code=line.strip())
    raise LookupError(f"no line of {function.__qualname__} holds {containing!r}")


@lru_cache(maxsize=512)
def _line(code: CodeType, line: int, site: str) -> Source:
    """The line that computed what `tap` was given on this line."""
    lines, first = inspect.getsourcelines(code)
    line = _where_computed("".join(lines), line - first + 1, site) + first - 1
    return Source(file=_named(code.co_filename), line=line, code=lines[line - first].strip())


def _where_computed(source: str, line: int, site: str) -> int:
    """Lines count from 1 within `source`. A call that spans lines, or a bare name, is looked up in the syntax."""
    tree = ast.parse(textwrap.dedent(source))
    handed = [
        call.args[2]
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "tap"
        and len(call.args) == 3
        and call.lineno <= line <= (call.end_lineno or call.lineno)
        and isinstance(call.args[1], ast.Constant)
        and call.args[1].value == site
    ]
    if not handed:
        return line
    value = handed[0]
    if not isinstance(value, ast.Name):
        return value.lineno
    given = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.lineno < line and value.id in _names(node)
    ]
    return max(given, default=line)


def _names(node: ast.Assign | ast.AnnAssign) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def _named(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(PACKAGE.parent)) if path.is_relative_to(PACKAGE) else path.name
