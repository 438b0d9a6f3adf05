"""An array without a known name: which place does it belong to, by its numbers alone?

equal         to one place's value, and to no other's
by order      the dump's order leaves one place for it, and the replayed reference bears that out
resembling    one place alone, the most of all arrays: one at a time, since the next replay stands on it
consequence   taken for a place, it makes others equal a place each
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from picolab.diagnose.align_book import Arrays, Book, far_from, free_places, read_as, take
from picolab.diagnose.align_content import EQUAL, closest, resembling
from picolab.diagnose.align_order import only_way
from picolab.diagnose.verdict import Pair
from picolab.diagnose.walk import Key

MOST_ROUNDS = 24
"""How often the reference is replayed to recognise arrays after a fault."""

GUESSES = 2
"""Arrays that are tried at every place they fit."""


def pair_by_content(book: Book, named: Mapping[str, Arrays]) -> None:
    """Arrays without a known name: what equals one place alone; then, the reference replayed on those, what resembles one alone."""
    left = {name: arrays for name, arrays in named.items() if name not in book.pairs}
    made: Mapping[Key, Tensor] = book.natural
    for number in range(MOST_ROUNDS):
        if not left:
            return
        if number or book.values:
            made = book.places.replay(book.values)
        taken = _pair_equal(book, left, made) or _pair_by_order(book, named, left)
        taken = taken or _pair_resembling(book, left, made) or _pair_by_consequence(book, left)
        if not taken:
            break
        left = {name: arrays for name, arrays in left.items() if name not in taken}
    for name, arrays in left.items():
        fits = any(read_as(book, arrays, site) for site in book.places.sites)
        how = "it resembles no place alone" if fits else "no place has a value of its shape"
        book.pairs[name] = Pair(name=name, site=None, matcher="unpaired", how=how)


def _pair_equal(book: Book, left: Mapping[str, Arrays], made: Mapping[Key, Tensor]) -> set[str]:
    """Every array that is one place's value and no other's."""
    taken = set()
    for name, arrays in left.items():
        found = closest(free_places(book, arrays, made), made)
        if found is not None:
            site, how = found
            take(book, name, site, read_as(book, arrays, site, made), "content", how)
            taken.add(name)
    return taken


def _pair_resembling(book: Book, left: Mapping[str, Arrays], made: Mapping[Key, Tensor]) -> set[str]:
    """The array that most resembles one place alone: one at a time, since the next replay stands on it."""
    found = [
        (likeness, name, site, how)
        for name, arrays in left.items()
        if (best := resembling(free_places(book, arrays, made), made)) is not None
        for likeness, site, how in [best]
    ]
    if not found:
        return set()
    _, name, site, how = max(found)
    take(book, name, site, read_as(book, left[name], site, made), "content", how)
    return {name}


def _pair_by_order(book: Book, named: Mapping[str, Arrays], left: Mapping[str, Arrays]) -> set[str]:
    """Arrays that the order of the dump leaves one place for, if the reference replayed on them bears it out."""
    known = {name: pair.site for name, pair in book.pairs.items() if pair.site in book.places.sites and pair.site}
    fits = {name: frozenset(free_places(book, arrays, book.natural)) for name, arrays in left.items()}
    guess = only_way(list(named), known, fits, book.places.sites)
    read = {name: read_as(book, left[name], site) for name, site in guess.items()}
    values = {key: one.value for values in read.values() for key, one in values.items()}
    made = book.places.replay({**book.values, **values}) if guess else {}
    right = {name for name in guess if all(far_from(made, key, one.value) <= EQUAL for key, one in read[name].items())}
    if 2 * len(right) < len(guess) or len(right) < 2:
        return set()
    for name, site in guess.items():
        how = "equal, its place told by the order" if name in right else "its place told by the order of the arrays"
        take(book, name, site, read[name], "content", how)
    return set(guess)


def _pair_by_consequence(book: Book, left: Mapping[str, Arrays]) -> set[str]:
    """The array that, taken for a place, makes others equal a place each: more of them than any other guess."""
    told: list[tuple[int, str, str]] = []
    for name in list(left)[:GUESSES]:
        for site, read in free_places(book, left[name], book.natural).items():
            given = {**book.values, **{key: one.value for key, one in read.items()}}
            made = book.places.replay(given)
            others = [arrays for other, arrays in left.items() if other != name]
            equal = [closest(free_places(book, arrays, made), made) for arrays in others]
            told.append((len({found[0] for found in equal if found is not None} - {site}), name, site))
    told.sort(reverse=True)
    if not told or told[0][0] < 2 or (len(told) > 1 and told[1][0] * 2 > told[0][0]):
        return set()
    count, name, site = told[0]
    take(book, name, site, read_as(book, left[name], site), "content", f"{count} other arrays follow from it")
    return {name}
