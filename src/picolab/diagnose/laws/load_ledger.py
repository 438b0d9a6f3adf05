"""Did every weight come from the file, once, to its own place? `load-ledger` (I01).

    file        tensor by tensor, by content: its sum, its sum of squares, its size (a transposed matrix has the same; three that
                were joined add up)
    weights     one that is nothing but zeros, ones or fresh random numbers where those of other blocks are not; two that are equal
    tied        the head is the embedding if, and only if, the settings say so

Silent fallbacks are the commonest cause of broken ports: `strict=False`, a head that is left random because its name is not in the
file, a layer that reads its neighbour's tensor.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.modules import parameters_of, role
from picolab.weights.shards import read_tensors

DIGITS = 2e-3
"""Relative: a file in bfloat16 and weights in float32 agree in their sums to this."""

EDGE = 1.06
"""Of the largest singular value of random numbers, s (sqrt(rows) + sqrt(columns)) (Marchenko and Pastur); learning exceeds it."""

ALONE = 64
"""The least side of a matrix with no like in other blocks: a smaller one that has learned may well look drawn."""

Print = tuple[int, float, float]
"""Numbers, their sum, and their sum of squares."""


class LoadLedger(Law):
    name = "load-ledger"
    id = "I01"
    says = "every weight is one tensor of the file, and none is left as it was made"
    hint = "a name the loader does not know (`strict=False`), a loop over layers with the wrong index, tying that is not declared"
    order = 1

    def check(self, patient: Patient) -> Finding:
        module = patient.module
        if module is None or hasattr(module, "estimate"):
            return self.skips("what is at hand is a function, not a module with weights")
        weights = parameters_of(module)
        if not weights:
            return self.skips("the module has no weights to look at")
        for name, weight in weights.items():
            if not bool(weight.isfinite().all()):
                return self.fails(f"`{name}` holds {int((~weight.isfinite()).sum())} numbers that are not finite")
        for found in (_untied(module), _untouched(weights), _fresh(weights, patient), _twins(weights)):
            if found is not None:
                return self.fails(found)
        tensors = _file(patient.checkpoint)
        if tensors is None:
            return self.passes(f"{len(weights)} weights: none is left as it was made, no two are equal")
        kept = dict(module.state_dict())  # numbers that a file holds and nothing learns, too
        buffers = {name: b for name, b in module.named_buffers() if name in kept and b.is_floating_point() and b.any()}
        lost, strange = ledger(tensors, {**weights, **buffers})
        if strange:
            also = f", and {len(strange) - 1} more" if len(strange) > 1 else ""
            return self.fails(
                f"`{strange[0]}` is no tensor of `{patient.checkpoint}`{also}", strange=strange, lost=lost
            )
        if lost:
            also = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
            return self.fails(f"`{lost[0]}` of `{patient.checkpoint}` is in no weight of the model{also}", lost=lost)
        return self.passes(f"{len(weights)} weights are the {len(tensors)} tensors of the file, each once")


def ledger(tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Tensors of a file that are in no weight, and weights that are no tensor of it (nor two or three, joined)."""
    file, left = {name: _print(t) for name, t in tensors.items() if t.is_floating_point() and t.numel() > 1}, {}
    used: set[str] = set()
    for name, weight in weights.items():
        mark = _print(weight)
        same = [n for n, other in file.items() if _alike(mark, other)]
        # Of several alike, such as gains that are all 1, each weight takes one of its own.
        free = [n for n in same if n not in used] or same
        if free:
            used.update(free[:1])
        else:
            left[name] = mark
    strange = []
    for name, mark in left.items():
        joined = _joined(mark, {n: p for n, p in file.items() if n not in used})
        used.update(joined)
        if not joined:
            strange.append(name)
    held = [_print(w) for w in weights.values()]
    # Zeros add nothing: a format that has no way to leave a bias out holds them.
    full = {n: p for n, p in file.items() if p[2] > 0 and not _table(n)}
    lost = [n for n, p in full.items() if n not in used and not any(_alike(p, h) for h in held)]
    return lost, strange


