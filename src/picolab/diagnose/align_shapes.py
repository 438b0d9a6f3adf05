"""How may an array of some shape be read as the value of a site? With axes moved, merged, cut apart, or left out.

    site   attention.q_rope   (1, 13, 6, 10)    batch time heads head_dim
    array                     (6, 13, 10)       heads before time
                              (13, 60)          heads side by side
                              (13, 1, 60)       time before batch
                              (13, 10, 6)       lanes before heads

Where the engine names its axes they are believed. Where it does not, every reading whose lengths fit is one; most arrays have one,
and where lengths coincide (as many heads as tokens) the numbers decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from picolab.trace.sites import dims_of

MERGED = {"attn_dim": ("heads", "head_dim"), "lanes": ("heads", "head_dim")}
"""Axes that are two side by side."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An array as a site's value, batch 1, and what had to be done to it, in words; nothing where it lay as it should."""

    value: Tensor
    how: str = ""


def readings(array: Tensor, dims: str | None, site: str, shape: Sequence[int], rows: Sequence[int]) -> list[Reading]:
    """Every way to read an array as the value of a site, the plainest first.

    `shape` is the reference's `(1, time, ..)` there; `rows` are the numbers of tokens the array may cover, the likeliest first.
    """
    axes = (dims_of(site) or "").split()
    if not axes or len(axes) != len(shape):
        return [Reading(array)] if tuple(array.shape) == tuple(shape) else []
    found: list[Reading] = []
    for time in rows:
        sizes = {axis: time if axis == "time" else size for axis, size in zip(axes, shape, strict=True)}
        made = _by_names(array, dims, axes, sizes) if dims is not None else list(_by_lengths(array, axes, sizes))
        found += [one for one in made if not any(_same(one.value, other.value) for other in found)]
        if found:
            break
    return found


def _by_names(array: Tensor, dims: str | None, axes: list[str], sizes: dict[str, int]) -> list[Reading]:
    """The engine says which axis is which."""
    assert dims is not None
    named = dims.split()
    for whole, parts in MERGED.items():
        if whole in named and set(parts) <= set(axes):
            at = named.index(whole)
            heads = "kv_heads" if "kv_heads" in axes else "heads"
            array = array.unflatten(at, (sizes[heads], -1)) if array.shape[at] % sizes[heads] == 0 else array
            named[at : at + 1] = [heads, parts[1]]
    if "attn_dim" in axes and {"heads", "head_dim"} <= set(named):
        order = [axis for axis in named if axis not in ("heads", "head_dim")]
        array = array.permute(*(named.index(axis) for axis in (*order, "heads", "head_dim"))).flatten(-2)
        named = [*order, "attn_dim"]
    if "kv_heads" in axes and "kv_heads" not in named:
        named = ["kv_heads" if axis == "heads" else axis for axis in named]
    if set(named) - {"batch", "one"} != set(axes) - {"batch"} or array.ndim != len(named):
        return list(_by_lengths(array, axes, sizes))
    for axis in ("batch", "one"):
        if axis in named:
            array, named = array.select(named.index(axis), 0), [name for name in named if name != axis]
    value = array.permute(*(named.index(axis) for axis in axes if axis != "batch"))[None]
    return list(_fitted(value, axes, sizes, "" if named == axes[1:] else "axes put in order by their names"))


def _by_lengths(array: Tensor, axes: list[str], sizes: dict[str, int]) -> Iterator[Reading]:
    """Nobody says which axis is which: every order whose lengths fit. Axes of length one may stand anywhere."""
    wanted = [axis for axis in axes if axis != "batch"]
    bare = array.squeeze()
    for form, spoken in _forms(wanted, sizes):
        lengths = [length for group in form if (length := math.prod(sizes[axis] for axis in group)) != 1]
        if bare.ndim != len(lengths):
            continue
        for order in permutations(range(bare.ndim)):
            moved = bare.permute(order)
            cut = ""
            if form[-1] == (_loose(axes),) and moved.ndim and moved.shape[-1] > lengths[-1] == sizes[_loose(axes)]:
                cut = _cut(axes, sizes, moved.shape[-1])
                moved = moved[..., : lengths[-1]] if cut else moved
            if list(moved.shape) == lengths:
                turned = "" if list(order) == sorted(order) else "axes put in order by their lengths"
                value = moved.reshape(1, *(sizes[axis] for axis in wanted))
                yield Reading(value, "; ".join(part for part in (spoken, turned, cut) if part))
    if "kv_heads" in axes:
        yield from _repeated(array, axes, sizes)


def _forms(wanted: list[str], sizes: dict[str, int]) -> Iterator[tuple[list[tuple[str, ...]], str]]:
    """The axes one by one; neighbours merged; all in one."""
    yield [(axis,) for axis in wanted], ""
    if len(wanted) == 3 and wanted[0] == "time":
        yield [(wanted[0],), (wanted[1], wanted[2])], "heads were side by side"
        yield [(wanted[0], wanted[1]), (wanted[2],)], "heads were under one another"
    yield [tuple(wanted)], "all numbers were in one row"


def _fitted(value: Tensor, axes: list[str], sizes: dict[str, int], how: str) -> Iterator[Reading]:
    """A value in the right order of axes, if its lengths are right or can be cut to what they should be."""
    shape = tuple(sizes[axis] if axis != "batch" else 1 for axis in axes)
    if tuple(value.shape) == shape:
        yield Reading(value, how)
        return
    if value.shape[:-1] == shape[:-1] and value.shape[-1] > shape[-1]:
        cut = _cut(axes, sizes, value.shape[-1])
        if cut:
            yield Reading(value[..., : shape[-1]], "; ".join(part for part in (how, cut) if part))
    elif "kv_heads" in axes:
        yield from _repeated(value, axes, sizes)


def _loose(axes: list[str]) -> str:
    """The axis that engines fill up."""
    return "past" if "past" in axes else "vocab" if "vocab" in axes else ""


def _cut(axes: list[str], sizes: dict[str, int], length: int) -> str:
    """What is said of a last axis that is filled up; nothing where so much is no filling."""
    loose = _loose(axes)
    if loose == "past":
        return f"{length} keys cut to the {sizes[loose]} read"
    if not loose or length % 8 or length - sizes[loose] >= 1024:
        return ""
    return f"{length} columns cut to a vocabulary of {sizes[loose]}"


def _repeated(array: Tensor, axes: list[str], sizes: dict[str, int]) -> Iterator[Reading]:
    """Keys or values that were already repeated for the query heads that share them."""
    bare = array.squeeze()
    kv_heads = sizes["kv_heads"]
    for order in permutations(range(bare.ndim)):
        moved = bare.permute(*order)
        if moved.ndim != 3 or moved.shape[0] != sizes["time"] or moved.shape[2] != sizes["head_dim"]:
            continue
        group, rest = divmod(moved.shape[1], kv_heads)
        if rest or group < 2:
            continue
        for first, grouped in ((moved[:, ::group], moved.unflatten(1, (kv_heads, group))),
                               (moved[:, :kv_heads], moved.unflatten(1, (group, kv_heads)).transpose(1, 2))):  # fmt: skip
            if torch.equal(grouped, first[:, :, None].expand_as(grouped)):
                yield Reading(first[None], f"repeated for {group} query heads each")
                return


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.nan_to_num(0.0), b.nan_to_num(0.0))
