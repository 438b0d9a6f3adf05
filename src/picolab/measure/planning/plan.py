"""What will a training take? A request becomes a plan: a layout that fits, hours, money, disk, and the commands.

    parameters, tokens, devices -> ways -> memory of a device
                                -> 6 x parameters x tokens + attention -> FLOPs / (devices x peak x MFU) -> hours -> money

MFU, model FLOPs utilisation, is the share of a device's stated peak that the model's own products get (Chowdhery et al. 2022,
arXiv:2204.02311). It is assumed here, not known: Llama 3 was trained at 0.38 to 0.43 on thousands of H100 (Grattafiori et al. 2024,
arXiv:2407.21783); the first minutes of a run say what it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from picolab.errors import BadSetting
from picolab.measure.planning.commands import Commands, commands_of
from picolab.measure.planning.hardware import BFLOAT16, FLOAT32, Device
from picolab.measure.planning.memory import Strategy
from picolab.measure.planning.shape import Shape
from picolab.measure.planning.ways import Way, ways

MFU = 0.35
"""Assumed where none is given."""

STEPS = 40_000
"""About so many steps where no batch is given."""

LARGEST_BATCH, SMALLEST_BATCH = 2**20, 2**13
"""Tokens of a step that are assumed at most and at least."""

KEPT_CHECKPOINTS = 4
"""The two newest, the best, and the one being written."""

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is asked; what is None is chosen. `changes` are settings that the commands must repeat beside the preset."""

    shape: Shape
    preset: str
    changes: Mapping[str, Any]
    tokens: float
    devices: int
    device: Device
    strategy: Strategy | Literal["auto"] = "auto"
    batch_tokens: int | None = None
    length: int | None = None
    dtype: str = "auto"
    mfu: float | None = None
    price: float | None = None
    pieces: int | None = None
    recompute: bool | None = None
    per_machine: int = 8
    data: str = "my_text"

    def __post_init__(self) -> None:
        _positive("tokens", self.tokens)
        _positive("gpus", self.devices)
        _positive("gpus-per-machine", self.per_machine)
        for name, value in (("batch-tokens", self.batch_tokens), ("accumulate", self.pieces)):
            if value is not None:
                _positive(name, value)
        if self.mfu is not None and not 0 < self.mfu <= 1:
            raise BadSetting(f"`--mfu` {self.mfu:g} is no share", hint="above 0 and at most 1; 0.3 to 0.5 is usual")
        if self.price is not None and not 0 <= self.price < math.inf:
            raise BadSetting(f"`--price` {self.price:g} is no price", hint="what a GPU costs an hour, such as 2.5")
        if self.length is not None and self.length < 2:
            raise BadSetting(f"`--length` {self.length} leaves nothing to predict", hint="2048 is usual")
        if self.devices > self.per_machine and self.devices % self.per_machine:
            raise BadSetting(
                f"`--gpus` {self.devices} do not fill machines of {self.per_machine}",
                hint="torchrun starts as many processes on each: give a multiple, or another --gpus-per-machine",
            )
        if self.device.kind == "cpu" and self.devices > 1:
            raise BadSetting(f"`--gpus` {self.devices} on `cpu`", hint="one processor is measured: leave --gpus out")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The answer. Bytes, seconds, FLOPs; `money` in the price's unit. `other` are the ways not taken."""

    shape: Shape
    request: Request
    dtype: str
    length: int
    rows: int
    steps: int
    way: Way
    other: tuple[Way, ...]
    flops: float
    mfu: float
    step_seconds: float
    seconds: float
    device_hours: float
    money: float | None
    checkpoint_bytes: float
    checkpoints_bytes: float
    data_bytes: float
    host_bytes: float
    remarks: tuple[str, ...]
    commands: Commands = field(repr=False)

    @property
    def batch_tokens(self) -> int:
        return self.rows * self.length


