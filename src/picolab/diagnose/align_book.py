"""What is paired so far, and how can an array be read as the value of a place?

array (heads, time, lanes)  --axes turned, positions checked-->  value of blocks.0.attention.q, in the prefill
                                                                 of several readings the one nearest to the reference's
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from picolab.diagnose.align_names import is_unscaled
from picolab.diagnose.align_shapes import Reading, readings
from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.verdict import Pair
from picolab.diagnose.walk import Key, Schedule, difference, local, walk
from picolab.trace.recording import Entry


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
class Book:
    """What is paired so far."""

    places: Places
    natural: Mapping[Key, Tensor]
    positions: Mapping[tuple[str, int], tuple[int, ...]]
    texts: int
    values: dict[Key, Tensor] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)


Arrays = Mapping[tuple[str, int], Sequence[Entry]]
"""The entries of one name, by pass."""


def take(book: Book, name: str, site: str, read: Mapping[Key, Reading], matcher: str, how: str = "") -> None:
    for key, one in read.items():
        value = one.value
        if local(site) == "attention.scores" and is_unscaled(name):
            value = value * book.places.head_dim**-0.5
        book.values[key] = value
    said = dict.fromkeys(part for part in (how, *(one.how for one in read.values())) if part)
    book.pairs[name] = Pair(name=name, site=site, matcher=matcher, how="; ".join(said))


def free_places(book: Book, arrays: Arrays, made: Mapping[Key, Tensor]) -> dict[str, dict[Key, Reading]]:
    """Of every place that nothing is paired with yet, this array as its value, where its lengths fit."""
    taken = {key.site for key in book.values}
    found = {}
    for site in book.places.sites:
        if site not in taken and (read := read_as(book, arrays, site, made)):
            found[site] = read
    return found


def read_as(book: Book, arrays: Arrays, site: str, made: Mapping[Key, Tensor] | None = None) -> dict[Key, Reading]:
    """These arrays as values of a site; of several possible readings the one nearest to what the reference has there."""
    found: dict[Key, Reading] = {}
    for at, entries in arrays.items():
        parts = [key_reading(book, Key(*at, site), e.value, e.dims, e.positions, made) for e in entries]
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


def key_reading(
    book: Book,
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
    return key, min(made_of, key=lambda one: far_from(values, key, one.value)) if len(made_of) > 1 else made_of[0]


def far_from(values: Mapping[Key, Tensor], key: Key, value: Tensor) -> float:
    return difference(values[key], value, key.site)


def misfit(book: Book, arrays: Arrays, site: str) -> str:
    """Why arrays are no value of a site."""
    at, entries = next(iter(arrays.items()))
    reference = book.natural.get(Key(*at, site))
    if reference is None:
        return f"the reference's passes have no {at[0]} {at[1]}"
    shape = tuple(entries[0].value.shape)
    return f"its shape {shape} cannot be read as {tuple(reference.shape)}, the reference's at {site}"
