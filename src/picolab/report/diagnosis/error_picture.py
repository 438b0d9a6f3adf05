"""One picture of a comparison: the error at every place, from the embedding to the logits, over the error of every position.

    10^0  ___________________•——•——•——•      error                     each place one column, in the order of computation
          ____________/                      what a line adds          1, 2 ..  where a fault is born
    10^-6 - - - - - - - - - - - - - - -      what rounding may make
    token 0   ░░░░░░░░░▒▒▒▓▓▓▓▓▓▓▓▓▓▓
    token 1   ░░░░░░░░▒▒▒▓▓▓▓▓▓▓▓▓▓▓▓        the same, position by position: blank is rounding

Drawn here as SVG with classes, so that one file holds both themes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from markupsafe import Markup, escape

from picolab.diagnose.exhibit import Exhibit, Place
from picolab.trace.sites import layer_of

WIDTH, LEFT, RIGHT = 1000.0, 92.0, 10.0
TOP, CHART, ROW, MOST_ROWS = 22.0, 210.0, 11.0, 40
NAMED = 40
"""Columns that can each have their name below; with more, blocks have theirs."""

SHADES = (1e-3, 1e-2, 0.1, 0.3, 1.0)
"""Errors from which on a cell is a shade darker; the palest is just above rounding, the darkest as large as the value itself."""

Spell = Callable[[int], str]


def draw_errors(shown: Exhibit, births: Mapping[str, int], spell: Spell) -> Markup:
    """The picture; `births` are the numbers of faults by the place where each is born."""
    places, rows = shown.places, _rows(shown)
    scale = _Scale(places)
    under = TOP + CHART + 26
    labels = 96.0 if len(places) <= NAMED else 22.0
    height = under + ROW * len(rows) + labels
    parts = [
        *_grid(scale, len(places)),
        *_blocks(places, under, ROW * len(rows), named=len(places) > NAMED),
        _line("allowed", [scale.y(place.allowed) for place in places], stepped=True),
        _line("error", [scale.y(place.error) for place in places]),
    ]
    if any(place.after is not None for place in places):
        parts.append(_line("after", [scale.y(place.after or 0.0) for place in places]))
    parts += _added(places, scale, births)
    parts += _cells(shown, rows, under)
    parts += _tokens(shown, rows, under, spell)
    if len(places) <= NAMED:
        parts += _names(places, under + ROW * len(rows))
    parts.append(Markup('<rect class="cursor" x="0" y="{}" width="{:.2f}" height="{:.0f}"/>').format(
        TOP, _width(len(places)), under - TOP + ROW * len(rows)))  # fmt: skip
    says = f"Error at {len(places)} places, from {places[0].site} to {places[-1].site}, and at every position"
    return Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}" data-left="{}" data-width="{:.3f}">{}</svg>').format(
        WIDTH, height, says, LEFT, _width(len(places)), Markup("").join(parts))  # fmt: skip


class _Scale:
    """Errors as heights: decades, from below the smallest rounding to above the largest error."""

    def __init__(self, places: Sequence[Place]) -> None:
        seen = [p.error for p in places] + [p.added or 0.0 for p in places]
        largest = max((x for x in seen if math.isfinite(x)), default=1.0)
        least = min((p.may_add or p.allowed for p in places), default=1e-7)
        self.high = max(math.ceil(math.log10(max(largest, 1e-12)) + 0.05), math.ceil(math.log10(max(least, 1e-12))) + 1)
        self.low = min(math.floor(math.log10(max(least, 1e-12))), self.high - 2) - 1

    def y(self, error: float) -> float:
        if math.isnan(error) or error <= 0:
            return TOP + CHART
        power = self.high if math.isinf(error) else math.log10(error)
        return TOP + CHART * (1 - min(max((power - self.low) / (self.high - self.low), 0.0), 1.0))


def _width(count: int) -> float:
    return (WIDTH - LEFT - RIGHT) / max(count, 1)


def _x(column: float, count: int) -> float:
    return LEFT + column * _width(count)


def _grid(scale: _Scale, count: int) -> Iterator[Markup]:
    step = 1 if scale.high - scale.low <= 9 else 2
    for power in range(scale.low, scale.high + 1, step):
        y = scale.y(10.0**power)
        kind = "base" if power == scale.low else "grid"
        name = "0" if power == scale.low else f"10{_raised(power)}"
        yield Markup('<path class="{}" d="M{} {:.1f}H{}"/>').format(kind, LEFT, y, WIDTH - RIGHT)
        yield Markup('<text class="end-label" x="{}" y="{:.1f}">{}</text>').format(LEFT - 8, y + 4, name)


def _raised(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _blocks(places: Sequence[Place], under: float, deep: float, *, named: bool) -> Iterator[Markup]:
    """Lines between blocks, and their names."""
    runs: list[tuple[int | None, int, int]] = []
    for column, place in enumerate(places):
        layer = layer_of(place.site)
        if runs and runs[-1][0] == layer:
            runs[-1] = (layer, runs[-1][1], column + 1)
        else:
            runs.append((layer, column, column + 1))
    room = 0.0
    for layer, start, stop in runs:
        left, right = _x(start, len(places)), _x(stop, len(places))
        if start:
            yield Markup('<path class="block" d="M{:.1f} {}V{:.1f}"/>').format(left, TOP, under + deep)
        if layer is None or left < room:
            continue
        word = f"block {layer}" if right - left > 52 else str(layer)
        if right - left > 9 * len(word) * 0.8 or not named:
            yield Markup('<text class="name" x="{:.1f}" y="{}">{}</text>').format((left + right) / 2, TOP - 7, word)
            room = (left + right) / 2 + 4.5 * len(word)


def _line(kind: str, heights: Sequence[float], *, stepped: bool = False) -> Markup:
    count, points = len(heights), []
    for column, y in enumerate(heights):
        if stepped:
            points += [f"{_x(column, count):.1f},{y:.1f}", f"{_x(column + 1, count):.1f},{y:.1f}"]
        else:
            points.append(f"{_x(column + 0.5, count):.1f},{y:.1f}")
    drawn = Markup('<polyline class="{}" points="{}"/>').format(kind, " ".join(points))
    if stepped or count > 120:
        return drawn
    dots = "".join(f"M{point.replace(',', ' ')}h0" for point in points)
    return drawn + Markup('<path class="{} dots" d="{}"/>').format(kind, dots)


def _added(places: Sequence[Place], scale: _Scale, births: Mapping[str, int]) -> Iterator[Markup]:
    """What a line itself adds, where that is more than rounding; a number where a fault is born."""
    for column, place in enumerate(places):
        x = _x(column + 0.5, len(places))
        if place.added is not None and place.may_add is not None and not place.added <= place.may_add:
            yield Markup('<path class="added" d="M{:.1f} {:.1f}V{:.1f}"/>').format(x, TOP + CHART, scale.y(place.added))
        if place.site in births:
            mark = (
                '<g class="birth"><circle cx="{0:.1f}" cy="{1:.1f}" r="9"/><text x="{0:.1f}" y="{2:.1f}">{3}</text></g>'
            )
            yield Markup(mark).format(x, TOP + CHART, TOP + CHART + 4, births[place.site])


def _rows(shown: Exhibit) -> list[int]:
    """The positions drawn: of many, the first."""
    return list(range(min(len(shown.tokens), MOST_ROWS)))


def shade(error: float | None, allowed: float) -> int:
    """0 for rounding, then darker up to the size of the value itself; -1 where nothing is shown."""
    if error is None:
        return -1
    if error <= allowed:
        return 0
    return 1 + sum(error >= least for least in SHADES)


def _cells(shown: Exhibit, rows: Sequence[int], under: float) -> Iterator[Markup]:
    """Cells of one shade as one path; neighbours in a column as one rectangle."""
    count, wide = len(shown.places), _width(len(shown.places))
    paths: dict[int, list[str]] = {}
    for column, place in enumerate(shown.places):
        start = 0
        levels = [shade(place.by_position[row], place.allowed) for row in rows]
        for end in range(1, len(levels) + 1):
            if end == len(levels) or levels[end] != levels[start]:
                if levels[start] >= 0:
                    x, y = _x(column, count), under + ROW * start
                    paths.setdefault(levels[start], []).append(
                        f"M{x:.2f} {y:.1f}h{max(wide - 0.6, wide * 0.7):.2f}v{ROW * (end - start) - 0.8:.1f}H{x:.2f}z"
                    )
                start = end
    for level in sorted(paths):
        yield Markup('<path class="shade{}" d="{}"/>').format(level, "".join(paths[level]))


def _tokens(shown: Exhibit, rows: Sequence[int], under: float, spell: Spell) -> Iterator[Markup]:
    for row in rows:
        word = spell(shown.tokens[row]).replace("\n", "⏎")
        word = word if len(word) <= 9 else word[:8] + "…"
        y = under + ROW * row + 9
        yield Markup('<text class="token" x="{}" y="{:.1f}">{}</text>').format(LEFT - 8, y, word)
        yield Markup('<text class="position" x="0" y="{:.1f}">{}</text>').format(y, row)
    if 0 < shown.prefill < len(rows):
        y = under + ROW * shown.prefill - 0.4
        yield Markup('<path class="step" d="M{} {:.1f}H{}"><title>below: one token at a time</title></path>').format(
            LEFT - 4, y, WIDTH - RIGHT
        )


def _names(places: Sequence[Place], y: float) -> Iterator[Markup]:
    for column, place in enumerate(places):
        name = place.site if layer_of(place.site) is None else place.site.split(".", 2)[2]
        x = _x(column + 0.5, len(places))
        yield Markup('<text class="site" transform="translate({:.1f} {:.1f}) rotate(-58)">{}</text>').format(
            x + 4, y + 12, escape(name.replace("attention.", "attn."))
        )
