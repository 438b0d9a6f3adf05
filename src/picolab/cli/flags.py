"""Flags that verbs share, and the many spellings people bring.

    --max_new_tokens 5        ->  --max-new-tokens 5
    --optimizer.lr 3e-4       ->  --set optimizer.lr=3e-4         a setting that is no flag of the verb
    --n-embd=64 --dropout .1  ->  --set n_embd=64 --set dropout=.1
    --tied                    ->  --set tied=true
    --speculate               ->  --speculate=8          its usual value

Only verbs that have `--set` take settings. A flag that is neither is refused with the nearest name of both kinds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

from picolab.errors import BadInput, UnknownName

FLAG = re.compile(r"--[A-Za-z]")
ALONE = {"--speculate": "8"}
"""Flags that may stand without a value, and what they say then."""

COMMON = Group("Every verb", sort_key=9)

Json = Annotated[
    bool,
    Parameter(name="--json", group=COMMON, help="One JSON document on stdout; all else on stderr.", show_default=False),
]
Seed = Annotated[int, Parameter(name="--seed", group=COMMON, help="Decides everything random.")]
Out = Annotated[Path | None, Parameter(name="--out", group=COMMON, help="Where to write.")]
Set = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        negative=(),
        help="NAME=VALUE of any setting; `--NAME VALUE` does the same. `picolab ls settings` lists them.",
    ),
]
Gpt2Dir = Annotated[
    Path | None, Parameter(name="--gpt2-dir", help="Folder with GPT-2's tokenizer; or variable PICOLAB_GPT2.")
]


def spelled_our_way(app: App, arguments: Sequence[str]) -> list[str]:
    """The command line with every flag in the spelling the parser knows."""
    verb = arguments[0]
    if verb.startswith("-") or verb not in app:
        return list(arguments)
    declared = {name for argument in app[verb].assemble_argument_collection() for name in argument.names}
    declared |= {*app.help_flags, *app.version_flags}
    spelled, rest = [verb], list(arguments[1:])
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*spelled, word, *rest]
        if not FLAG.match(word):
            spelled.append(word)
            continue
        flag, equals, value = word.partition("=")
        dashed = flag.replace("_", "-")
        if dashed in ALONE and not equals and not (rest and rest[0].isdecimal()):
            equals, value = "=", ALONE[dashed]
        if dashed in declared:
            spelled.append(dashed + equals + value)
        elif "--set" in declared:
            _check_setting(verb, flag, declared)
            if not equals:
                value = rest.pop(0) if rest and not FLAG.match(rest[0]) else "true"
            spelled += ["--set", f"{flag[2:]}={value}"]
        else:
            raise unknown_flag(verb, flag, declared)
    return spelled


def unknown_flag(verb: str, flag: str, known: set[str]) -> UnknownName:
    """The refusal of a flag, with the nearest one."""
    return UnknownName(f"option of `picolab {verb}`", flag, {name for name in known if name.startswith("--")})


def settings_given(set_: Sequence[str] | None, **flags: Any) -> dict[str, str]:
    """Settings of the command line by name: those of `--set`, and the verb's own flags that were given."""
    given: dict[str, str] = {}
    for pair in set_ or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadInput(f"`--set {pair}` has no value", hint=f"`--set {pair}=VALUE`")
        given[name] = value
    for name, flag in flags.items():
        if flag is not None:
            given[name] = str(flag)
    return given


def _check_setting(verb: str, flag: str, declared: set[str]) -> None:
    """Refuse a flag that is no setting either."""
    from picolab.runs import names
    from picolab.runs.settings import known_settings

    known: Mapping[str, str] = known_settings()
    try:
        names.full(flag, known)
    except UnknownName as error:
        leaves = {name.rpartition(".")[2] for name in known} | {*names.ALIASES, *names.MODEL_FIELDS}
        spelled = known if "." in flag else {leaf.replace("_", "-") for leaf in leaves}
        raise unknown_flag(verb, flag, declared | {f"--{name}" for name in spelled}) from error


def use_gpt2_dir(folder: Path | None) -> None:
    """Tell the tokenizers where GPT-2's files are, as the variable does."""
    if folder is not None:
        os.environ["PICOLAB_GPT2"] = str(folder)


def data_of(data: str | None, input_dir: Path | None) -> str:
    """The corpus meant: the one named, else the folder given, else the stories."""
    return data or ("stories" if input_dir is None else "input")
