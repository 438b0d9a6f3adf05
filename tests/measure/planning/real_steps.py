"""What real training steps need: a program that trains each model it is asked about and says the worst moment of its memory.

    python real_steps.py CASES.json        -> Stepper.take x 2, or 3, of each case -> bytes above the ground, as JSON on stdout
    torchrun .. real_steps.py CASES.json   the same by several processes: the first one's bytes

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
from picolab.train.distributed import World, joined
from picolab.train.optimizers import adamw
from picolab.train.precision import choose
from picolab.train.recompute import recompute_blocks
from picolab.train.schedules import Cosine
from picolab.train.step import Stepper
from picolab.zoo import build


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


def train(case: dict[str, Any], world: World) -> None:
    """A few steps as `picolab train` takes them.

    The optimizer has its averages from the second on; DDP cuts its buckets anew before that one, and has filled them in the third.
    """
    steps = 2 if world.size == 1 else 3
    model = build(case["architecture"], case["settings"])
    if case.get("recompute"):
        recompute_blocks(model, named=case["architecture"])
    precision = choose(case.get("dtype", "float32"), world.device)
    trainee = world.wrap(model, next_token, case.get("strategy", "ddp"), precision.dtype)
    stepper = Stepper(
        model=model,
        trainee=trainee,
        optimizer=adamw(model, OptimizerSettings()),
        schedule=Cosine(lr=1e-3, min_lr=1e-4, warmup=1, steps=steps),
        clip=1.0,
        accumulate=case.get("accumulate", 1),
        precision=precision,
        world=world,
        seed=0,
    )
    rows = batch(case)
    for step in range(steps):
        stepper.take(step, rows)


def peak(case: dict[str, Any], world: World) -> int:
    give_back_unused()
    forget_high_water()
    before = resident_bytes()
    train(case, world)
    return high_water() - before


def warmed(case: dict[str, Any], world: World) -> dict[str, Any]:
    """A smaller case of the same kind."""
    small = {"vocab_size": 512, "d_model": 64, "d_ff": 128, "n_layers": 1, "n_heads": 2}
    grouped = {"n_kv_heads": 2} if "n_kv_heads" in case["settings"] else {}
    rows = 2 * world.size * case.get("accumulate", 1)
    return case | {"rows": rows, "settings": case["settings"] | small | grouped}


def main(cases: str) -> None:
    torch.set_num_threads(1)
    asked = json.loads(Path(cases).read_text(encoding="utf-8"))
    with joined("cpu") as world:
        for case in {(case["architecture"], case.get("strategy")): case for case in asked}.values():
            train(warmed(case, world), world)  # kernels come into memory
        found = [peak(case, world) for case in asked]
    if world.first:
        json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
