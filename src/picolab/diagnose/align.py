"""Which array of somebody's engine is which value of the reference? Told by its name where that is known, else by its numbers.

    blocks.0.attention.q_rope             the site's own name
    model.layers.0.self_attn.q_proj       a name of transformers or llama.cpp (align_names.py), fused arrays cut apart
    "buf_17"                              its shape and content: the reference is replayed on what is paired so far, and
                                          an array that one place alone resembles belongs there (align_content.py)

Axes may lie in any order (align_shapes.py). What resembles two places, or none, stays unpaired and is said to be: a wrong pair
would be a wrong verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.align_content import EQUAL, closest, resembling
from picolab.diagnose.align_names import LLAMA_CPP, Meaning, is_unscaled, meaning_of
from picolab.diagnose.align_order import only_way
from picolab.diagnose.align_shapes import Reading, readings
from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.verdict import Pair
from picolab.diagnose.walk import Key, Schedule, difference, local, walk
from picolab.trace.engines.llama_cpp_sites import TURNED
from picolab.trace.recording import DECODE, PREFILL, Entry, Recording
from picolab.trace.sites import known

RESEMBLES, FAR = 1e-2, 0.1
"""Below the first an array is a place's value in this order of lanes; above the second it is not."""

MOST_ROUNDS = 24
"""How often the reference is replayed to recognise arrays after a fault."""

