"""How does one preset appear in a comparison several times? As arms: a preset with settings of its own, under a name of its own.

softmax-pico                                    the preset itself
softmax-pico:n_layers=4                         with a setting changed; this is its name, too
deep=softmax-pico:n_layers=4,n_heads=4          with two, called `deep`
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from picolab.errors import BadInput, UnknownName
from picolab.zoo import PRESETS

_NAME = re.compile(r"[\w.+:=, -]{1,80}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """A model of a comparison: what it is called, the preset, and the fields of its architecture that it changes."""

    name: str
    preset: str
    fields: Mapping[str, str]

    @property
    def spec(self) -> str:
        """The preset with its fields, as it is written."""
        return self.preset + (
            ":" + ",".join(f"{name}={value}" for name, value in self.fields.items()) if self.fields else ""
        )

    @property
    def word(self) -> str:
        """The whole of it, as it is written on a command line."""
        return self.name if self.name == self.spec else f"{self.name}={self.spec}"


def folder_of(name: str) -> str:
    """The name of an arm as a folder may have it on any system."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-")


def arm_of(word: str) -> Arm:
    """The arm that a word of a command line means; its fields are checked by whoever knows the other settings."""
    before, _, rest = word.partition(":")
    named = "=" in before
    name, _, preset = before.partition("=") if named else (word, "", before)
    if preset not in PRESETS:
        raise UnknownName("preset", preset, PRESETS)
    pairs = [part.partition("=") for part in rest.split(",") if part]
    for field, equals, value in pairs:
        if not (field.strip() and equals and value.strip()):
            raise BadInput(
                f"`{word}` has the part `{field}{equals}{value}`", hint="NAME=PRESET:field=value,field=value"
            )
    if not _NAME.fullmatch(name) or (named and name in PRESETS and name != preset):
        raise BadInput(f"`{name}` is no name for a model here", hint="letters and digits, and no other preset's name")
    fields = {field.strip(): value.strip() for field, _, value in pairs}
    if named and name in PRESETS and fields:
        raise BadInput(f"`{name}` is a preset, and this is another model", hint=f"my-{name}={preset}:{rest}")
    return Arm(name=name, preset=preset, fields=fields)
