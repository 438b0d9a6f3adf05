"""Which places do arrays belong to that follow a fault, where nothing equals the reference any more?

order          the engine dumped in the order of computation: between two arrays that are known there may be one way only to put
               those between, by their shapes              embed  q  ?  ?  scores -> k, v
consequence    an array is taken for a place, the reference is replayed on it, and others now equal a place each

Either is a guess, and is kept only if the replay bears it out: most of the arrays paired so must then equal what the reference
makes of the ones before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

Fits = Mapping[str, frozenset[str]]
"""For every array without a place: the free places whose shape it fits."""


def only_way(names: Sequence[str], known: Mapping[str, str], fits: Fits, sites: Sequence[str]) -> dict[str, str]:
    """The places of arrays that can be put in one way only, if the known ones follow each other as the places do.

    `names` are all arrays in the order of the dump, `known` those with a place.
    """
    at = {site: i for i, site in enumerate(sites)}
    anchors = [at[known[name]] for name in names if name in known]
    if anchors != sorted(anchors) or len(anchors) < 2:
        return {}
    found: dict[str, str] = {}
    run: list[str] = []
    low = -1
    for name in (*names, ""):
        if name and name not in known:
            if fits.get(name):
                run.append(name)
            continue
        high = at[known[name]] if name else len(sites)
        found |= _between(tuple(run), low, high, fits, sites)
        run, low = [], high
    return found


def _between(run: tuple[str, ...], low: int, high: int, fits: Fits, sites: Sequence[str]) -> dict[str, str]:
    """The one way to put a run of arrays between two places; empty if there are none or several."""

    @cache
    def ways(first: int, after: int) -> int:
        if first == len(run):
            return 1
        return sum(ways(first + 1, i) for i in range(after + 1, high) if sites[i] in fits[run[first]])

    if not run or ways(0, low) != 1:
        return {}
    placed, after = {}, low
    for number, name in enumerate(run):
        after = next(i for i in range(after + 1, high) if sites[i] in fits[name] and ways(number + 1, i))
        placed[name] = sites[after]
    return placed
