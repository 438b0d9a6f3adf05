"""What real training steps need: a program that trains each model it is asked about and says the worst moment of its memory.

    cases (JSON on stdin) -> Stepper.take x 2 -> bytes above the ground (JSON on stdout)

The ground is what the process holds after a step of a smaller model: libraries, threads, kernels' own memory. Linux keeps the
high-water mark (VmHWM), and lets a process set it back, so that no moment between two looks is missed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from picolab.data.batch import Batch
from picolab.measure.memory import give_back_unused, resident_bytes
from picolab.objectives.next_token import next_token
from picolab.runs.settings import OptimizerSettings
from picolab.train.distributed import World
from picolab.train.optimizers import adamw
from picolab.train.precision import choose
from picolab.train.recompute import recompute_blocks
from picolab.train.schedules import Cosine
from picolab.train.step import Stepper
from picolab.zoo import build

STEPS = 2
"""The optimizer's averages exist from the second one on."""


def high_water() -> int:
    """The most physical memory since `forget_high_water`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_high_water() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def batch(case: dict[str, Any]) -> Batch:
    """Full rows of two documents each."""
    shape, vocab = (case["rows"], case["length"]), case["settings"]["vocab_size"]
    tokens = torch.randint(0, vocab, shape, generator=torch.Generator().manual_seed(0))
    documents = (torch.arange(shape[1]) >= shape[1] // 3).long().expand(shape).contiguous()
    return Batch(tokens, tokens.roll(-1, 1), documents)


def train(case: dict[str, Any]) -> None:
    """A few steps as `picolab train` takes them."""
    world = World(rank=0, size=1, device=torch.device("cpu"))
    model = build(case["architecture"], case["settings"])
    if case.get("recompute"):
        recompute_blocks(model, named=case["architecture"])
    trainee = world.wrap(model, next_token, "ddp")
    stepper = Stepper(
        model=model,
        trainee=trainee,
        optimizer=adamw(model, OptimizerSettings()),
        schedule=Cosine(lr=1e-3, min_lr=1e-4, warmup=1, steps=STEPS),
        clip=1.0,
        accumulate=case.get("accumulate", 1),
        precision=choose(case.get("dtype", "float32"), world.device),
        world=world,
        seed=0,
    )
    rows = batch(case)
    for step in range(STEPS):
        stepper.take(step, rows)


def peak(case: dict[str, Any]) -> int:
    give_back_unused()
    forget_high_water()
    before = resident_bytes()
    train(case)
    return high_water() - before


def main() -> None:
    torch.set_num_threads(1)
    cases = json.load(sys.stdin)
    for case in cases:  # kernels come into memory
        small = case["settings"] | {"vocab_size": 512, "d_model": 64, "d_ff": 128, "n_layers": 1, "n_heads": 2}
        train(
            case
            | {
                "rows": 2 * case.get("accumulate", 1),
                "settings": small | {"n_kv_heads": 2} if "n_kv_heads" in small else small,
            }
        )
    json.dump([peak(case) for case in cases], sys.stdout)


if __name__ == "__main__":
    main()
