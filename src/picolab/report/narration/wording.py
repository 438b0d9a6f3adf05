"""How are numbers and names said in a sentence? Three figures, names in backticks, lists with one `and`."""

from __future__ import annotations

import math
from collections.abc import Sequence


def figure(x: float) -> str:
    """A number as one reads it: 0.812, 14.2, 1,480, 3.1e-05."""
    if not math.isfinite(x):
        return "not finite" if math.isnan(x) else "inf" if x > 0 else "-inf"
    if x == 0:
        return "0"
    x = float(f"{x:.3g}") if abs(x) < 1000 else x
    if 1e-3 <= abs(x) < 1e4:
        digits = max(0, 2 - math.floor(math.log10(abs(x))))
        return f"{x:,.{digits}f}"
    if 1e4 <= abs(x) < 1e7:
        return f"{x:,.0f}"
    return f"{x:.1e}"


def amount(n: float) -> str:
    """A count with a unit for thousands: 260 k, 6.9 M, 561.0 M, 1.2 G."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= limit:
            return f"{n / limit:.1f} {unit}"
    return f"{n:,.0f}"


def size(n_bytes: float) -> str:
    """Bytes in powers of 1000."""
    return f"{amount(n_bytes)}B" if n_bytes >= 1000 else f"{n_bytes:.0f} B"


def share(x: float) -> str:
    """A part of one as a percentage; what is neither none nor all is not said to be."""
    if 0 < x < 0.001:
        return "under 0.1 %"
    if 0.999 < x < 1:
        return "over 99.9 %"
    return f"{100 * x:.0f} %" if x in (0, 1) or 0.1 <= x <= 0.9 else f"{100 * x:.1f} %"


def listed(items: Sequence[str]) -> str:
    """a, b and c"""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def plural(n: int, one: str, many: str | None = None) -> str:
    """1 head, 2 heads"""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def shaped(shape: Sequence[int]) -> str:
    """1 x 6 x 64"""
    return " x ".join(f"{n:,}" for n in shape)