def _table(name: str) -> bool:
    """Files of old keep tables that follow from the settings: masks, angles."""
    return any(
        part in name for part in ("inv_freq", "masked_bias", "attn.bias", "rope_freqs", "freq_cis", "attention.bias")
    )


def _joined(mark: Print, file: Mapping[str, Print]) -> tuple[str, ...]:
    """Two or three tensors of one block that together are a weight."""
    blocks: dict[str, list[str]] = defaultdict(list)
    for name in file:
        blocks[name.rsplit(".", 3)[0]].append(name)
    for names in blocks.values():
        small = [n for n in names if file[n][0] < mark[0]][:12]
        for many in (2, 3):
            for some in combinations(small, many):
                total = (sum(file[n][0] for n in some), sum(file[n][1] for n in some), sum(file[n][2] for n in some))
                if _alike(mark, total):
                    return some
    return ()


def _print(tensor: Tensor) -> Print:
    wide = tensor.detach().double()
    return tensor.numel(), float(wide.sum()), float(wide.square().sum())


def _alike(one: Print, other: Print) -> bool:
    if one[0] != other[0]:
        return False
    size = math.sqrt(max(one[2], other[2]) * one[0])  # what a sum could be at most
    return abs(one[2] - other[2]) <= DIGITS * max(one[2], other[2]) and abs(one[1] - other[1]) <= DIGITS * size


def _file(place: Path | None) -> Mapping[str, Tensor] | None:
    """The tensors of a checkpoint folder; other files are filled by readers that account for every byte."""
    if place is None or not place.is_dir():
        return None
    return read_tensors(place)[0]


def _untied(module: nn.Module) -> str | None:
    """What is wrong with head and embedding, if the settings say whether they are one."""
    config = getattr(module, "config", None)
    declared = next((v for n in ("tied", "tie_word_embeddings") if isinstance(v := _setting(config, n), bool)), None)
    ends = _ends(module)
    if declared is None or ends is None:
        return None
    (in_name, embedding), (out_name, head) = ends
    if embedding.shape != head.shape:
        return None
    if declared and not torch.equal(embedding, head):
        return f"the settings say that head and embedding are tied, and `{out_name}` differs from `{in_name}`"
    if not declared and embedding.data_ptr() == head.data_ptr():
        return f"the settings say that head and embedding are two, and `{out_name}` is `{in_name}`"
    return None


def _ends(module: nn.Module) -> tuple[tuple[str, Tensor], tuple[str, Tensor]] | None:
    """The embedding of tokens and the head, with their names."""
    everything = {n: p.detach() for n, p in module.named_parameters(remove_duplicate=False) if p.ndim == 2}
    names = ("embed_tokens", "wte", "tok_embeddings", "token_embd", "embedding.w", "tok_emb")
    first = [n for n in everything if any(w in n for w in names)
             and "position" not in n]  # fmt: skip
    last = [n for n in everything if n in ("lm_head.weight", "head.weight", "output.weight", "embed_out.weight")]
    return ((first[0], everything[first[0]]), (last[0], everything[last[0]])) if first and last else None


