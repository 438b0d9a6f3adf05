"""How is a YAML file read so that nothing in it is lost without a word? Every name of a section stands once.

    steps: 100
    steps: 200      YAML itself would take the last one

YAML 1.2, section 3.2.1.1: the keys of a mapping are unique. PyYAML does not hold files to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from picolab.errors import BadInput, BadSetting


class _Twice(yaml.YAMLError):
    """A name that a section holds twice; YAML itself would take the last one without a word."""

    def __init__(self, key: object, line: int) -> None:
        super().__init__(f"{key} twice")
        self.key, self.line = key, line


class _Once(yaml.SafeLoader):
    """YAML in which every name of a section stands once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float | bool) and key in seen:
                raise _Twice(key, key_node.start_mark.line + 1)
            if isinstance(key, str | int | float | bool):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> Any:
    """What a YAML file holds. That there is no file is left to the caller, who knows what it should be."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Once)
    except FileNotFoundError:
        raise
    except _Twice as error:
        raise BadSetting(f"`{path}` says `{error.key}` twice, at line {error.line}", hint="give it once") from error
    except OSError as error:
        raise BadInput(
            f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}",
            hint="a text file that you may read is meant",
        ) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        tab = "found character '\\t'" in str(error)
        hint = (
            "a tab stands there: YAML is indented with spaces" if tab else "one `name: value` a line, sections indented"
        )
        raise BadInput(f"`{path}` is not YAML{where}", hint=hint) from error
