"""A chat template is somebody else's program. It runs here, in a process of its own that can be stopped.

    stdin   {"template": "..", "variables": [{..}, ..], "limits": {..}}          one set of variables a conversation
    stdout  {"texts": [..]}  or  {"refuses": "what the template has against a conversation"}  or  {"fails": "why it cannot run"}

Run as a script (`text/chat.py` does): nothing of picolab is imported, and no name of the template's reaches further than Jinja's
sandbox. Memory and processor time are limited by the system where it can do so. What a template may use is what transformers
offers it: `messages`, `raise_exception`, `strftime_now`, `tojson`, loop controls, `generation` blocks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from jinja2 import TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace


class Refused(Exception):
    """The template will not have the conversation."""


class GenerationBlock(Extension):
    """`{% generation %}` .. `{% endgeneration %}` marks what the model said, for training; here it is what is inside."""

    tags = {"generation"}  # noqa: RUF012  (Jinja declares it of the instance)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class Notes(Namespace):
    """`namespace()`: variables that outlive a loop. Names with a leading underscore would reach into Python."""

    def __init__(*args: Any, **named: Any) -> None:
        self, *given = args  # a template may call one of its variables `self`
        values = dict(*given, **named)
        for name in values:
            _check_name(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"it sets `{name}`, and names with a leading underscore are Python's own")


def refuse(message: object) -> None:
    raise Refused(str(message))


def to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
    """JSON as it is; Jinja's own filter would escape it for web pages."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)


def render(template: str, conversations: list[dict[str, Any]], longest: int) -> list[str]:
    """The texts a template makes, refused once one is longer than `longest`."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.globals["namespace"] = Notes
    environment.globals["dict"] = lambda *given, **named: dict(*given, **named)
    compiled = environment.from_string(template)
    return [_joined(compiled.generate(**variables), longest) for variables in conversations]


def _joined(parts: Iterable[str], longest: int) -> str:
    kept: list[str] = []
    length = 0
    for part in parts:
        kept.append(part)
        length += len(part)
        if length > longest:
            raise MemoryError
    return "".join(kept)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What is written back."""
    limits = request["limits"]
    limit(limits["bytes"], limits["seconds"])
    try:
        return {"texts": render(request["template"], request["variables"], limits["characters"])}
    except Refused as error:
        return {"refuses": str(error)}
    except TemplateSyntaxError as error:
        return {"fails": f"line {error.lineno}: {error.message}"}
    except MemoryError:
        return {"fails": "it needs more memory than a conversation has use for"}
    except RecursionError:
        return {"fails": "it calls itself without end"}
    except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return {"fails": f"{error}" or type(error).__name__}


def limit(memory: int, seconds: int) -> None:
    """Ask the system to stop this process beyond so much memory and time."""
    try:
        import resource
    except ImportError:  # Windows: the caller's clock remains
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