def _setting(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


def _roles(weights: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """The weights that play one part, one of every block."""
    roles: dict[str, list[str]] = defaultdict(list)
    for name in weights:
        roles[role(name)].append(name)
    return roles


def _untouched(weights: Mapping[str, Tensor]) -> str | None:
    """A weight that is one number all over, where those of other blocks are not; a matrix of zeros among matrices."""
    flat = {n: float(w.flatten()[0]) for n, w in weights.items() if w.numel() > 1 and bool((w == w.flatten()[0]).all())}
    for names in _roles(weights).values():
        some = [n for n in names if n in flat]
        if some and len(some) < len(names):
            return f"`{some[0]}` is {flat[some[0]]:g} all over, and `{next(n for n in names if n not in flat)}` is not"
    return None


def _fresh(weights: Mapping[str, Tensor], patient: Patient) -> str | None:
    """A matrix that nothing but a random draw explains, among matrices that have learned."""
    if patient.trained is False:
        return None
    matrices = {n: w for n, w in weights.items() if w.ndim == 2 and min(w.shape) >= 32 and w.numel() <= 2**24}
    if len(matrices) < 4:
        return None
    shaped = {name for name, weight in matrices.items() if looks_drawn(weight)}
    if len(shaped) > len(matrices) // 4:
        return None  # it has learned little, or is as it was made
    roles = _roles(matrices)
    # What most blocks have in common is how this part looks, not what one of them missed.
    odd = {
        n
        for names in roles.values()
        for n in names
        if n in shaped and 2 * len(shaped & set(names)) <= max(len(names), 2)
        if len(names) > 1 or min(matrices[n].shape) >= ALONE
    }
    depth = max(len(names) for names in roles.values())
    drawn = [name for name in matrices if name in odd and _has_a_usual_size(matrices[name], depth)]
    if drawn:
        weight = matrices[drawn[0]]
        return (
            f"`{drawn[0]}` looks like fresh random numbers (standard deviation {float(weight.float().std()):.4g}), which "
            f"{len(matrices) - len(drawn)} of {len(matrices)} matrices do not"
        )
    return None


def _has_a_usual_size(weight: Tensor, depth: int) -> bool:
    """Whether its standard deviation is, to the error of the sample, one with which people begin."""
    rows, columns = weight.shape
    usual = (
        1.0, 0.02, 0.02 / math.sqrt(2 * depth), 0.01, columns**-0.5, (3 * columns) ** -0.5, (2 / columns) ** 0.5,
        (2 / (rows + columns)) ** 0.5,
    )  # fmt: skip
    std, error = float(weight.float().std()), min(max(0.01, 3 / math.sqrt(2 * weight.numel())), 0.05)
    return any(abs(std / size - 1) < error for size in usual)


def looks_drawn(weight: Tensor) -> bool:
    """Whether a matrix cannot be told from independent random numbers: no direction stands out, and no row or column does."""
    w = weight.float()
    if w.numel() > 2**20:
        w = w[: max(16, 2**20 // w.shape[1])]
    std = float(w.std())
    if std == 0:
        return False
    rows, columns = w.shape
    lengths = w.square().mean(1).sqrt()
    if float(lengths.max() / lengths.min().clamp(min=1e-12)) > 1 + 9 / math.sqrt(columns):
        return False
    top = float(torch.linalg.matrix_norm(w, 2)) if min(w.shape) <= 512 else _top(w)
    return top < EDGE * std * (math.sqrt(rows) + math.sqrt(columns))


def _top(w: Tensor) -> float:
    """The largest singular value, by powers."""
    v = torch.ones(w.shape[1]) / math.sqrt(w.shape[1])
    for _ in range(20):
        v = torch.nn.functional.normalize(w.T @ (w @ v), dim=0)
    return float((w @ v).norm())


def _twins(weights: Mapping[str, Tensor]) -> str | None:
    """Two matrices with the same numbers in them."""
    matrices: dict[Print, list[str]] = defaultdict(list)
    for name, weight in weights.items():
        if weight.ndim >= 2 and weight.numel() >= 64 and not bool((weight == weight.flatten()[0]).all()):
            matrices[_print(weight)].append(name)
    for one, other in _pairs(matrices.values()):
        ends = {"embed" in one.lower() or "wte" in one, "head" in other.lower() or "output" in other}
        if (
            ends == {True}
            or weights[one].shape != weights[other].shape
            or not torch.equal(weights[one], weights[other])
        ):
            continue
        return f"`{one}` and `{other}` hold the same numbers"
    return None


def _pairs(groups: Any) -> Iterator[tuple[str, str]]:
    for names in groups:
        yield from combinations(names, 2)
