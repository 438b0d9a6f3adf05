"""The evidence of a finding as people read it: numbers, short lists, and long lists as a small curve.

{"theta": 10000.0}                  theta   10000
{"loss by position": [4.1, 3.9 ..]} ▁▂▃▅▇   4.1 to 3.2
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

CURVE = 5
"""Numbers in a list from which on they are drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """One piece of evidence: its name, its words, and a curve where it is a list of many numbers."""

    name: str
    text: str
    curve: Markup | None = None


def shown_evidence(evidence: Mapping[str, Any]) -> tuple[Shown, ...]:
    """Every piece, in order."""
    return tuple(
        Shown(name=str(name).replace("_", " "), text=said(value), curve=_curve(value))
        for name, value in evidence.items()
        if value is not None
    )


def said(value: Any, most: int = 12) -> str:
    """A value in words, long ones cut."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {said(one)}" for key, one in list(value.items())[:most]) or "nothing"
    if isinstance(value, Sequence) and not isinstance(value, str):
        if _numbers(value) and len(value) >= CURVE:
            return f"{_number(float(value[0]))} to {_number(float(value[-1]))}"
        shown = ", ".join(f"({said(one)})" if isinstance(one, list | tuple) else said(one) for one in value[:most])
        return (shown + (", .." if len(value) > most else "")) or "none"
    return str(value)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value == int(value) and abs(value) < 1e9:
        return str(int(value))
    return f"{value:.4g}" if 1e-3 <= abs(value) < 1e7 else f"{value:.2e}"


def _numbers(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(x, int | float) and not isinstance(x, bool) for x in value)
    )


def _curve(value: Any) -> Markup | None:
    """A line from left to right, its lowest value at the bottom."""
    if not _numbers(value) or len(value) < CURVE:
        return None
    finite = [float(x) for x in value if math.isfinite(x)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    if low >= 0 and low < 0.5 * high:
        low = 0.0
    points = [
        f"{200 * i / (len(value) - 1):.1f},{36 - 32 * ((float(x) - low) / (high - low) if high > low else 0.5):.1f}"
        for i, x in enumerate(value)
        if math.isfinite(x)
    ]
    return Markup(
        '<svg class="spark" viewBox="0 0 200 40" role="img" aria-label="{}"><polyline points="{}"/></svg>'
    ).format(f"{len(value)} values from {_number(low)} to {_number(high)}", " ".join(points))
