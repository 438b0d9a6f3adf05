"""Rotary positions: each pair of lanes turns by an angle that grows with position. Su et al. 2021, arXiv:2104.09864.

    lanes of one head      0 1 2 .. half-1 | half half+1 ..         pair i = (lane i, lane half + i)
    angle of pair i        position * theta^(-2i / head_dim)

The score of a query and a key then depends on their distance only: rotating both by the same angle changes nothing. A model made to
read further than it was first trained turns its slow pairs more slowly still: `RopeScaling` says which, and by how much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from picolab.errors import BadSetting, UnknownName

Heads = Float[Tensor, "batch time heads head_dim"]

KINDS = {
    "llama3": "pairs that turn less than once in the old context are slowed (Llama Team 2024, arXiv:2407.21783)",
    "yarn": "the same with a linear ramp between, and sharper attention (Peng et al. 2023, arXiv:2309.00071)",
    "factors": "every pair is slowed by a number of its own",
}

LONGEST_TABLE = 1 << 16
"""Positions whose angles are kept in a table; a model that claims to read further has them computed when they are asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RopeScaling:
    """How the pairs of a model are slowed. `factor` and `original_context_length` are of `llama3` and `yarn`, `low_freq_factor`
    and `high_freq_factor` of `llama3`, `beta_fast` to `truncate` of `yarn`, `factors` of `factors`.

    `attention_factor` multiplies cosine and sine; 0 means 0.1 ln(factor) + 1. `truncate` rounds the ramp's ends outwards to
    whole pairs.
    """

    kind: str
    factor: float = 1.0
    original_context_length: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 0.0
    truncate: bool = True
    factors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownName("rope scaling", self.kind, KINDS)
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("kind", "factors", "truncate")}
        for name, value in [*numbers.items(), *(("factors", f) for f in self.factors)]:
            if not math.isfinite(value) or value < 0:
                raise BadSetting(f"`{name}` of the rope scaling is {value}", hint="it is a positive number")
        if self.kind == "factors":
            if not self.factors or not all(self.factors):
                raise BadSetting("a rope scaling of kind `factors` needs a factor above 0 for every pair of lanes")
        elif self.original_context_length < 1 or self.factor <= 0:
            raise BadSetting(
                f"a rope scaling of kind `{self.kind}` by {self.factor} from {self.original_context_length} positions",
                hint="it needs `factor` and `original_context_length`",
            )
        if self.kind == "llama3" and not 0 < self.low_freq_factor < self.high_freq_factor:
            raise BadSetting(
                f"`low_freq_factor` {self.low_freq_factor} is not below `high_freq_factor` {self.high_freq_factor}"
            )
        if self.kind == "yarn" and not 0 < self.beta_slow <= self.beta_fast:
            raise BadSetting(f"`beta_slow` {self.beta_slow} is not at most `beta_fast` {self.beta_fast}")

    @classmethod
    def of(cls, value: RopeScaling | Mapping[str, Any]) -> RopeScaling:
        """A scaling from plain data, as it stands in a config.json or a settings file."""
        if isinstance(value, RopeScaling):
            return value
        known = {f.name: f.default for f in fields(cls)}
        given: dict[str, Any] = {}
        for name, item in value.items():
            if name not in known:
                raise UnknownName("setting of a rope scaling", str(name), known)
            try:
                given[name] = _READ.get(type(known[name]), str)(item)
            except (TypeError, ValueError, OverflowError) as error:
                raise BadSetting(f"`{name}` of the rope scaling is {item!r}") from error
        if "kind" not in given:
            raise BadSetting("the rope scaling has no `kind`", hint="kinds: " + ", ".join(f"`{k}`" for k in KINDS))
        return cls(**given)


_READ: dict[type, Callable[[Any], Any]] = {
    int: int,
    float: float,
    bool: bool,
    tuple: lambda numbers: tuple(float(number) for number in numbers),
}
"""Plain data to the types of the fields: a file may write 8 for 8.0, and JSON has no tuples."""


class Rotation(NamedTuple):
    """Cosine and sine of every pair's angle, the same for every head: `(batch or 1, time, 1, half)`."""

    cos: Float[Tensor, "#batch time 1 half"]
    sin: Float[Tensor, "#batch time 1 half"]


