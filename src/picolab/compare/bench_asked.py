"""What is a benchmark asked to measure? Works, sizes, time; and which models, each under a name of its own.

softmax-pico softmax-pico wide=softmax-pico:d_model=256 runs/x  ->  softmax-pico, softmax-pico #2, wide, runs/x
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from picolab.compare.arms import arm_of
from picolab.compare.bench_work import What
from picolab.errors import BadInput, BadSetting, UnknownName
from picolab.measure.limits import Sizes
from picolab.runs import names
from picolab.weights.kept import form_of
from picolab.zoo import ARCHITECTURES, PRESETS

WHAT: tuple[What, ...] = get_args(What)
TRAINABLE = ("float32", "bfloat16")


def works(words: str) -> tuple[What, ...]:
    """The works that `all`, or names divided by commas, mean, in their order."""
    named = [word.strip() for word in words.split(",")]
    for word in named:
        if word not in (*WHAT, "all"):
            raise UnknownName("work", word, {*WHAT, "all"})
    return tuple(what for what in WHAT if what in named or "all" in named)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What to measure. `seconds` is for one model at one work, over all its rounds; `sizes` are those by which the
    machine's limits are measured."""

    models: tuple[str, ...]
    what: tuple[What, ...] = WHAT
    batch_size: int = 8
    length: int = 128
    seconds: float = 5.0
    rounds: int = 7
    threads: int | None = None
    device: str = "auto"
    dtype: str = "float32"
    compiled: bool = False
    vocab_size: int | None = None
    seed: int = 0
    sizes: Sizes | None = None

    def __post_init__(self) -> None:
        if not self.models:
            raise BadInput("no model is given", hint="picolab bench MODEL ..; `picolab ls` lists presets")
        for name, least in (("batch_size", 1), ("length", 2), ("rounds", 1), ("threads", 1), ("vocab_size", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                flag = name.replace("_", "-")
                raise BadSetting(f"`{name}` is {value}, and {least} is the least", hint=f"--{flag} {max(8, least)}")
        if not 0 < self.seconds < float("inf"):
            raise BadSetting(
                f"`seconds` is {self.seconds:g}, no time to measure in", hint="--seconds 5 gives a steady figure"
            )
        if form_of(self.dtype) not in TRAINABLE and self.what == ("train",):
            raise BadSetting(f"no model is trained in {self.dtype}", hint=f"--dtype {' or '.join(TRAINABLE)}")


@dataclass(frozen=True, slots=True)
class Contender:
    """A model of the table: its name there, the reference it came from, the form of its weights, and settings of its own where it
    is a preset."""

    name: str
    reference: str
    form: str
    fields: dict[str, Any]


def contenders_of(asked: Asked) -> list[Contender]:
    """Every word as a model, each under a name of its own."""
    found: list[Contender] = []
    for word in asked.models:
        base = word.partition(":")[0]
        name, reference, form, fields = word, word, asked.dtype, {}
        if base in PRESETS or ("=" in base and base.rpartition("=")[2] in PRESETS):
            arm = arm_of(word)
            name, reference = arm.name, arm.preset
            fields = {field: names.scalar(value) for field, value in arm.fields.items()}
            chosen = PRESETS[reference]
            architecture = ARCHITECTURES[chosen.architecture]
            own = architecture.config(**chosen.settings).vocab_size
            if hasattr(architecture.model, "estimate"):  # it counts: whole numbers have no other form
                form = "float32"
            fields.setdefault("vocab_size", asked.vocab_size or own)
        times = sum(other.name == name or other.name.startswith(f"{name} #") for other in found)
        found.append(Contender(f"{name} #{times + 1}" if times else name, reference, form, fields))
    return found
