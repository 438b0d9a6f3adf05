"""Which place does an array without a name belong to? The one it equals, or resembles as no other.

equal       within a thousandth at the worst position, and ten times nearer than to any other place
alike       correlation 0.9, and nothing else comes near         sorted   the same numbers at every position, in another order

The last two find the arrays of the very line that is wrong: a rotation by other angles keeps every length, an activation of
another kind correlates, permuted lanes hold the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from picolab.diagnose.align_shapes import Reading
from picolab.diagnose.walk import Key, difference

EQUAL, NEARER = 1e-3, 10.0

Candidates = Mapping[str, Mapping[Key, Reading]]
"""For every place an array may belong to: its value there, in every pass."""


def closest(candidates: Candidates, made: Mapping[Key, Tensor]) -> tuple[str, str] | None:
    """The place whose value the array is, and in what sense; None if it is none's or two places' value."""
    off = sorted(
        (min(difference(made[key], one.value, key.site) for key, one in read.items()), site)
        for site, read in candidates.items()
    )
    if not off or off[0][0] > EQUAL:
        return None
    if len(off) > 1 and off[1][0] <= max(NEARER * off[0][0], 1e-6):
        return None
    return off[0][1], f"equal to {off[0][0]:.0e}"


def resembling(candidates: Candidates, made: Mapping[Key, Tensor]) -> tuple[float, str, str] | None:
    """How much the array resembles the place it resembles alone, which that is, and in what sense."""
    if len(candidates) == 1:
        (site,) = candidates
        return 0.0, site, "no other place has its shape"
    for measure, threshold, margin, says in MEASURES:
        likeness = sorted(
            ((max(measure(made[key], one.value, key.site) for key, one in read.items()), site)
             for site, read in candidates.items()),
            reverse=True,
        )  # fmt: skip
        if likeness[0][0] >= threshold and likeness[1][0] <= likeness[0][0] - margin if len(likeness) > 1 else False:
            return likeness[0][0], likeness[0][1], f"{says} {likeness[0][0]:.4f}"
    return None


def _correlation(made: Tensor, value: Tensor, site: str) -> float:
    a, b = (_seen(x, site).flatten() for x in _cut(made, value))
    return _cosine(a - a.mean(), b - b.mean())


def _sorted_correlation(made: Tensor, value: Tensor, site: str) -> float:
    """Blind to the order of lanes at every position, heads included; lengths must agree."""
    if site.endswith(("scores", "probs")):
        return 0.0
    a, b = (x.flatten(2).sort(dim=-1).values for x in _cut(made, value))
    lengths = (a.norm(dim=-1) / b.norm(dim=-1).clamp(min=1e-12)).log().abs().max() if a.numel() else torch.tensor(9.0)
    a, b = (x - x.mean(-1, keepdim=True) for x in (a, b))
    return _cosine(a.flatten(), b.flatten()) if float(lengths) < 1e-3 else 0.0


def _equal_lengths(made: Tensor, value: Tensor, site: str) -> float:
    """1 less how far the lengths of heads are apart: a rotation keeps them, whatever its angles."""
    if not site.endswith("_rope"):
        return 0.0
    a, b = (x.norm(dim=-1) for x in _cut(made, value))
    return 1.0 - float((a - b).norm() / a.norm().clamp(min=1e-12)) if a.shape == b.shape else 0.0


def _cut(made: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Both over the rows that the array shows, as finite float64."""
    rows = value.shape[1]
    made = made[:, -rows:] if made.ndim == value.ndim and made.shape[1] > rows else made
    return made.double().nan_to_num(0.0, 0.0, 0.0), value.double().nan_to_num(0.0, 0.0, 0.0)


def _seen(x: Tensor, site: str) -> Tensor:
    """Of scores, what a causal mask leaves."""
    if not site.endswith(("scores", "probs")):
        return x
    return x.masked_fill(~torch.ones(x.shape[-2:], dtype=torch.bool).tril(x.shape[-1] - x.shape[-2]), 0.0)


def _cosine(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape:
        return 0.0
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size else 0.0


MEASURES = (
    (_correlation, 0.9, 0.2, "correlation"),
    (_sorted_correlation, 0.9999, 0.005, "lanes sorted, correlation"),
    (_equal_lengths, 0.999, 0.05, "heads of equal length"),
)
"""What is measured, how much it must be, and how much more than at any other place."""
