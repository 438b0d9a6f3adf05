"""From a YAML file to a Study, refused with the nearest right spelling before anything is computed.

    study: learning-rate                 name
    question: Which learning rate?       what it is for
    settings: {data: stories, steps: 100}
    axes:
      lr: [0.0005, 0.001, 0.002]         or {low: 1e-4, high: 1e-2, log: true} where points are drawn
      n_layers: {values: [1, 2], only: lstm}
    seeds: 3                             or [0, 4, 7]
    method: grid                         random, tpe (with `points: 20`)
    tiny: {settings: {steps: 8}}         what --tiny lays over the rest

The names of settings are those of the command line (runs/names.py). Whether the parts go together is asked last (check.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from picolab.errors import BadInput, BadSetting, UnknownName, nearest
from picolab.runs import names
from picolab.runs.settings import known_settings, resolve
from picolab.runs.yaml_file import read_yaml
from picolab.studies.check import check_study
from picolab.studies.figures import FIGURES
from picolab.studies.study import PRESET, SAMPLING, Axis, Cost, Method, Pruning, Study
from picolab.zoo import PRESETS

KEYS = (
    "study", "question", "settings", "axes", "seeds", "method", "points", "search_seed", "pruning", "goal", "also", "cost", "each",
    "judges", "ask", "processes", "tiny",
)  # fmt: skip
AXIS_KEYS = ("values", "low", "high", "log", "integer", "only")
JUDGES = ("train_loss", "memorised", "sampling")
NAME = re.compile(r"[\w.-]+( [\w.-]+)*")
ANALYSES = ("effects", "turning", "power_law", "pareto")
OURS = {
    "seed": "list `seeds` instead", "out": "say --out", "name": "runs are named after their point and seed",
    "training.device": "it decides nothing that a study asks; set it nowhere or with the machine",
}  # fmt: skip


def read_study(path: Path, *, tiny: bool = False) -> Study:
    """The study in a file; `tiny` lays its small version over the full one."""
    try:
        content = read_yaml(path)
    except FileNotFoundError as error:
        raise BadInput(f"there is no study `{path}`", hint="`picolab ls studies` lists the shipped ones") from error
    if not isinstance(content, dict):
        raise BadInput(f"`{path}` holds no study", hint="a study has `settings`, `axes` and `seeds`")
    return study_of(content, name=path.stem, tiny=tiny)


def study_of(content: Mapping[str, Any], *, name: str = "study", tiny: bool = False) -> Study:
    """The study that a tree of plain values means."""
    _known("part of a study", content, KEYS)
    if tiny:
        content = _shrunk(content)
    settings = _settings(_section(content, "settings"))
    axes = tuple(_axis(given, value) for given, value in _section(content, "axes").items())
    if not axes:
        raise BadSetting("the study has no axis, so the grid is empty", hint="`axes: {lr: [0.001, 0.002]}`")
    study = Study(
        name=_study_name(content.get("study", name)),
        question=str(content.get("question", "")),
        settings=settings,
        axes=axes,
        seeds=_seeds(content.get("seeds", 3)),
        method=_choice("method", content.get("method", "grid"), get_args(Method)),
        n_points=_whole("points", content.get("points"), least=1),
        search_seed=_whole("search_seed", content.get("search_seed", 0), least=0) or 0,
        pruning=_choice("pruning", content.get("pruning", "none"), get_args(Pruning)),
        goal=_choice("goal", content.get("goal", "loss"), tuple(FIGURES)),
        also=_several("also", content.get("also", ()), tuple(FIGURES)),
        cost=_choice("cost", content.get("cost", "flops"), get_args(Cost)),
        each=_each(content.get("each", ()), axes),
        judges=_several("judges", content.get("judges", ()), JUDGES),
        ask=_several("ask", content.get("ask", ("effects",)), ANALYSES),
        processes=_whole("processes", content.get("processes", 1), least=1) or 1,
        tiny=tiny,
    )
    check_study(study)
    return study


def _settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for given, value in names.flat(tree).items():
        name = _name(given)
        if name in settings:
            raise BadSetting(f"`{name}` is set twice", hint="give it once")
        settings[name] = value
    if settings.get(PRESET, "softmax-pico") not in PRESETS:
        raise UnknownName("preset", str(settings[PRESET]), PRESETS)
    resolve(overrides={name: value for name, value in settings.items() if not name.startswith(("model.", "sampling."))})
    return settings


def _axis(given: str, value: Any) -> Axis:
    name = _name(given)
    if isinstance(value, Mapping):
        _known(f"part of axis `{given}`", value, AXIS_KEYS)
        ends = {end: _number(name, value[end]) for end in ("low", "high") if end in value}
        if len(ends) == 1 or (ends and "values" in value):
            raise BadSetting(
                f"axis `{name}` is neither a list nor a range", hint="`values: [..]`, or `low: 1e-4, high: 1e-2`"
            )
        return Axis(
            name=name,
            values=_values(name, value.get("values", [])),
            **ends,
            log=_yes_or_no(name, "log", value.get("log", False)),
            integer=_yes_or_no(name, "integer", value.get("integer", False)),
            only=tuple(map(str, _words("only", value.get("only", ())))),
        )
    return Axis(name=name, values=_values(name, value))


def _study_name(value: Any) -> str:
    """A name that a folder and a database can bear."""
    if isinstance(value, bool | list | dict) or value is None or not NAME.fullmatch(str(value)):
        raise BadSetting(
            f"`study` is {value!r}, not a name", hint="letters, digits, `-`, `_` and `.`: `study: learning-rate`"
        )
    return str(value)


def _name(given: str) -> str:
    if given.startswith("sampling."):
        if given[9:] not in SAMPLING:
            raise UnknownName("way of sampling", given[9:], SAMPLING)
        return given
    name = names.full(given, known_settings())
    if name in OURS:
        raise BadSetting(f"`{name}` is set by the study itself", hint=OURS[name])
    return name


def _shrunk(content: Mapping[str, Any]) -> Mapping[str, Any]:
    small = _section(content, "tiny")
    if not small:
        raise BadSetting("this study has no tiny version", hint="give it a section `tiny`, or leave out --tiny")
    _known("part of a tiny version", small, [key for key in KEYS if key not in ("study", "question", "tiny")])
    merged = {**content, **small}
    for part in ("settings", "axes"):
        merged[part] = {**_section(content, part), **_section(small, part)}
    return merged


def _section(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, Mapping):
        raise BadSetting(f"`{key}` holds a {type(value).__name__}", hint="one `name: value` a line, indented")
    return value


def _seeds(value: Any) -> tuple[int, ...]:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return tuple(range(value))
    if isinstance(value, list) and value and all(isinstance(one, int) and one >= 0 for one in value):
        if len(set(value)) == len(value):
            return tuple(value)
        raise BadSetting(f"`seeds` {value} names one twice", hint="a seed decides everything: twice gives the same run")
    raise BadSetting(f"`seeds` is {value!r}", hint="how many, `seeds: 3`, or which, `seeds: [0, 4, 7]`")


def _known(kind: str, tree: Mapping[str, Any], known: Any) -> None:
    for key in tree:
        if key not in known:
            raise UnknownName(kind, str(key), known)


def _choice(key: str, value: Any, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise BadSetting(f"`{key}` is `{value}`", hint=nearest(str(value), choices))
    return value


def _several(key: str, value: Any, choices: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_choice(key, one, choices) for one in _words(key, value))


def _words(key: str, value: Any) -> list[Any]:
    """One word, or a list of them."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple):
        raise BadSetting(f"`{key}` is {_shown(value)}, not a list", hint=f"`{key}: [..]`, or leave it out")
    return list(value)


