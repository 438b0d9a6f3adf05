"""Heads have no order: exchange two, everywhere, and nothing changes. `symmetry` (I29).

    q heads   0 1 2 | 3 4 5        each three share one key and value head       ->    3 4 5 | 0 1 2        and   1 0 2 | 3 4 5
    k, v      0     | 1                                                               1     | 0                  0     | 1
    columns of the joining matrix likewise: the output is the same numbers, summed in another order

Where it is not, queries read another head's keys: 0 1 0 1 0 1 in place of 0 0 0 1 1 1, or rows cut apart at the wrong places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from picolab.diagnose.laws.law import Finding, Law, Patient, gap
from picolab.diagnose.modules import Heads, copy_of, heads_of, is_norm, is_projection, logits_of, no_copy, rows_of

ALLOWED = 5e-4

COUNTS = ("n_heads", "num_attention_heads", "n_head", "num_heads", "nhead")
SHARED = ("n_kv_heads", "num_key_value_heads", "n_head_kv", "num_kv_heads", "n_kv_head")


class Symmetry(Law):
    name = "symmetry"
    id = "I29"
    says = "exchanging whole groups of heads, queries and keys and values and their columns, changes nothing"
    hint = "keys repeated 0 1 0 1 for 0 0 1 1, heads cut from the wrong rows, heads merged before they are transposed"
    order = 29
    compares = True

    def check(self, patient: Patient) -> Finding:
        reason = no_copy(patient)
        if reason is not None:
            return self.skips(reason)
        assert patient.module is not None
        layers = heads_of(patient.module)
        if not layers:
            return self.skips("no projections of queries, keys and values are found by name")
        tokens, checked = patient.random(2, 13, salt=71), 0
        wanted = patient.logits(tokens)
        groups = 1
        for layer in layers:
            counts = _counts(patient.module, layer)
            if counts is None:
                return self.skips("how many heads it has is said neither by the module nor by its config")
            heads, groups = counts
            for says, turned, shared in _exchanges(heads, groups):
                module = copy_of(patient)
                impossible = exchange(module, layer, turned, shared)
                if impossible is not None:
                    return self.skips(impossible)
                worst = gap(wanted, logits_of(patient, module, tokens))
                checked += 1
                if not worst <= ALLOWED:
                    return self.fails(
                        f"exchanging {says} in `{layer.path}` moves the logits by {worst:.2g} of the largest",
                        worst=worst, heads=heads, kv_heads=groups,
                    )  # fmt: skip
        if not checked:
            return self.skips("it has one head: there is nothing to exchange")
        return self.passes(
            f"{len(layers)} layers of {groups} groups: exchanging heads changes nothing", exchanges=checked
        )


def _exchanges(heads: int, groups: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """New orders of query heads and of key heads that change nothing."""
    if groups > 1:
        yield (
            "whole groups of heads",
            torch.arange(heads).view(groups, -1).roll(1, 0).flatten(),
            torch.arange(groups).roll(1),
        )
    if heads > groups:
        swapped = torch.arange(heads)
        swapped[:2] = torch.tensor([1, 0])
        yield "two queries' heads that share their keys", swapped, torch.arange(groups)


@torch.no_grad()
def exchange(module: nn.Module, layer: Heads, turned: Tensor, shared: Tensor) -> str | None:
    """Bring the heads of a layer into new orders; a sentence where its matrices do not divide into such heads."""
    heads, groups = len(turned), len(shared)
    parts = {name: module.get_submodule(name) for name in {layer.q, layer.k, layer.v, layer.out}}
    out = rows_of(parts[layer.out])
    if out.shape[1] % heads:
        return f"`{layer.out}` has {out.shape[1]} columns, which {heads} heads do not share evenly"
    head_dim = out.shape[1] // heads
    if layer.fused:
        rows = rows_of(parts[layer.q])
        sizes = (heads * head_dim, groups * head_dim, groups * head_dim)
        if rows.shape[0] != sum(sizes):
            return f"`{layer.q}` has {rows.shape[0]} rows, where {sum(sizes)} are three parts of {heads} and {groups} heads"
        order = torch.cat([_lanes(o, head_dim) + sum(sizes[:n]) for n, o in enumerate((turned, shared, shared))])
        _reorder(parts[layer.q], rows, order)
    else:
        for name, order in ((layer.q, turned), (layer.k, shared), (layer.v, shared)):
            rows = rows_of(parts[name])
            if rows.shape[0] != len(order) * head_dim:
                return f"`{name}` has {rows.shape[0]} rows, where {len(order)} heads of {head_dim} are meant"
            _reorder(parts[name], rows, _lanes(order, head_dim))
    out.copy_(out[:, _lanes(turned, head_dim)].clone())
    owner = module.get_submodule(layer.path) if layer.path else module
    orders = {groups * head_dim: _lanes(shared, head_dim), heads * head_dim: _lanes(turned, head_dim), heads: turned}
    for name, numbers in (*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)):
        if numbers.ndim != 1 or not numbers.is_floating_point():
            continue
        if len(numbers) not in orders:
            return f"`{layer.path}` has {len(numbers)} numbers `{name}`, which are no whole number a head"
        of_keys = name[0] in "kv" and len(numbers) == groups * head_dim
        order = _lanes(shared, head_dim) if of_keys else orders[len(numbers)]
        numbers.copy_(numbers[order].clone())  # a sink a head, or what is added to its lanes
    for name, child in owner.named_children():
        if child in parts.values():
            continue
        if is_projection(child) and len(rows_of(child)) in orders:
            _reorder(child, rows_of(child), orders[len(rows_of(child))])  # a gate a head
        elif is_norm(child) and name[0] in "qk":
            weight, order = getattr(child, "weight", None), shared if name[0] == "k" else turned
            if isinstance(weight, Tensor) and len(weight) == len(order) * head_dim:
                weight.data.copy_(weight.data[_lanes(order, head_dim)].clone())
        elif not is_norm(child) and any(True for _ in child.parameters()):
            return f"`{layer.path}` has another part, `{name}`, whose heads are not known"
    return None


def _reorder(projection: nn.Module, rows: Tensor, order: Tensor) -> None:
    rows.copy_(rows[order].clone())
    bias: Any = getattr(projection, "bias", None)
    if isinstance(bias, Tensor):
        bias.data.copy_(bias.data[order].clone())


def _lanes(heads: Tensor, head_dim: int) -> Tensor:
    return (heads[:, None] * head_dim + torch.arange(head_dim)).flatten()


def _counts(module: nn.Module, layer: Heads) -> tuple[int, int] | None:
    """Heads of queries and of keys, as the attention layer, the module or its config says."""
    places = [module.get_submodule(layer.path) if layer.path else module, getattr(module, "config", None), module]
    heads = _said(places, COUNTS)
    return None if heads is None else (heads, _said(places, SHARED) or heads)


def _said(places: list[Any], names: tuple[str, ...]) -> int | None:
    for place in places:
        for name in names:
            value = place.get(name) if isinstance(place, dict) else getattr(place, name, None)
            if isinstance(value, int) and value > 0:
                return value
    return None
