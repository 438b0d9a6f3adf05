"""How does a rule file become something fast to tell? Each text is compiled once, to nested parts, for each world.

    "a [red|blue] {toy}"  ->  ("a ", Choice(("red",), ("blue",)), " ", Slot("toy"))

A rule that a text names is put in its place, so that telling never looks up a rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from picolab.data.grammar.cast import cast_slots
from picolab.data.grammar.rules import WORLDS, Rule, Rules, plot_texts, read_rules
from picolab.errors import BadData, UnknownName

_TOKEN = re.compile(r"(\{[^{}]*\}|[\[\]|])")


class Slot(str):
    """The name of a value drawn once for a story."""

    __slots__ = ()


class Choice(tuple[Any, ...]):
    """Wordings of which one is taken, each time anew."""

    __slots__ = ()


Parts = tuple[Any, ...]
"""A compiled text: `str`, `Slot` and `Choice` in a row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """One word of a plot's `let`: the slots it fills, and the records it may fill them with."""

    slots: tuple[str, ...]
    records: tuple[tuple[Parts, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A plot compiled for one world: what is drawn first, then the beats with the chance that each is told."""

    name: str
    world: str
    draws: tuple[Draw, ...]
    beats: tuple[tuple[float, Choice], ...]


@cache
def load_plots() -> tuple[Plot, ...]:
    """Every plot in every world it can happen in; `first_day.child` happens to children only."""
    plots = []
    for name, text in plot_texts().items():
        only = name.rpartition(".")[2]
        plots += [compile_plot(name, text, world) for world in WORLDS if only == world or only not in WORLDS]
    return tuple(plots)


def compile_plot(name: str, text: str, world: str) -> Plot:
    """The text of one plot file, compiled for one world."""
    head, *beats = re.split(r"^==(.*)\n", text, flags=re.MULTILINE)
    rules, slots = read_rules(), cast_slots()
    draws: list[Draw] = []
    for wanted in head.removeprefix("let ").strip().split("; "):
        rule_name, _, number = wanted.partition(" ")
        rule = _find(rules, rule_name, world, plot=name)
        compiler = _Compiler(rules=rules, slots=slots, world=world, plot=name)
        draws.append(
            Draw(
                slots=tuple(field + number for field in rule.fields or (rule_name,)),
                records=tuple(tuple(compiler.text(value) for value in line.split(" / ")) for line in rule.lines),
            )
        )
        slots |= set(draws[-1].slots)
    compiler = _Compiler(rules=rules, slots=slots, world=world, plot=name)
    told = tuple(
        (0.5 if mark == "?" else 1.0, Choice(compiler.text(line) for line in wordings.strip().splitlines()))
        for mark, wordings in zip(beats[::2], beats[1::2], strict=True)
    )
    return Plot(name=name, world=world, draws=tuple(draws), beats=told)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Compiler:
    rules: Rules
    slots: frozenset[str]
    world: str
    plot: str

    def text(self, text: str) -> Parts:
        """`"a [red|blue] {toy}"` as parts."""
        open_choices: list[list[list[Any]]] = [[[]]]
        for token in _TOKEN.split(text):
            if token == "[":
                open_choices.append([[]])
            elif token == "|" and len(open_choices) > 1:
                open_choices[-1].append([])
            elif token == "]" and len(open_choices) > 1:
                choice = Choice(tuple(parts) for parts in open_choices.pop())
                open_choices[-1][-1].append(choice)
            elif token in ("|", "]"):
                raise BadData(f"a stray `{token}` in plot `{self.plot}`: {text}", hint="every `[` needs its `]`")
            elif token.startswith("{"):
                open_choices[-1][-1].append(self.name(token[1:-1]))
            elif token:
                open_choices[-1][-1].append(token)
        if len(open_choices) > 1:
            raise BadData(f"an open `[` in plot `{self.plot}`: {text}", hint="every `[` needs its `]`")
        return tuple(open_choices[0][0])

    def name(self, name: str) -> Slot | Choice:
        """A slot where the plot has one of this name, else the rule; with a capital where the name has one."""
        small = name[0].lower() + name[1:]
        if name in self.slots or small in self.slots:
            return Slot(name)
        rule = _find(self.rules, small, self.world, plot=self.plot)
        wordings = Choice(self.text(line) for line in rule.lines)
        return wordings if name == small else _capitalised(wordings)


def capital(text: str) -> str:
    """The text with its first letter in upper case and the others as they are."""
    return text[:1].upper() + text[1:]


def _capitalised(wordings: Choice) -> Choice:
    # In the parts and not in what was told: so it costs nothing while telling.
    return Choice(
        (_capitalised(first) if isinstance(first, Choice) else type(first)(capital(first)), *rest)
        for first, *rest in wordings
    )


def _find(rules: Rules, name: str, world: str, *, plot: str) -> Rule:
    for known in (f"{name}.{world}", name):
        if known in rules:
            return rules[known]
    raise UnknownName(f"rule (asked for in plot `{plot}`)", name, rules)