def _yes_or_no(name: str, key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadSetting(f"`{key}` of axis `{name}` is {_shown(value)}", hint="true or false")
    return value


def _each(value: Any, axes: tuple[Axis, ...]) -> tuple[str, ...]:
    known = {axis.short: axis.name for axis in axes if not axis.is_range}
    return tuple(known[short] for short in _several("each", value, tuple(known)))


def _whole(key: str, value: Any, *, least: int) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise BadSetting(f"`{key}` is {value!r}, not a whole number of at least {least}")
    return value


def _values(name: str, value: Any) -> tuple[Any, ...]:
    """The values of an axis: words, numbers, or true and false, and none of the last beside numbers."""
    if not isinstance(value, list):
        hint = f"`{name}: [0.001, 0.002]`, or leave it out" if value is None else f"`[{_shown(value)}]` has one value"
        raise BadSetting(f"axis `{name}` is {_shown(value)}, not a list", hint=hint)
    values = tuple(_plain(name, one) for one in value)
    kinds = {isinstance(one, bool) for one in values if not isinstance(one, str)}
    if len(kinds) > 1:
        raise BadSetting(
            f"axis `{name}` mixes numbers with true or false: {', '.join(map(_shown, values))}",
            hint="values of one kind; `on` and `yes` without quotes are true",
        )
    return values


def _plain(name: str, value: Any) -> Any:
    value = _number(name, value, strict=False)
    if not isinstance(value, str | int | float | bool):
        raise BadSetting(f"axis `{name}` has the value {_shown(value)}", hint="numbers, words, true or false")
    return value


def _shown(value: Any) -> str:
    """A value as YAML has it."""
    if value is None:
        return "empty"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _number(name: str, value: Any, *, strict: bool = True) -> Any:
    """YAML 1.1 reads `1e-3` as a word; people mean the number."""
    value = names.scalar(value)
    if strict and (not isinstance(value, int | float) or isinstance(value, bool)):
        raise BadSetting(f"axis `{name}` has the end {value!r}", hint="a number, for example 1e-4")
    return value
