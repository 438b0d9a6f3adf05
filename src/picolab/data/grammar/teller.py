"""How is a story told? Draw cast and things, walk through the beats, tidy what no wording can know of its neighbours.

    Random(seed) -> plot -> cast, draws -> beat beat beat -> "a apple" to "an apple" -> one story

Only `rng.random()` is asked, so that a seed tells the same story under every version of Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from picolab.data.grammar.cast import draw_cast
from picolab.data.grammar.compiler import Parts, Plot, Slot, capital, load_plots

SHORTEST, LONGEST = 400, 900
"""Characters in a story; one that comes out shorter or longer is drawn again."""

# The sound decides, not the letter: "a unicorn", "a useful stone", but "an uncle", "an hour".
_ARTICLE = re.compile(r"\b([Aa]) (?=(?!uni|use|one\b)[aeiou]|hour\b|honest)")
_DOUBLE_STOP = re.compile(r'([?!])[.,]"|\.([.,])"')


def tell(rng: Random) -> str:
    """One story, drawn from all plots; the state of `rng` decides everything."""
    plots = load_plots()
    while True:
        story = tell_plot(plots[int(rng.random() * len(plots))], rng)
        if SHORTEST <= len(story) <= LONGEST:
            return story


def tell_plot(plot: Plot, rng: Random) -> str:
    """One story with this plot, of whatever length it comes out."""
    random = rng.random
    bound = draw_cast(plot.world, rng)
    for draw in plot.draws:
        # Two hiding places of one story must differ, or it would say "not in the box, but in the box".
        while True:
            values = [_text(value, bound, random) for value in draw.records[int(random() * len(draw.records))]]
            if values[0] not in bound.values():
                break
        for name, value in zip(draw.slots, values, strict=True):
            bound[name] = value
            bound[capital(name)] = capital(value)
    told = [
        _text(wordings[int(random() * len(wordings))], bound, random)
        for chance, wordings in plot.beats
        if chance == 1.0 or random() < chance
    ]
    # A choice of last words may end in a stop of its own: `"[Who?|You there]," said Tom` gives `"Who?," said Tom`.
    story = _DOUBLE_STOP.sub(r'\1\2"', " ".join(told))
    return _ARTICLE.sub(r"\1n ", story)


def _text(parts: Parts, bound: dict[str, str], random: Callable[[], float]) -> str:
    out: list[str] = []
    _walk(parts, bound, random, out)
    return "".join(out)


def _walk(parts: Parts, bound: dict[str, str], random: Callable[[], float], out: list[str]) -> None:
    for part in parts:
        kind = type(part)  # not isinstance: a Slot is a str too, and this line is most of the time spent
        if kind is str:
            out.append(part)
        elif kind is Slot:
            out.append(bound[part])
        else:
            _walk(part[int(random() * len(part))], bound, random, out)