def plan(asked: Request) -> Plan:
    """Work everything out; nothing is started and nothing is measured."""
    shape, device = asked.shape, asked.device
    dtype = _dtype(asked)
    length = asked.length or shape.context_length
    rows = _rows(asked, length)
    steps = max(1, math.ceil(asked.tokens / (rows * length)))
    found = ways(
        shape,
        device,
        devices=asked.devices,
        rows=rows // asked.devices,
        length=length,
        dtype=dtype,
        strategies=_strategies(asked),
        recompute=(False, True) if asked.recompute is None else (asked.recompute,),
        pieces=asked.pieces,
    )
    # Nothing fits: the way that needs least is shown.
    way = next((w for w in found if w.fits), None) or min(found, key=lambda w: w.worst.n_bytes)
    mfu = MFU if asked.mfu is None else asked.mfu
    flops = shape.flops(length) * asked.tokens
    done = flops * (4 / 3 if way.layout.recompute else 1)  # the forward pass, a third of all, is computed twice
    seconds = done / (asked.devices * device.flops[dtype] * mfu)
    hours = asked.devices * seconds / 3600
    numbers, sharded = float(shape.parameters), way.layout.shards > 1
    here = min(asked.devices, asked.per_machine)
    return Plan(
        shape=shape,
        request=asked,
        dtype=dtype,
        length=length,
        rows=rows,
        steps=steps,
        way=way,
        other=tuple(w for w in found if w is not way),
        flops=flops,
        mfu=mfu,
        step_seconds=seconds / steps,
        seconds=seconds,
        device_hours=hours,
        money=None if asked.price is None else hours * asked.price,
        checkpoint_bytes=12 * numbers,
        checkpoints_bytes=KEPT_CHECKPOINTS * 12 * numbers,
        data_bytes=asked.tokens * (2 if shape.vocab_size <= 2**16 else 4),
        host_bytes=(12 if sharded else 8) * numbers * here if device.kind == "cuda" else 8 * numbers,
        remarks=tuple(_remarks(asked, way, seconds / steps, length)),
        commands=commands_of(
            preset=asked.preset,
            changes=asked.changes,
            data=asked.data,
            vocab_size=shape.vocab_size,
            tokens=asked.tokens,
            rows=rows,
            length=length,
            dtype=dtype,
            layout=way.layout,
            per_machine=asked.per_machine,
            cpu=device.kind == "cpu",
            checkpoint_every=min(steps, max(1, round(3600 / max(seconds / steps, 1e-9)))),
        ),
    )


def count(text: str, name: str) -> float:
    """`1B`, `350M`, `20e9` or `65536` as a number."""
    found = re.fullmatch(r"([0-9][0-9_,]*\.?[0-9]*(?:e[+]?[0-9]+)?)\s*([kmbgt]?)", text.strip().lower())
    if found is None:
        raise BadSetting(f"`--{name}` is `{text}`, not a number", hint="such as 350M, 1B, 20e9")
    value = float(found[1].replace(",", "").replace("_", "")) * UNITS[found[2]]
    _positive(name, value)
    return value


def _positive(name: str, value: float) -> None:
    if not 1 <= value < 1e18:
        raise BadSetting(f"`--{name}` is {value:g}", hint="give a number of 1 or more, and of this world")


def _dtype(asked: Request) -> str:
    """As train/precision.py chooses: bfloat16 where it is faster."""
    if asked.dtype != "auto":
        return asked.dtype
    return BFLOAT16 if asked.device.flops[BFLOAT16] > asked.device.flops[FLOAT32] else FLOAT32


def _rows(asked: Request, length: int) -> int:
    """Rows of a step over all devices: a whole number for each device and piece."""
    unit = asked.devices * (asked.pieces or 1)
    if asked.batch_tokens is None:
        wanted = min(LARGEST_BATCH, max(SMALLEST_BATCH, 2 ** round(math.log2(max(1.0, asked.tokens / STEPS)))))
        return max(1, round(wanted / (length * unit))) * unit
    if asked.batch_tokens < unit * length:
        raise BadSetting(
            f"`--batch-tokens` {asked.batch_tokens:,} is less than a row of {length:,} for each of {unit} devices and pieces",
            hint=f"give at least {unit * length:,}, or shorter rows with --length",
        )
    return asked.batch_tokens // (length * unit) * unit


def _strategies(asked: Request) -> tuple[Strategy, ...]:
    if asked.devices == 1:
        if asked.strategy == "fsdp":
            raise BadSetting(
                "`--strategy fsdp` has nothing to shard over with one device", hint="leave it out, or give --gpus"
            )
        return ("ddp",)
    return ("ddp", "fsdp") if asked.strategy == "auto" else (asked.strategy,)


def _remarks(asked: Request, way: Way, step_seconds: float, length: int) -> list[str]:
    """What a reader must know before they believe the figures."""
    shape, device = asked.shape, asked.device
    remarks = []
    # AdamW reads weight, gradient and two averages, and writes three of them: 28 bytes a number.
    update = 28 * shape.parameters / way.layout.shards / device.bytes_per_second
    if update > 0.1 * step_seconds:
        remarks.append(f"the optimizer's pass over memory takes {update:.2g} s of each step: a larger batch pays")
    per_device = way.rows * length
    if device.kind == "cuda" and per_device < 4096:
        remarks.append(f"pieces of {per_device:,} tokens a device keep a GPU waiting: expect a lower MFU")
    ratio = asked.tokens / shape.parameters
    if ratio < 5 or ratio > 2000:
        remarks.append(
            f"{ratio:,.3g} tokens a parameter: about 20 make the most of the computation (Hoffmann et al. 2022)"
        )
    if device.kind == "cuda" and shape.n_kv_heads != shape.n_heads:
        remarks.append(
            "not every PyTorch has a fused kernel for grouped heads under a mask: without one attention takes more"
        )
    return remarks