GUESSES = 2
"""Arrays that are tried at every place they fit."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """The target's values by the reference's places, how every array was paired, and what should be said about it."""

    values: dict[Key, Tensor]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where arrays can belong: the sites in the order of computation, how wide heads are, and what follows from given values."""

    sites: tuple[str, ...]
    embeds_plainly: bool
    n_heads: int
    n_kv_heads: int
    head_dim: int
    replay: Callable[[Mapping[Key, Tensor]], Mapping[Key, Tensor]]

    @classmethod
    def of(cls, anatomy: Anatomy, schedule: Schedule) -> Places:
        """Those of a model, which can be replayed on what is given."""
        config: Any = anatomy.model.config
        heads = int(getattr(config, "n_heads", 1))
        return cls(
            sites=anatomy.sites,
            embeds_plainly=not any(hasattr(anatomy.model, more) for more in ("position_embedding", "embed_norm")),
            n_heads=heads,
            n_kv_heads=int(getattr(config, "n_kv_heads", heads)),
            head_dim=int(getattr(config, "head_dim", config.d_model // heads)) if hasattr(config, "d_model") else 1,
            replay=lambda given: walk(anatomy, schedule, given=given),
        )


@dataclass(slots=True)
class _Book:
    """What is paired so far."""

    places: Places
    natural: Mapping[Key, Tensor]
    positions: Mapping[tuple[str, int], tuple[int, ...]]
    texts: int
    values: dict[Key, Tensor] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)


Arrays = Mapping[tuple[str, int], Sequence[Entry]]
"""The entries of one name, by pass."""


def align(recording: Recording, places: Places, schedule: Schedule, natural: Mapping[Key, Tensor]) -> Aligned:
    """The recording's values at the reference's places, `natural` being the reference's own."""
    positions = {(phase, step): at for phase, step, at in schedule.passes()}
    book = _Book(places, natural, positions, int(recording.tokens.shape[0]))
    named = _by_name(recording)
    foreign: dict[str, Meaning] = {}
    for name, arrays in named.items():
        if name in places.sites:
            _pair(book, name, arrays, (name,), "site")
        elif known(name) is not None:
            book.pairs[name] = Pair(name=name, site=None, matcher="unpaired", how="the reference has no such place")
        elif (meaning := meaning_of(name, places.sites, embeds_plainly=places.embeds_plainly)) is not None:
            foreign[name] = meaning
    pairwise = _lanes_in_pairs(book, named, foreign)
    for name, meaning in foreign.items():
        _pair_named(book, name, named[name], meaning, pairwise=pairwise)
    _pair_by_content(book, named)
    return Aligned(book.values, tuple(book.pairs[name] for name in named), _notes(book, pairwise))


def _by_name(recording: Recording) -> dict[str, dict[tuple[str, int], list[Entry]]]:
    named: dict[str, dict[tuple[str, int], list[Entry]]] = {}
    for entry in recording.entries:
        if entry.phase in (PREFILL, DECODE):
            named.setdefault(entry.site, {}).setdefault((entry.phase, entry.step), []).append(entry)
    return named


def _pair(book: _Book, name: str, arrays: Arrays, sites: Sequence[str], matcher: str) -> None:
    """One of these sites: the one whose value the array is nearest to, the first where it is near to none."""
    chosen = sites[0]
    tried = {site: read for site in sites if (read := _read(book, arrays, site))}
    if len(tried) > 1:
        off = {
            site: min(_off(book.natural, key, one.value) for key, one in read.items()) for site, read in tried.items()
        }
        best = min(off, key=off.__getitem__)
        chosen = best if off[best] < FAR else next(iter(tried))
    elif tried:
        chosen = next(iter(tried))
    read = tried.get(chosen, {})
    free = {key: one for key, one in read.items() if key not in book.values}
    if not free:
        how = "another array was paired with its place before" if read else _misfit(book, arrays, chosen)
        book.pairs[name] = Pair(name=name, site=None, matcher="unpaired", how=how)
        return
    _take(book, name, chosen, free, matcher)


def _take(book: _Book, name: str, site: str, read: Mapping[Key, Reading], matcher: str, how: str = "") -> None:
    for key, one in read.items():
        value = one.value
        if local(site) == "attention.scores" and is_unscaled(name):
            value = value * book.places.head_dim**-0.5
        book.values[key] = value
    said = dict.fromkeys(part for part in (how, *(one.how for one in read.values())) if part)
    book.pairs[name] = Pair(name=name, site=site, matcher=matcher, how="; ".join(said))


def _pair_named(book: _Book, name: str, arrays: Arrays, meaning: Meaning, *, pairwise: bool) -> None:
    """By a table of names; a fused array is cut apart first."""
    if meaning.fused:
        _pair_fused(book, name, arrays, meaning)
        return
    if pairwise and meaning.table == LLAMA_CPP and any(local(site) in TURNED for site in meaning.sites):
        arrays = {at: [_in_halves(entry, book) for entry in entries] for at, entries in arrays.items()}
    _pair(book, name, arrays, meaning.sites, meaning.table)


def _pair_fused(book: _Book, name: str, arrays: Arrays, meaning: Meaning) -> None:
    """Cut one array into those side by side in it: [q; k; v], or head after head, as its numbers say."""
    widths = [_width(book, site) for site in meaning.sites]
    cuts: dict[str, dict[Key, Tensor]] = {}
    for at, entries in arrays.items():
        array = entries[0].value.squeeze()
        array = array[None] if array.ndim == 1 else array
        if len(entries) > 1 or array.ndim != 2 or array.shape[-1] != sum(widths):
            continue
        for how, parts in _cuts(array, widths, book, meaning.sites):
            for site, part in zip(meaning.sites, parts, strict=True):
                found = _key_reading(book, Key(*at, site), part, None, entries[0].positions)
                if found is not None:
                    cuts.setdefault(how, {})[found[0]] = found[1].value
    whole = {how: made for how, made in cuts.items() if {key.site for key in made} == set(meaning.sites)}
    if not whole:
        book.pairs[name] = Pair(name=name, site=None, matcher="unpaired",
                                how=f"its lengths are not those of {' + '.join(meaning.sites)} side by side")  # fmt: skip
        return
    off = {how: max(_off(book.natural, key, value) for key, value in made.items()) for how, made in whole.items()}
    best = min(off, key=off.__getitem__)
    best = best if off[best] < FAR else next(iter(whole))  # near none of them: how it is usually cut
    book.values |= {key: value for key, value in whole[best].items() if key not in book.values}
    book.pairs[name] = Pair(name=name, site=" + ".join(meaning.sites), matcher=meaning.table, how=f"cut as {best}")


def _cuts(
    array: Tensor, widths: list[int], book: _Book, sites: Sequence[str]
) -> Iterator[tuple[str, Sequence[Tensor]]]:
    """Ways in which arrays are put side by side, the usual first."""
    names = ", ".join(site.rpartition(".")[2] for site in sites)
    yield f"[{names}] one after the other", array.split(widths, dim=-1)
    if len(set(widths)) == 1:
        heads = book.places.n_heads
        if len(sites) == 3 and array.shape[-1] % (3 * heads) == 0:
            yield f"[{names}] head by head", array.unflatten(-1, (heads, 3, -1)).unbind(-2)
        yield f"[{names}] lane by lane", array.unflatten(-1, (-1, len(sites))).unbind(-1)
    elif len(sites) == 3 and widths[1] == widths[2]:
        groups = book.places.n_kv_heads
        parts = array.unflatten(-1, (groups, -1)).split([width // groups for width in widths], dim=-1)
        yield f"[{names}] group by group", [part.flatten(-2) for part in parts]


def _width(book: _Book, site: str) -> int:
    shape = next(value.shape for key, value in book.natural.items() if key.site == site)
    return int(shape[2:].numel())


def _lanes_in_pairs(book: _Book, named: Mapping[str, Arrays], foreign: Mapping[str, Meaning]) -> bool:
    """Whether llama.cpp keeps this model's queries and keys as adjacent pairs: some are the reference's in that order alone."""
    pairs = halves = False
    for name, meaning in foreign.items():
        if meaning.table != LLAMA_CPP or not any(local(site) in TURNED for site in meaning.sites):
            continue
        for site in meaning.sites:
            for key, one in _read(book, named[name], site).items():
                plain, moved = (_off(book.natural, key, value) for value in (one.value, _as_halves(one.value)))
                halves |= plain < RESEMBLES < FAR < moved
                pairs |= moved < RESEMBLES < FAR < plain
    return pairs and not halves


def _as_halves(value: Tensor) -> Tensor:
    """Lanes 0 half 1 half+1 .. of a head as 0 1 .. half half+1 .."""
    return torch.cat((value[..., 0::2], value[..., 1::2]), dim=-1) if value.shape[-1] % 2 == 0 else value


def _in_halves(entry: Entry, book: _Book) -> Entry:
    width = book.places.head_dim
    value = entry.value
    last = value.shape[-1]
    if last % width == 0:
        value = _as_halves(value.unflatten(-1, (last // width, width))).reshape(value.shape)
    return Entry(entry.site, entry.phase, entry.step, entry.positions, entry.dims, value)


def _pair_by_content(book: _Book, named: Mapping[str, Arrays]) -> None:
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
        fits = any(_read(book, arrays, site) for site in book.places.sites)
        how = "it resembles no place alone" if fits else "no place has a value of its shape"
        book.pairs[name] = Pair(name=name, site=None, matcher="unpaired", how=how)


def _pair_equal(book: _Book, left: Mapping[str, Arrays], made: Mapping[Key, Tensor]) -> set[str]:
    """Every array that is one place's value and no other's."""
    taken = set()
    for name, arrays in left.items():
        found = closest(_free(book, arrays, made), made)
        if found is not None:
            site, how = found
            _take(book, name, site, _read(book, arrays, site, made), "content", how)
            taken.add(name)
    return taken


def _pair_resembling(book: _Book, left: Mapping[str, Arrays], made: Mapping[Key, Tensor]) -> set[str]:
    """The array that most resembles one place alone: one at a time, since the next replay stands on it."""
    found = [
        (likeness, name, site, how)
        for name, arrays in left.items()
        if (best := resembling(_free(book, arrays, made), made)) is not None
        for likeness, site, how in [best]
    ]
    if not found:
        return set()
    _, name, site, how = max(found)
    _take(book, name, site, _read(book, left[name], site, made), "content", how)
    return {name}


def _pair_by_order(book: _Book, named: Mapping[str, Arrays], left: Mapping[str, Arrays]) -> set[str]:
    """Arrays that the order of the dump leaves one place for, if the reference replayed on them bears it out."""
    known = {name: pair.site for name, pair in book.pairs.items() if pair.site in book.places.sites and pair.site}
    fits = {name: frozenset(_free(book, arrays, book.natural)) for name, arrays in left.items()}
    guess = only_way(list(named), known, fits, book.places.sites)
    read = {name: _read(book, left[name], site) for name, site in guess.items()}
    values = {key: one.value for values in read.values() for key, one in values.items()}
    made = book.places.replay({**book.values, **values}) if guess else {}
    right = {name for name in guess if all(_off(made, key, one.value) <= EQUAL for key, one in read[name].items())}
    if 2 * len(right) < len(guess) or len(right) < 2:
        return set()
    for name, site in guess.items():
        how = "equal, its place told by the order" if name in right else "its place told by the order of the arrays"
        _take(book, name, site, read[name], "content", how)
    return set(guess)


def _pair_by_consequence(book: _Book, left: Mapping[str, Arrays]) -> set[str]:
    """The array that, taken for a place, makes others equal a place each: more of them than any other guess."""
    told: list[tuple[int, str, str]] = []
    for name in list(left)[:GUESSES]:
        for site, read in _free(book, left[name], book.natural).items():
            given = {**book.values, **{key: one.value for key, one in read.items()}}
            made = book.places.replay(given)
            others = [arrays for other, arrays in left.items() if other != name]
            equal = [closest(_free(book, arrays, made), made) for arrays in others]
            told.append((len({found[0] for found in equal if found is not None} - {site}), name, site))
    told.sort(reverse=True)
    if not told or told[0][0] < 2 or (len(told) > 1 and told[1][0] * 2 > told[0][0]):
        return set()
    count, name, site = told[0]
    _take(book, name, site, _read(book, left[name], site), "content", f"{count} other arrays follow from it")
    return {name}


def _free(book: _Book, arrays: Arrays, made: Mapping[Key, Tensor]) -> dict[str, dict[Key, Reading]]:
    """Of every place that nothing is paired with yet, this array as its value, where its lengths fit."""
    taken = {key.site for key in book.values}
    found = {}
    for site in book.places.sites:
        if site not in taken and (read := _read(book, arrays, site, made)):
            found[site] = read
    return found


def _read(book: _Book, arrays: Arrays, site: str, made: Mapping[Key, Tensor] | None = None) -> dict[Key, Reading]:
    """These arrays as values of a site; of several possible readings the one nearest to what the reference has there."""
    found: dict[Key, Reading] = {}
    for at, entries in arrays.items():
        parts = [_key_reading(book, Key(*at, site), e.value, e.dims, e.positions, made) for e in entries]
        whole = [part for part in parts if part is not None]
        if not whole or len(whole) < len(entries):
            continue
        key, first = whole[0]
        if len(whole) > 1:  # parts of one pass, told apart by their positions
            if local(site) in ("attention.scores", "attention.probs"):
                continue
            first = Reading(torch.cat([part.value for _, part in whole], dim=1), first.how)
        elif entries[0].positions and entries[0].positions[-1] != book.positions[at][-1]:
            continue
        found[key] = first
    return found


def _key_reading(
    book: _Book,
    key: Key,
    array: Tensor,
    dims: str | None,
    positions: tuple[int, ...],
    made: Mapping[Key, Tensor] | None = None,
) -> tuple[Key, Reading] | None:
    """An array as the value of one place in one pass."""
    reference = book.natural.get(key)
    here = book.positions.get((key.phase, key.step), ())
    if reference is None or (positions and not set(positions) <= set(here)):
        return None
    if book.texts > 1 and array.ndim == reference.ndim and array.shape[0] == book.texts:
        array = array[:1]
    if array.shape == reference.shape and (dims is None or dims.startswith("batch")):
        return key, Reading(array)
    rows = (len(positions),) if positions else (len(here), 1)
    made_of = readings(array, dims, key.site, reference.shape, rows)
    if not made_of:
        return None
    values = book.natural if made is None else made
    return key, min(made_of, key=lambda one: _off(values, key, one.value)) if len(made_of) > 1 else made_of[0]


def _off(values: Mapping[Key, Tensor], key: Key, value: Tensor) -> float:
    return difference(values[key], value, key.site)


def _misfit(book: _Book, arrays: Arrays, site: str) -> str:
    """Why arrays are no value of a site."""
    at, entries = next(iter(arrays.items()))
    reference = book.natural.get(Key(*at, site))
    if reference is None:
        return f"the reference's passes have no {at[0]} {at[1]}"
    shape = tuple(entries[0].value.shape)
    return f"its shape {shape} cannot be read as {tuple(reference.shape)}, the reference's at {site}"


def _notes(book: _Book, pairwise: bool) -> tuple[str, ...]:
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
