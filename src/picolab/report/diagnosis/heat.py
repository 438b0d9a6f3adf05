"""A few numbers of a value as a heat map: one colour for above zero, another for below, the deeper the larger.

Cells of one shade are one path, with a class: the page's colours, in both themes, say what it looks like.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from picolab.diagnose.exhibit import Piece, Rows

SHADES = 6
SIDE = 10
"""Of a cell, in units of the drawing."""


def largest(*matrices: Rows) -> float:
    """The largest absolute value among them."""
    return max((abs(x) for rows in matrices for row in rows for x in row if x is not None), default=0.0)


def less(rows: Rows, other: Rows) -> Rows:
    """The difference, number by number; None where one of the two is not finite."""
    return tuple(
        tuple(None if x is None or y is None else x - y for x, y in zip(a, b, strict=True))
        for a, b in zip(rows, other, strict=True)
    )


def draw(rows: Rows, top: float, label: str) -> Markup:
    """A heat map in which `top` has the deepest colour."""
    tall = _tall(len(rows))
    paths: dict[str, list[str]] = {}
    for y, row in enumerate(rows):
        start = 0
        kinds = [_kind(x, top) for x in row]
        for end in range(1, len(kinds) + 1):
            if end == len(kinds) or kinds[end] != kinds[start]:
                if kinds[start]:
                    drawn = f"M{start * SIDE} {y * tall}h{(end - start) * SIDE}v{tall}H{start * SIDE}z"
                    paths.setdefault(kinds[start], []).append(drawn)
                start = end
    wide, high = SIDE * max((len(row) for row in rows), default=1), tall * max(len(rows), 1)
    cells = Markup("").join(Markup('<path class="{}" d="{}"/>').format(k, "".join(paths[k])) for k in sorted(paths))
    return Markup('<svg viewBox="0 0 {} {}" preserveAspectRatio="none" style="aspect-ratio:{} / {}" role="img" aria-label="{}">'
                  '<rect class="ground" width="{}" height="{}"/>{}</svg>').format(
        wide, high, wide, high, label, wide, high, cells)  # fmt: skip


def _tall(rows: int) -> int:
    return SIDE * (1 if rows > 4 else 3)


def _kind(x: float | None, top: float) -> str:
    """The class of a number: `p1`..`p6` above zero, `n1`..`n6` below, none for nearly nothing."""
    if x is None:
        return "none"
    level = min(SHADES, round(SHADES * abs(x) / top)) if top else 0
    return f"{'p' if x > 0 else 'n'}{level}" if level else ""


def panels(piece: Piece) -> list[tuple[str, str, Markup]]:
    """Heading, what it is, and picture of each panel of a fault."""
    size = largest(piece.reference, piece.target)
    apart = less(piece.target, piece.reference)
    worst = largest(apart)
    where = f"{piece.site} {piece.what}".strip()
    told = [
        ("Reference", "what is right on the same inputs", draw(piece.reference, size, f"{where}: the reference")),
        ("Target", "what was made", draw(piece.target, size, f"{where}: the target")),
        ("Difference", f"up to {worst:.2g}", draw(apart, worst, f"{where}: difference, up to {worst:.2g}")),
    ]
    if piece.after is not None:
        rest = less(piece.target, piece.after)
        left = largest(rest)
        told.append(
            ("The mistake made", "nothing is left" if left == 0 else f"up to {left:.1g} is left",
             draw(rest, worst, f"{where}: difference to the reference with the mistake, up to {left:.1e}"))
        )  # fmt: skip
    return told


def spans(numbers: Sequence[int]) -> str:
    """`3 to 15`, or `3`."""
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
