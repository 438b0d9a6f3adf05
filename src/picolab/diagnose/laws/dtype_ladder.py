"""Fewer digits move the logits a little, and by how much is known: `dtype-ladder` (I24).

    float64   the yardstick             what float32 is off it: some 2^-24 for every operation
    bfloat16  2^-8 a step: 65,536 times as much as float32; float16: 8,192 times, and its largest number is 65,504

A cast inside is found by leaving it out: in a second pass each `bfloat16()`, `half()`, `to(..)` hands on what it was given.
Qwen2 in float16 answered "!!!!!": a product of queries and keys exceeded 65,504 (huggingface/transformers#33312).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from picolab.diagnose.laws.law import Finding, Law, Patient, gap
from picolab.diagnose.modules import copy_of, logits_of, no_copy
from picolab.errors import BadInput

STEPS = (torch.float32, torch.bfloat16, torch.float16)

COARSE = 300.0
"""How much more than the other rungs say a rung may be off."""

HARMLESS = 2e-5
"""Of the largest logit: what float32 may be off whatever the rest says."""


class DtypeLadder(Law):
    name = "dtype-ladder"
    id = "I24"
    says = "logits in float32, bfloat16 and float16 are off by what their digits explain, and finite"
    hint = "a cast inside, a product that exceeds 65,504, scores or angles of positions computed in few digits"
    order = 33
    compares = True

    def check(self, patient: Patient) -> Finding:
        reason = no_copy(patient)
        if reason is not None:
            return self.skips(reason)
        tokens = patient.tokens(1, 24)
        cast = _casts(patient, tokens)
        if cast is not None:
            return self.fails(cast)
        exact, refused = _in(patient, torch.float64, tokens)
        if exact is None:
            exact = patient.logits(tokens)
        offs: dict[str, float] = {}
        size = float(exact.abs().max())
        for dtype in STEPS:
            logits, why = _in(patient, dtype, tokens)
            name = str(dtype).removeprefix("torch.")
            if logits is None:
                refused = refused or why
                continue
            if not bool(logits.isfinite().all()):
                return self.fails(
                    f"in {name} {int((~logits.isfinite()).sum())} of {logits.numel()} logits are not finite",
                    hint="bfloat16 reaches as far as float32; in float16, scale down before the product, not after",
                    dtype=name,
                )
            offs[name] = float((logits - exact).square().mean().sqrt()) / size
        told = ", ".join(f"{name} {off:.1g}" for name, off in offs.items())
        rest = f"; {refused}" if refused else ""
        if "float32" not in offs or refused.startswith("float64"):
            return self.passes(f"off the yardstick, of the largest logit: {told}{rest}", offs=offs)
        if offs["float32"] > HARMLESS:
            rough = {name: off for name, off in offs.items() if name != "float32"}
            if not rough or offs["float32"] * COARSE > min(rough.values()):
                return self.fails(
                    f"float32 is {offs['float32']:.2g} off float64 ({told}): something inside has fewer digits",
                    offs=offs,
                )
        return self.passes(f"off float64, of the largest logit: {told}{rest}", offs=offs)


class _Uncast(TorchFunctionMode):
    """While open, float32 numbers that somebody rounds to a shorter type stay as they are; `seen` names how it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        wanted = (
            {*args[1:], *kwargs.values()}
            if func in (Tensor.to, Tensor.type) and not _unhashable(args, kwargs)
            else set()
        )
        short = func in (Tensor.bfloat16, Tensor.half) or bool(wanted & {torch.bfloat16, torch.float16})
        if short and args and isinstance(args[0], Tensor) and args[0].dtype == torch.float32:
            self.seen.append(str(getattr(func, "__name__", func)))
            return args[0]
        return func(*args, **kwargs)


def _unhashable(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    return any(isinstance(value, list | dict | set) for value in (*args[1:], *kwargs.values()))


def _casts(patient: Patient, tokens: Tensor) -> str | None:
    """What rounding inside a model of float32 weights does to its logits, where it does something."""
    assert patient.module is not None
    if any(p.dtype != torch.float32 for p in patient.module.parameters() if p.is_floating_point()):
        return None
    wanted = patient.logits(tokens)
    with _Uncast() as uncast:
        try:
            plain = patient.logits(tokens)
        except (RuntimeError, BadInput):
            return None  # a kernel that takes nothing but short numbers
    off = gap(plain, wanted)
    if not uncast.seen or not off > HARMLESS:
        return None
    return (
        f"its weights are float32, and {len(uncast.seen)} times a pass numbers are rounded to fewer digits (`{uncast.seen[0]}`), "
        f"which moves the logits by {off:.2g} of the largest"
    )


def _in(patient: Patient, dtype: torch.dtype, tokens: Tensor) -> tuple[Tensor | None, str]:
    """Logits of the module in this type, or what it raises."""
    name = str(dtype).removeprefix("torch.")
    try:
        return logits_of(patient, copy_of(patient).to(dtype), tokens), ""
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        return None, f"{name} is refused ({type(error).__name__})"
