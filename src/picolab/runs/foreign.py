"""Whose code is this? A person's own: `my_port.py:make` is run as it was written, and stands where a model stands.

    my_port.py:make  ->  make()  ->  nn.Module, or a callable: tokens (batch, time) int64 -> logits

The file is run like any Python program, with the rights of whoever asked for it. Whatever goes wrong inside is told in a sentence
with the line of that file. How logits are found in what it returns: `foreign_engine.py`.
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from torch import nn

from picolab.errors import BadInput, UnknownName
from picolab.runs.foreign_limit import limited

REFERENCE = re.compile(r"(?P<path>.+\.py)(?::(?P<name>.*))?", re.DOTALL)

LOOKS = "`file.py:function`, a function without arguments that returns an nn.Module or a callable tokens -> logits"


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """What a person's function returned, where it came from, and what should be known about it."""

    call: Any
    source: str
    path: Path
    notes: tuple[str, ...]


def is_code(reference: str | Path) -> bool:
    """Whether a reference means somebody's code: a `.py` file, with or without a function."""
    return REFERENCE.fullmatch(str(reference)) is not None


def open_callable(reference: str, *, seconds: float | None = None) -> Code:
    """Run the file, call the function, and hand out what it returned; both together may not take longer than `seconds`."""
    with limited(seconds, f"`{reference}`"):
        return _opened(reference)


def _opened(reference: str) -> Code:
    found = REFERENCE.fullmatch(reference)
    if found is None:
        raise BadInput(f"`{reference}` is not somebody's code", hint=LOOKS)
    path, name = Path(found["path"]), found["name"]
    module = _run(path)
    functions = _functions(module)
    if not name:
        raise BadInput(f"`{reference}` does not say which function", hint=_such_as(path, functions))
    if not hasattr(module, name):
        raise (
            UnknownName(f"function in `{path}`", name, functions)
            if functions
            else BadInput(f"`{path}` has no function `{name}`, nor any other", hint=LOOKS)
        )
    made = getattr(module, name)
    if not isinstance(made, nn.Module):
        made = _made_by(made, name, path)
    if isinstance(made, nn.Module):
        made.eval()
    note = f"`{reference}` is code of its own: it was run, with your rights"
    return Code(call=made, source=reference, path=path, notes=(note,))


def _made_by(function: Any, name: str, path: Path) -> Any:
    """What a function without arguments returns."""
    if not callable(function):
        raise BadInput(f"`{name}` in `{path}` is {_a(function)}, not a function", hint=LOOKS)
    required = _required(function)
    if required:
        raise BadInput(
            f"`{name}` in `{path}` wants `{'`, `'.join(required)}`, and is called without arguments",
            hint=f"if it turns tokens into logits itself, return it from a function: def make(): return {name}",
        )
    with told(f"`{name}` in `{path}` fails", path), _importing_beside(path):
        made = function()
    if not callable(made) and not (hasattr(made, "read") and hasattr(made, "forget")):
        raise BadInput(f"`{name}` in `{path}` returned {_a(made)}", hint=LOOKS)
    return made


def _run(path: Path) -> ModuleType:
    """The module that a file becomes when it is run."""
    code = _compiled(path)
    name = f"picolab_code_{next(_numbers)}_{path.stem}"
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up
    with told(f"`{path}` fails when it is run", path), _importing_beside(path):
        exec(code, vars(module))
    return module


def _compiled(path: Path) -> CodeType:
    try:
        return compile(path.read_bytes(), str(path), "exec")
    except FileNotFoundError as error:
        raise BadInput(f"`{path}` does not exist", hint=LOOKS) from error
    except OSError as error:
        raise BadInput(f"`{path}` cannot be read: {(error.strerror or '').lower()}") from error
    except SyntaxError as error:
        at = f"line {error.lineno} of `{path}`" if error.lineno else f"`{path}`"
        raise BadInput(f"{at} is not Python: {error.msg}") from error
    except ValueError as error:  # a zero byte
        raise BadInput(f"`{path}` is not Python: {error}") from error


@contextmanager
def told(what: str, path: Path) -> Iterator[None]:
    """Turn whatever somebody's code raises into one sentence with its line."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        at = f"line {lines[-1]}: " if lines else ""
        says = " ".join(str(error).split()).rstrip(".")
        kind = type(error).__name__
        raise BadInput(f"{what}: {at}{kind}: {says}" if says else f"{what}: {at}{kind}") from error


@contextmanager
def _importing_beside(path: Path) -> Iterator[None]:
    """Let a file import its neighbours: first of all while it is run, and after everything else later on."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def _functions(module: ModuleType) -> list[str]:
    """What the file itself defines and can be called."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isinstance(value, nn.Module) or (callable(value) and getattr(value, "__module__", "") == module.__name__))
    ]


def _required(function: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built in: nobody says what it takes
        return []
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in open_ended]


def _such_as(path: Path, functions: list[str]) -> str:
    return f"`{path}:{functions[-1]}`?" if functions else LOOKS


def _a(value: object) -> str:
    kind = "nothing (None)" if value is None else type(value).__name__
    return kind if value is None else f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


_numbers = itertools.count()
