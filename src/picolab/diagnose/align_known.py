"""An array whose name is known: which site does it name, and how do its lanes lie?

q_proj                       the site itself; of several the one whose value it is nearest to
c_attn                       cut apart: [q, k, v] one after the other, head by head, or lane by lane, as the numbers say
llama.cpp's Qcur, Kcur       lanes as adjacent pairs or in halves, as the numbers say
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from picolab.diagnose.align_book import Arrays, Book, far_from, key_reading, misfit, read_as, take
from picolab.diagnose.align_names import LLAMA_CPP, Meaning
from picolab.diagnose.verdict import Pair
from picolab.diagnose.walk import Key, local
from picolab.trace.engines.llama_cpp_sites import TURNED
from picolab.trace.recording import Entry

RESEMBLES, FAR = 1e-2, 0.1
"""Below the first an array is a place's value in this order of lanes; above the second it is not."""


def pair_as(book: Book, name: str, arrays: Arrays, sites: Sequence[str], matcher: str) -> None:
    """One of these sites: the one whose value the array is nearest to, the first where it is near to none."""
    chosen = sites[0]
    tried = {site: read for site in sites if (read := read_as(book, arrays, site))}
    if len(tried) > 1:
        off = {
            site: min(far_from(book.natural, key, one.value) for key, one in read.items())
            for site, read in tried.items()
        }
        best = min(off, key=off.__getitem__)
        chosen = best if off[best] < FAR else next(iter(tried))
    elif tried:
        chosen = next(iter(tried))
    read = tried.get(chosen, {})
    free = {key: one for key, one in read.items() if key not in book.values}
    if not free:
        how = "another array was paired with its place before" if read else misfit(book, arrays, chosen)
        book.pairs[name] = Pair(name=name, site=None, matcher="unpaired", how=how)
        return
    take(book, name, chosen, free, matcher)


def pair_named(book: Book, name: str, arrays: Arrays, meaning: Meaning, *, pairwise: bool) -> None:
    """By a table of names; a fused array is cut apart first."""
    if meaning.fused:
        _pair_fused(book, name, arrays, meaning)
        return
    if pairwise and meaning.table == LLAMA_CPP and any(local(site) in TURNED for site in meaning.sites):
        arrays = {at: [_in_halves(entry, book) for entry in entries] for at, entries in arrays.items()}
    pair_as(book, name, arrays, meaning.sites, meaning.table)


def _pair_fused(book: Book, name: str, arrays: Arrays, meaning: Meaning) -> None:
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
                found = key_reading(book, Key(*at, site), part, None, entries[0].positions)
                if found is not None:
                    cuts.setdefault(how, {})[found[0]] = found[1].value
    whole = {how: made for how, made in cuts.items() if {key.site for key in made} == set(meaning.sites)}
    if not whole:
        book.pairs[name] = Pair(name=name, site=None, matcher="unpaired",
                                how=f"its lengths are not those of {' + '.join(meaning.sites)} side by side")  # fmt: skip
        return
    off = {how: max(far_from(book.natural, key, value) for key, value in made.items()) for how, made in whole.items()}
    best = min(off, key=off.__getitem__)
    best = best if off[best] < FAR else next(iter(whole))  # near none of them: how it is usually cut
    book.values |= {key: value for key, value in whole[best].items() if key not in book.values}
    book.pairs[name] = Pair(name=name, site=" + ".join(meaning.sites), matcher=meaning.table, how=f"cut as {best}")


def _cuts(array: Tensor, widths: list[int], book: Book, sites: Sequence[str]) -> Iterator[tuple[str, Sequence[Tensor]]]:
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


def _width(book: Book, site: str) -> int:
    shape = next(value.shape for key, value in book.natural.items() if key.site == site)
    return int(shape[2:].numel())


def lanes_in_pairs(book: Book, named: Mapping[str, Arrays], foreign: Mapping[str, Meaning]) -> bool:
    """Whether llama.cpp keeps this model's queries and keys as adjacent pairs: some are the reference's in that order alone."""
    pairs = halves = False
    for name, meaning in foreign.items():
        if meaning.table != LLAMA_CPP or not any(local(site) in TURNED for site in meaning.sites):
            continue
        for site in meaning.sites:
            for key, one in read_as(book, named[name], site).items():
                plain, moved = (far_from(book.natural, key, value) for value in (one.value, _as_halves(one.value)))
                halves |= plain < RESEMBLES < FAR < moved
                pairs |= moved < RESEMBLES < FAR < plain
    return pairs and not halves


def _as_halves(value: Tensor) -> Tensor:
    """Lanes 0 half 1 half+1 .. of a head as 0 1 .. half half+1 .."""
    return torch.cat((value[..., 0::2], value[..., 1::2]), dim=-1) if value.shape[-1] % 2 == 0 else value


def _in_halves(entry: Entry, book: Book) -> Entry:
    width = book.places.head_dim
    value = entry.value
    last = value.shape[-1]
    if last % width == 0:
        value = _as_halves(value.unflatten(-1, (last // width, width))).reshape(value.shape)
    return Entry(entry.site, entry.phase, entry.step, entry.positions, entry.dims, value)
