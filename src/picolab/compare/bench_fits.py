"""Will a benchmark fit into memory? Asked before anything is loaded, with what it holds at the very least.

    train            a parameter    weight, gradient, AdamW's two averages             16 bytes (4 where frozen)
                     a token        the input of every matrix, kept for the way back
    prefill, decode  a model        weights in their form
                     a token        its share of the cache

All models of one work are held at once, because they take turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from picolab.compare.bench_asked import Asked, Contender
from picolab.errors import BadSetting
from picolab.measure.parameters import count_parameters
from picolab.models.contract import LanguageModel
from picolab.runs.reference import load_plan
from picolab.sample.rows import reach
from picolab.weights.plan import LoadPlan, free_memory
from picolab.zoo import PRESETS, create


@dataclass(frozen=True, slots=True)
class Need:
    """What one model holds at least: bytes of its own, and of every token at hand."""

    name: str
    parameters: int
    own_bytes: int
    token_bytes: int


def check_fits(asked: Asked, contenders: Sequence[Contender], device: torch.device) -> None:
    """BadSetting, with the arithmetic, where the models cannot fit, and where a preset cannot read rows so long."""
    plans = {c.name: load_plan(c.reference, c.form, asked.length, **c.fields) for c in contenders}
    sketches = {c.name: _sketch(c) for c in contenders if c.reference in PRESETS}
    for name, sketch in sketches.items():
        limit = reach(sketch)
        if limit is not None and asked.length > limit:
            raise BadSetting(
                f"`length` {asked.length} is beyond the context of `{name}`, {limit} tokens", hint=f"--length {limit}"
            )
    free = _free(device)
    if free is None:  # not every system says
        return
    for what in asked.what:
        needs = [_need(what, asked, c, plans[c.name], sketches.get(c.name)) for c in contenders]
        tokens = asked.batch_size * asked.length
        total = sum(need.own_bytes + tokens * need.token_bytes for need in needs)
        if total > free:
            most = max(needs, key=lambda need: need.own_bytes + tokens * need.token_bytes)
            raise BadSetting(
                f"{what} needs at least {_gb(total)}, of it {_gb(most.own_bytes + tokens * most.token_bytes)} for `{most.name}`: "
                f"{most.parameters:,} parameters in {_gb(most.own_bytes)}, and {asked.batch_size:,} x {asked.length:,} tokens "
                f"of {most.token_bytes:,} bytes; {_gb(free)} are free",
                hint="a smaller --batch-size or --length, or fewer models at a time",
            )


def _need(what: str, asked: Asked, contender: Contender, plan: LoadPlan, sketch: LanguageModel | None) -> Need:
    if what != "train":
        scored = _all_scores(sketch)
        return Need(contender.name, plan.parameters, plan.own_bytes, plan.cache_bytes_a_token + scored)
    if sketch is None:  # the file tells how many numbers it holds, and that is most of it
        return Need(contender.name, plan.parameters, 16 * plan.parameters, 0)
    counted = count_parameters(sketch)
    width = 2 if asked.dtype == "bfloat16" else 4
    kept = sum(_kept_lanes(module) for module in sketch.modules())
    return Need(contender.name, counted.total, 4 * counted.total + 12 * counted.trainable, width * kept)


def _kept_lanes(module: nn.Module) -> int:
    """Numbers of a token that a module keeps for its backward pass."""
    if isinstance(module, nn.Linear):
        return module.in_features
    return module.input_size + 4 * module.hidden_size if isinstance(module, nn.LSTM) else 0


def _all_scores(sketch: LanguageModel | None) -> int:
    """A model that counts says what follows every token of a prompt, in float32."""
    return 4 * sketch.config.vocab_size if sketch is not None and hasattr(sketch, "estimate") else 0


def _sketch(contender: Contender) -> LanguageModel:
    with torch.device("meta"):
        return create(contender.reference, **contender.fields)


def _free(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory()


def _gb(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:,.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:,.1f} MB"
