"""What is asked? Fixed settings, axes along which runs differ, seeds, and a way to choose points.

    settings: {steps: 100}           axes: {lr: [0.001, 0.002], n_layers: [1, 2]}          seeds: [0, 1, 2]

    one point   lr=0.001 n_layers=1        -> one trial a seed -> one ordinary run a trial

`studies/read.py` makes a Study of a YAML file; a Study is checked and complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from picolab.errors import BadSetting
from picolab.zoo import ARCHITECTURES, PRESETS

Method = Literal["grid", "random", "tpe"]
Pruning = Literal["none", "median"]
Cost = Literal["flops", "seconds", "parameters", "tokens"]
Value = str | int | float | bool | None
Point = Mapping[str, Value]
"""A value for every axis, by the setting's full name; None where the axis does not concern the point's model."""

MOST_RUNS = 10_000
"""More runs than this are started only where somebody says that they are meant."""
PRESET = "model.preset"
DATA = "data.spec"
SHORT = {PRESET: "model", DATA: "data"}
SAMPLING = ("temperature", "top_p", "top_k", "min_p")
"""What may vary after training: `sampling.NAME` is an axis or a setting that costs no run of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A setting that varies: over `values`, or from `low` to `high` (in equal ratios where `log`, whole where `integer`).

    `only` names the presets that it concerns; empty: all that have the setting.
    """

    name: str
    values: tuple[Value, ...] = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.is_range:
            assert self.low is not None and self.high is not None
            if not self.low < self.high:
                raise BadSetting(f"axis `{self.name}` goes from {self.low:g} to {self.high:g}", hint="low < high")
            if self.log and self.low <= 0:
                raise BadSetting(
                    f"axis `{self.name}` begins at {self.low:g} and is logarithmic",
                    hint="begin above 0, or leave out `log`",
                )
        elif not self.values:
            raise BadSetting(
                f"axis `{self.name}` has no value, so the grid is empty", hint=f"`{self.name}: [1, 2]`, or leave it out"
            )
        elif twice := [value for value in self.values if self.values.count(value) > 1]:
            raise BadSetting(
                f"axis `{self.name}` has the value {twice[0]!r} twice", hint="seeds repeat a point: `seeds: 3`"
            )

    @property
    def is_range(self) -> bool:
        """Whether values are drawn between two ends instead of listed."""
        return self.low is not None or self.high is not None

    @property
    def is_numeric(self) -> bool:
        """Whether its values have an order and distances."""
        return self.is_range or all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)

    @property
    def short(self) -> str:
        """The last word of its name, for tables."""
        return short(self.name)

    def concerns(self, preset: str) -> bool:
        """Whether a model of this preset has the setting."""
        if self.only and preset not in self.only:
            return False
        return not self.name.startswith("model.") or self.name == PRESET or self.name[6:] in fields_of(preset)


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A question put to many runs. Names of settings are full, values as YAML gives them.

    `n_points` is how many points a search draws (None for a grid, which has all). `goal` is the figure that is to be small,
    `also` are others that settings are asked about, `cost` is what a point is paid with, `each` names
    axes of whose values everything is asked separately.
    `judges` are measurements made beside the usual ones; `ask` names analyses that this question is about. `processes` is how many
    work on one run, started by torchrun.
    """

    name: str
    question: str
    settings: Mapping[str, Any]
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    method: Method = "grid"
    n_points: int | None = None
    search_seed: int = 0
    pruning: Pruning = "none"
    goal: str = "loss"
    also: tuple[str, ...] = ()
    cost: Cost = "flops"
    each: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    processes: int = 1
    tiny: bool = False

    @property
    def presets(self) -> tuple[str, ...]:
        """The presets that take part."""
        axis = next((axis for axis in self.axes if axis.name == PRESET), None)
        fixed = self.settings.get(PRESET, "softmax-pico")
        return tuple(str(value) for value in axis.values) if axis else (str(fixed),)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Axes that are no choice: of each value everything is asked anew. Losses on other corpora are never comparable."""
        return tuple(axis.name for axis in self.axes if axis.name in (DATA, *self.each))

    @property
    def has_bands(self) -> bool:
        """Whether there are seeds enough for a spread; one seed has none, and then nothing is told apart."""
        return len(self.seeds) > 1


def short(name: str) -> str:
    """The last word of a setting's name."""
    return SHORT.get(name, name.rpartition(".")[2])


def fields_of(preset: str) -> set[str]:
    """The settings that a preset's architecture has."""
    return {field.name for field in fields(ARCHITECTURES[PRESETS[preset].architecture].config)}