def frequencies(head_dim: int, theta: float, scaling: RopeScaling | None = None) -> Float[Tensor, " half"]:
    """Radians a position for each pair of lanes, float32: theta^(-2i / head_dim), slowed where a scaling says so."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    plain = 1.0 / theta**exponent
    if scaling is None:
        return plain
    if scaling.kind == "llama3":
        return _llama3(plain, scaling)
    if scaling.kind == "yarn":
        return _yarn(plain, head_dim, theta, scaling)
    if len(scaling.factors) != len(plain):
        raise BadSetting(f"{len(scaling.factors)} rope factors for {len(plain)} pairs of lanes")
    return plain / torch.tensor(scaling.factors, dtype=torch.float32)


def magnitude(scaling: RopeScaling | None) -> float:
    """What cosine and sine are multiplied by: 1, but for YaRN, which sharpens attention as the context grows."""
    if scaling is None or scaling.kind != "yarn":
        return 1.0
    return scaling.attention_factor or (0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0)


def _llama3(plain: Tensor, scaling: RopeScaling) -> Tensor:
    """Slow pairs with fewer than `low_freq_factor` turns in the old context; leave those with more than `high`; blend between."""
    turns = scaling.original_context_length / (2 * math.pi / plain)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = (turns - low) / (high - low)
    blended = (1 - kept) * plain / scaling.factor + kept * plain
    wavelength = 2 * math.pi / plain
    slow = wavelength > scaling.original_context_length / low
    fast = wavelength < scaling.original_context_length / high
    return torch.where(slow, plain / scaling.factor, torch.where(fast, plain, blended))


def _yarn(plain: Tensor, head_dim: int, theta: float, scaling: RopeScaling) -> Tensor:
    """Slow the pairs after the one that turns `beta_slow` times in the old context, none before `beta_fast`; a ramp between."""

    if theta <= 1:
        raise BadSetting(f"`rope_theta` {theta} turns no pair more slowly than another", hint="10000.0 is usual")

    def pair_that_turns(times: float) -> float:
        return head_dim * math.log(scaling.original_context_length / (times * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    high += 0.001 if low == high else 0  # a ramp needs a width
    slowed = ((torch.arange(len(plain), dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    # transformers keeps 1 - slowed, and float32 is not exact about it.
    kept = 1 - slowed
    wavelength = theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    return 1.0 / (scaling.factor * wavelength) * (1 - kept) + plain * kept


class Rope(nn.Module):
    """The angles of every position, computed once: `positions -> Rotation`. No parameter; not part of a checkpoint.

    `backwards` turns every pair the other way: scores are the same, the rotated queries and keys are not.
    """

    cos: Tensor
    sin: Tensor
    speed: Tensor

    def __init__(
        self,
        context_length: int,
        head_dim: int,
        theta: float,
        scaling: RopeScaling | None = None,
        *,
        backwards: bool = False,
    ) -> None:
        super().__init__()
        self.context_length, self.head_dim, self.theta, self.scaling = context_length, head_dim, theta, scaling
        self.magnitude, self.sense = magnitude(scaling), -1.0 if backwards else 1.0
        self.tabulate()

    @property
    def tabulated(self) -> bool:
        return self.context_length <= LONGEST_TABLE

    def tabulate(self) -> None:
        """Compute what is kept: the table, or for a long context the frequencies. A module built without memory (on torch's
        `meta` device, to be filled from a file) needs this once more, since no file holds these numbers."""
        speed = frequencies(self.head_dim, self.theta, self.scaling)
        if not self.tabulated:
            self.register_buffer("speed", speed, persistent=False)
            return
        turn = torch.outer(torch.arange(self.context_length, dtype=torch.float32), speed)
        self.register_buffer("cos", turn.cos() * self.magnitude, persistent=False)
        self.register_buffer("sin", turn.sin() * (self.magnitude * self.sense), persistent=False)

    def forward(self, positions: Int64[Tensor, "#batch time"]) -> Rotation:
        if self.tabulated:
            return Rotation(self.cos[positions].unsqueeze(-2), self.sin[positions].unsqueeze(-2))
        turn = positions[..., None, None].to(torch.float32) * self.speed
        return Rotation(turn.cos() * self.magnitude, turn.sin() * (self.magnitude * self.sense))


def rotate(x: Heads, turn: Rotation) -> Heads:
    """Turn the pairs (i, half + i) of every head by their angles."""
    low, high = x.chunk(2, dim=-1)
    cos, sin = turn.cos.to(x.dtype), turn.sin.to(x.dtype)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


def rotate_plainly(x: Heads, positions: Int64[Tensor, "#batch time"], theta: float) -> Heads:
    """`rotate` as complex multiplication, straight from the paper: (low + i high) * e^(i angle)."""
    half = x.shape[-1] // 2
    angle = positions.unsqueeze(-1).to(torch.float64) * frequencies(x.shape[-1], theta).to(torch.float64)
    turned = torch.complex(x[..., :half].double(), x[..., half:].double()) * torch.polar(
        torch.ones_like(angle), angle
    ).unsqueeze(-2)
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)
