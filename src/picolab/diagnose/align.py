"""Which array of somebody's engine is which value of the reference? Told by its name where that is known, else by its numbers.

    blocks.0.attention.q_rope             the site's own name
    model.layers.0.self_attn.q_proj       a name of transformers or llama.cpp (align_names.py), fused arrays cut apart
                                          (align_known.py)
    "buf_17"                              its shape and content: the reference is replayed on what is paired so far, and
                                          an array that one place alone resembles belongs there (align_foreign.py)

Axes may lie in any order (align_book.py). What resembles two places, or none, stays unpaired and is said to be: a wrong pair
would be a wrong verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from picolab.diagnose.align_book import Book, Places
from picolab.diagnose.align_foreign import pair_by_content
from picolab.diagnose.align_known import lanes_in_pairs, pair_as, pair_named
from picolab.diagnose.align_names import Meaning, meaning_of
from picolab.diagnose.verdict import Pair
from picolab.diagnose.walk import Key, Schedule, local
from picolab.trace.recording import DECODE, PREFILL, Entry, Recording
from picolab.trace.sites import known


@dataclass(frozen=True, slots=True)
class Aligned:
    """The target's values by the reference's places, how every array was paired, and what should be said about it."""

    values: dict[Key, Tensor]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]


def align(recording: Recording, places: Places, schedule: Schedule, natural: Mapping[Key, Tensor]) -> Aligned:
    """The recording's values at the reference's places, `natural` being the reference's own."""
    positions = {(phase, step): at for phase, step, at in schedule.passes()}
    book = Book(places, natural, positions, int(recording.tokens.shape[0]))
    named = _by_name(recording)
    foreign: dict[str, Meaning] = {}
    for name, arrays in named.items():
        if name in places.sites:
            pair_as(book, name, arrays, (name,), "site")
        elif known(name) is not None:
            book.pairs[name] = Pair(name=name, site=None, matcher="unpaired", how="the reference has no such place")
        elif (meaning := meaning_of(name, places.sites, embeds_plainly=places.embeds_plainly)) is not None:
            foreign[name] = meaning
    pairwise = lanes_in_pairs(book, named, foreign)
    for name, meaning in foreign.items():
        pair_named(book, name, named[name], meaning, pairwise=pairwise)
    pair_by_content(book, named)
    return Aligned(book.values, tuple(book.pairs[name] for name in named), _notes(book, pairwise))


def _by_name(recording: Recording) -> dict[str, dict[tuple[str, int], list[Entry]]]:
    named: dict[str, dict[tuple[str, int], list[Entry]]] = {}
    for entry in recording.entries:
        if entry.phase in (PREFILL, DECODE):
            named.setdefault(entry.site, {}).setdefault((entry.phase, entry.step), []).append(entry)
    return named


def _notes(book: Book, pairwise: bool) -> tuple[str, ...]:
    notes = []
    kinds: dict[str, int] = {}
    for pair in book.pairs.values():
        kinds[pair.matcher] = kinds.get(pair.matcher, 0) + 1
    words = {"site": "by the site's own name", "content": "by shape and content"}
    if set(kinds) - {"site"}:
        told = [f"{n} {words.get(kind, 'by ' + kind)}" for kind, n in kinds.items() if kind != "unpaired"]
        notes.append(f"arrays paired: {', '.join(told) or 'none'}")
    loose = [pair for pair in book.pairs.values() if pair.matcher == "unpaired"]
    for how in dict.fromkeys(pair.how for pair in loose):
        names = [f"`{pair.name}`" for pair in loose if pair.how == how]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        notes.append(f"not paired: {', '.join(names[:3])}{more}: {how}")
    if pairwise:
        notes.append(
            "lanes of queries and keys lie as adjacent pairs in the target and were put in halves: a layout, no fault"
        )
    if book.texts > 1:
        notes.append(f"the bundle holds {book.texts} texts: the first was compared")
    short = {local(k.site) for k, v in book.values.items() if v.shape[1] < book.natural[k].shape[1]}
    if short - {"attention.scores", "attention.probs"}:
        notes.append(f"only the last positions are shown of {', '.join(sorted(short))}")
    return tuple(notes)
