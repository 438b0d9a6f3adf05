"""Is it only rounding, of a coarser type than the one that is claimed? `dtype-noise`.

    claimed float32; every number shown is a bfloat16 number; the reference in bfloat16 rounds as much, line by line

Both must hold: numbers that a type cannot hold were not made in it, and an error larger than its rounding has another cause.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.birth import births
from picolab.diagnose.noise import Floor
from picolab.diagnose.verdict import Born, Told
from picolab.diagnose.walk import Key, Schedule, difference
from picolab.trace.sites import layer_of

CAUSE = "dtype-noise"
COARSE = (torch.bfloat16, torch.float16)
"""In this order: float16 can hold nearly every bfloat16 number, and bfloat16 hardly any of float16's."""

EXEMPT = ("scores", "probs", "logits")
"""Places that engines keep in float32 beside coarser streams."""

LOOK_FOR = "a cast on loading, autocast, a default type; what the bundle says its `dtype` is"


def dtype_noise(
    anatomy: Anatomy, schedule: Schedule, values: Mapping[Key, Tensor], natural: Mapping[Key, Tensor], floor: Floor
) -> tuple[Born, Floor] | None:
    """The finding that a target computes in a coarser type than it says, and the floor of that type; None where it does not."""
    for dtype in COARSE:
        if torch.finfo(dtype).eps <= floor.epsilon or not _holds(values, dtype):
            continue
        coarse = Floor(anatomy, schedule, dtype)
        if births(anatomy, schedule, values, natural, coarse):
            continue
        name = str(dtype).removeprefix("torch.")
        first = births(anatomy, schedule, values, natural, floor)
        if not first:
            return None
        told = Told(
            cause=CAUSE,
            says=f"every number is a {name} number, and nothing is off by more than {name} rounds: the target computes in {name},"
            f" not in {str(floor.dtype).removeprefix('torch.')}",
            explained=1.0,
            residual=first[0].added,
            certain=True,
            evidence={"computes in": name, "claims": str(floor.dtype).removeprefix("torch.")},
            look_for=LOOK_FOR,
        )
        born = Born(
            site=first[0].until,
            lines=first[0].lines,
            phase=first[0].phase,
            step=first[0].step,
            inherited=first[0].inherited,
            added=first[0].added,
            explanations=(told,),
            also=tuple(dict.fromkeys(s.until for s in first if s.until != first[0].until)),
        )
        return born, coarse
    return None


def _holds(values: Mapping[Key, Tensor], dtype: torch.dtype) -> bool:
    """Whether this type can hold every number that is shown, and streams are shown at all."""
    told = [value for key, value in values.items() if layer_of(key.site) is not None and not key.site.endswith(EXEMPT)]
    return bool(told) and all(torch.equal(value.to(dtype).to(value.dtype), value) for value in told)


def worst(values: Mapping[Key, Tensor], natural: Mapping[Key, Tensor]) -> float:
    """The largest difference at any place both show."""
    return max(
        (difference(natural[key], value, key.site) for key, value in values.items() if key in natural), default=0.0
    )
