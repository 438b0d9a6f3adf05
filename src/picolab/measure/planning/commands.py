"""Which commands start a planned run, and go on with it after a machine has died?

one device       picolab train ..
one machine      torchrun --standalone --nproc-per-node 8 -m picolab train ..
many             the same line on each, which meet at one address (`--rdzv-endpoint`)
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from picolab.measure.planning.memory import Layout

RUN, SHARED_RUN, PORT = "runs/planned", "/shared/runs/planned", 29500


@dataclass(frozen=True, kw_only=True, slots=True)
class Commands:
    """Shell lines; those of many machines are to be run on each of them."""

    machines: int
    start: str
    resume: str


def commands_of(
    *,
    preset: str,
    changes: Mapping[str, Any],
    data: str,
    vocab_size: int,
    tokens: float,
    rows: int,
    length: int,
    dtype: str,
    layout: Layout,
    per_machine: int,
    cpu: bool,
    checkpoint_every: int,
) -> Commands:
    """The commands for a layout."""
    machines = max(1, layout.devices // per_machine)
    run = SHARED_RUN if machines > 1 else RUN
    words: dict[str, Any] = {
        "model": preset,
        **changes,
        "data": data,
        "tokenizer": _tokenizer(vocab_size),
        "tokens": round(tokens),
        "batch-size": rows,
        "context-length": length,
        "dtype": dtype,
    }
    if cpu:
        words["device"] = "cpu"
    if layout.devices > 1:
        words["strategy"] = layout.strategy
    if layout.pieces > 1:
        words["accumulate"] = layout.pieces
    if layout.recompute:
        words["recompute"] = "true"
    words |= {"checkpoint-every": checkpoint_every, "out": run}
    launcher = _launcher(layout.devices, machines, per_machine)
    return Commands(
        machines=machines,
        start=_line([*launcher, "train"], words),
        resume=_line([*launcher, "train"], {"resume": run}),
    )


def _tokenizer(vocab_size: int) -> str:
    """One with so many words."""
    return "gpt2" if vocab_size == 50257 else f"bpe-{vocab_size}"


def _launcher(devices: int, machines: int, per_machine: int) -> list[str]:
    if devices == 1:
        return ["picolab"]
    if machines == 1:
        return ["torchrun", "--standalone", "--nproc-per-node", str(devices), "-m", "picolab"]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-id", "planned", "--rdzv-endpoint", f"first-machine:{PORT}"]
    return ["torchrun", "--nnodes", str(machines), "--nproc-per-node", str(per_machine), *meeting, "-m", "picolab"]


def _line(command: list[str], words: Mapping[str, Any]) -> str:
    """A shell line, broken before a flag where it would pass 76 columns."""
    parts = [f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in words.items()]
    if len(command) > 8:
        at = command.index("--rdzv-backend")
        command, parts = command[:at], [shlex.join(command[at : at + 6]), shlex.join(command[at + 6 :]), *parts]
    lines = [shlex.join(command)]
    for part in parts:
        if len(lines[-1]) + 1 + len(part) > 74:
            lines.append("   ")
        lines[-1] += " " + part
    return " \\\n".join(lines)
