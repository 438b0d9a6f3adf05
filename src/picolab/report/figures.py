"""Numbers as people read them: with a unit, no more digits than they carry, thousands apart.

6861440 -> 6.86 M        1268000000 -> 1.18 GiB        3.41285 -> 3.413        None -> –
"""

from __future__ import annotations

NOTHING = "–"


def loss(value: float | None) -> str:
    """Nats or bits, three decimals: seeds move the third."""
    return NOTHING if value is None else f"{value:.3f}"


def whole(value: float | None) -> str:
    """A count in full, thousands apart by a comma."""
    return NOTHING if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """A count in three digits: 950, 12.3 k, 6.86 M."""
    if value is None:
        return NOTHING
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        # 999,950 would be "1000 k": what rounds up to the next unit belongs to it.
        if abs(value) >= size * 0.9995:
            return f"{_three(value / size)} {unit}"
    return f"{value:.0f}"


def memory(value: float | None) -> str:
    """Bytes in binary units: 512 B, 34.5 MiB, 1.18 GiB."""
    if value is None:
        return NOTHING
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(value) >= size * 0.9995:
            return f"{_three(value / size)} {unit}"
    return f"{value:.0f} B"


def seconds(value: float | None) -> str:
    """A duration: 0.4 s, 12 s, 3 min 20 s, 2 h 05 min."""
    if value is None:
        return NOTHING
    if value < 9.95:
        return f"{value:.1f} s"
    total = round(value)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    return f"{total // 3600} h {total % 3600 // 60:02d} min"


def printable(text: str) -> str:
    """Text that a page can hold: control characters as their pictures, halves of characters as the replacement sign."""
    whole_text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(chr(0x2400 + ord(c)) if ord(c) < 32 and c not in "\n\t" else c for c in whole_text)


def _three(value: float) -> str:
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}"
