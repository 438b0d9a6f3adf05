"""What do the rule files say? Rules with their fields and wordings, and the text of each plot, read as they stand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TypeAlias

from picolab.errors import BadData

WORLDS = ("child", "animal")

_HEADER = re.compile(r"(?P<name>[a-z_]+(\.(child|animal))?)( \((?P<fields>[a-z_, ]+)\))?:")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """The wordings of one rule. Where it has several `fields`, each line is a record, its values divided by ` / `."""

    fields: tuple[str, ...]
    lines: tuple[str, ...]


Rules: TypeAlias = Mapping[str, Rule]


@cache
def read_rules() -> Rules:
    """All rules of `words.txt` (words divided by commas, or records) and `sentences.txt` (one wording a line)."""
    rules: dict[str, Rule] = {}
    for file in ("words.txt", "sentences.txt"):
        text = files("picolab.data.grammar").joinpath(file).read_text(encoding="utf-8")
        for name, rule in parse_rules(text, words=file == "words.txt").items():
            if name in rules:
                raise BadData(f"rule `{name}` is written twice", hint=f"merge the two in {file}")
            rules[name] = rule
    return rules


def parse_rules(text: str, *, words: bool) -> dict[str, Rule]:
    """The rules of one file: a header `name:` or `name (field, field):`, and indented lines under it."""
    rules: dict[str, Rule] = {}
    fields: tuple[str, ...] = ()
    lines: list[str] = []
    name = ""

    def close() -> None:
        if name in rules:
            raise BadData(f"rule `{name}` is written twice", hint="merge the two")
        if name:
            rules[name] = Rule(fields=fields, lines=tuple(lines))

    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("    "):
            lines += line.strip().split(", ") if words and len(fields) < 2 else [line.strip()]
            continue
        header = _HEADER.fullmatch(line)
        if header is None:
            hint = "a header is `name:` or `name (field, field):`, and its lines are indented"
            raise BadData(f"not a rule: `{line}`", hint=hint)
        close()
        name, lines = header["name"], []
        fields = tuple(header["fields"].split(", ")) if header["fields"] else ()
    close()
    return rules


@cache
def plot_texts() -> dict[str, str]:
    """The text of every plot by its name, sorted: the order of a folder's listing differs between machines."""
    plots = files("picolab.data.grammar").joinpath("plots")
    found = {entry.name.removesuffix(".txt"): entry for entry in plots.iterdir() if entry.name.endswith(".txt")}
    return {name: found[name].read_text(encoding="utf-8") for name in sorted(found)}
