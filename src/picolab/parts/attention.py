"""Attention: every token gathers what it needs from the tokens before it. Vaswani et al. 2017, arXiv:1706.03762.

    q . k * scale -> scores -> mask -> softmax -> probs -> weighted sum of v -> mixed

Query head h reads key/value head h // (heads / kv_heads) (grouped queries, Ainslie et al. 2023, arXiv:2305.13245).
Shapes: q `(batch, time, heads, head_dim)`, k and v `(batch, past, kv_heads, head_dim)`; the last query
stands at the last key.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from picolab.errors import BadInput, BadSetting
from picolab.parts.cache import KeyValueCache
from picolab.parts.tap import rows_at_a_time, tap, watched
from picolab.shapes import Documents, Keys, Mask, Queries, Scores, Tokens, Values

BLOCK = 2**22
"""Most scores that exist at once where attention is looked at by rows: 16 MB in float32."""


@runtime_checkable
class HeadSizes(Protocol):
    """The part of a decoder's settings that attention reads."""

    @property
    def d_model(self) -> int: ...
    @property
    def n_heads(self) -> int: ...
    @property
    def n_kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...


def check_heads(sizes: HeadSizes) -> None:
    """Fill in `n_kv_heads` and `head_dim` of a frozen config and refuse head counts that cannot share."""
    if not sizes.n_kv_heads:
        object.__setattr__(sizes, "n_kv_heads", sizes.n_heads)
    if sizes.n_heads % sizes.n_kv_heads:
        raise BadSetting(
            f"n_heads {sizes.n_heads} is not a multiple of n_kv_heads {sizes.n_kv_heads}",
            hint=f"n_kv_heads {sizes.n_heads} is plain multi-head attention, n_kv_heads 1 is multi-query",
        )
    if not sizes.head_dim:
        object.__setattr__(sizes, "head_dim", width_of_heads(sizes.d_model, sizes.n_heads))
    if sizes.head_dim % 2:
        raise BadSetting(f"head_dim {sizes.head_dim} is odd", hint="rotary positions turn pairs of lanes: make it even")


def width_of_heads(d_model: int, n_heads: int) -> int:
    """d_model / n_heads, which must be whole."""
    if d_model % n_heads:
        near = min((d for d in range(1, d_model + 1) if d_model % d == 0), key=lambda d: abs(d - n_heads))
        raise BadSetting(f"d_model {d_model} is not a multiple of n_heads {n_heads}", hint=f"n_heads {near} divides it")
    return d_model // n_heads


@dataclass(frozen=True)
class Sight:
    """What one pass may look at: the tokens' positions, the documents they belong to, the keys kept from before."""

    positions: Int64[Tensor, "#batch time"]
    documents: Documents | None
    cache: KeyValueCache | None

    @property
    def reads_one_on(self) -> bool:
        """Whether this pass is one token a row, after texts without padding: it sees every key there is, or its window's."""
        return self.positions.shape[1] == 1 and self.cache is not None and self.cache.starts is None

    def mask(self, window: int | None = None) -> Mask | None:
        """True where a query may look; None stands for the plain causal triangle over `time` keys."""
        time, before = self.positions.shape[1], self.cache.length if self.cache else 0
        starts = self.cache.starts if self.cache else None
        if self.documents is None and starts is None and before == 0 and (window is None or time <= window):
            return None
        past = before + time
        query = torch.arange(before, past, device=self.positions.device)[:, None]
        key = torch.arange(past, device=self.positions.device)
        visible = key <= query
        if window is not None:
            visible = visible & (query - key < window)
        mask = visible[None, None]  # batch heads time past
        if self.documents is not None:
            mask = mask & (self.documents[:, None, :, None] == self.documents[:, None, None, :])
        if starts is not None:
            # Padding reads itself and nothing else: a softmax over no key at all would be NaN.
            mask = mask & ((key >= starts[:, None, None, None]) | (key == query))
        return mask


def look(
    tokens: Tokens,
    *,
    context_length: int,
    documents: Documents | None = None,
    cache: KeyValueCache | None = None,
) -> Sight:
    """The `Sight` of a pass over `tokens`; positions restart at every document of a packed row, and count from a row's own start
    where the cache says that padding comes before it."""
    positions = positions_of(tokens, context_length=context_length, documents=documents, cache=cache)
    return Sight(positions, documents, cache)


@runtime_checkable
class Started(Protocol):
    """The part of a cache that positions follow from: how much was read, and where each row's own text begins."""

    length: int
    first_start: int
    starts: Int64[Tensor, " batch"] | None


def positions_of(
    tokens: Tokens, *, context_length: int, documents: Documents | None = None, cache: Started | None = None
) -> Int64[Tensor, "#batch time"]:
    """Where every token stands in its own text; padding before a row's start is at 0."""
    time = tokens.shape[1]
    if documents is not None and cache is not None:
        raise BadInput("packed documents and a cache cannot be combined", hint="generate one document a row")
    start = cache.length if cache else 0
    longest = start + time - (cache.first_start if cache else 0)
    if longest > context_length:
        raise BadInput(
            f"{longest} positions are more than the model's context of {context_length}",
            hint="shorten the text or use a model with a longer context",
        )
    positions = torch.arange(start, start + time, device=tokens.device)[None]
    if cache is not None and cache.starts is not None:
        positions = (positions - cache.starts[:, None]).clamp(min=0)
    if documents is not None:
        positions = positions_within(documents)
    return positions


def positions_within(documents: Documents) -> Int64[Tensor, "batch time"]:
    """Position of every token inside its own document: 0 1 2 0 1 0 1 2 3 .. ."""
    index = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    opens = torch.ones_like(documents, dtype=torch.bool)
    opens[:, 1:] = documents[:, 1:] != documents[:, :-1]
    start = torch.where(opens, index, 0).cummax(dim=1).values
    return index - start


def split_heads(x: Float[Tensor, "batch time lanes"], heads: int) -> Float[Tensor, "batch time heads head_dim"]:
    """Cut the last axis into `heads` neighbours of equal width."""
    return x.unflatten(-1, (heads, -1))


def attend_plainly(
    q: Queries,
    k: Keys,
    v: Values,
    mask: Mask | None,
    *,
    scale: float,
    sinks: Float[Tensor, " heads"] | None = None,
    module: nn.Module | None = None,
) -> Queries:
    """Attention as it is written, every number visible; `module` names the sites `scores` and `probs`.

    `sinks` adds one logit a head that takes part in the softmax and carries no value (gpt-oss, OpenAI 2025).
    """
    group = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
    scores: Scores = torch.einsum("bthd,bphd->bhtp", q, k) * scale
    if module is not None:
        scores = tap(module, "scores", scores)
    if mask is None:
        mask = _triangle(q, k)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)).masked_fill(~mask, -torch.inf)
    if sinks is None:
        probs = scores.softmax(-1)
    else:
        sink = sinks.to(scores.dtype)[None, :, None, None].expand(*scores.shape[:-1], 1)
        probs = torch.cat((scores, sink), dim=-1).softmax(-1)[..., :-1]
    probs = probs.to(v.dtype)
    if module is not None:
        probs = tap(module, "probs", probs)
    return torch.einsum("bhtp,bphd->bthd", probs, v)


def attend_visibly(
    q: Queries,
    k: Keys,
    v: Values,
    mask: Mask | None,
    *,
    scale: float,
    module: nn.Module,
    sinks: Float[Tensor, " heads"] | None = None,
    rows: int | None = None,
) -> Queries:
    """Attention whose scores and probabilities are seen at the sites of `module`; with `rows`, of at most so many queries at a
    time, each block over the keys up to its last query."""
    if sinks is None:
        way = partial(attend_by_products, scale=scale, module=module)
    else:  # the kernel an unwatched pass takes, too
        way = partial(attend_plainly, scale=scale, module=module, sinks=sinks)
    time, past = q.shape[1], k.shape[1]
    if rows is None or rows >= time:
        return way(q, k, v, mask)
    rows, blocks = max(1, min(rows, BLOCK // (q.shape[0] * q.shape[2] * past))), []
    if sinks is None and not (torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)):
        return _attend_in_one_memory(q, k, v, mask, scale=scale, module=module, rows=rows)
    for start in range(0, time, rows):
        stop = min(start + rows, time)
        seen = past - time + stop
        part = None if mask is None else mask[:, :, start:stop, :seen]
        blocks.append(way(q[:, start:stop], k[:, :seen], v[:, :seen], part))
    return torch.cat(blocks, dim=1)


def _attend_in_one_memory(
    q: Queries, k: Keys, v: Values, mask: Mask | None, *, scale: float, module: nn.Module, rows: int
) -> Queries:
    """`attend_by_products` by rows, without a gradient: every block's scores, then its probabilities, lie in the same memory.
    Blocks of ever new sizes would leave holes behind that add up to several times their size."""
    (batch, time, heads, _), (_, past, kv_heads, _) = q.shape, k.shape
    memory, mixed = q.new_empty(batch * heads * rows * past), q.new_empty(q.shape)
    keys, values = k.permute(0, 2, 3, 1).flatten(0, 1), v.transpose(1, 2).flatten(0, 1)
    for start in range(0, time, rows):
        stop = min(start + rows, time)
        seen, n = past - time + stop, stop - start
        room = memory[: batch * heads * n * seen].view(batch, heads, n, seen)
        grouped = (
            (q[:, start:stop] * scale).unflatten(2, (kv_heads, -1)).permute(0, 2, 3, 1, 4).flatten(0, 1).flatten(1, 2)
        )
        torch.bmm(grouped, keys[:, :, :seen], out=room.view(batch * kv_heads, -1, seen))
        scores = tap(module, "scores", room)
        part = _triangle(q[:, start:stop], k[:, :seen]) if mask is None else mask[:, :, start:stop, :seen]
        hidden = torch.zeros(part.shape, dtype=scores.dtype, device=q.device).masked_fill_(~part, -torch.inf)
        torch.add(scores, hidden, out=room)
        probs = tap(module, "probs", torch.softmax(room, -1, out=room))
        block = torch.bmm(probs.reshape(batch * kv_heads, -1, seen), values[:, :seen])
        mixed[:, start:stop] = block.view(batch, heads, n, -1).transpose(1, 2)
    return mixed


def attend(q: Queries, k: Keys, v: Values, mask: Mask | None, *, scale: float) -> Queries:
    """`attend_plainly` by the fastest kernel for the case; none of them repeats keys in memory for grouped heads."""
    if _products_are_faster(q, k):
        return attend_by_products(q, k, v, mask, scale=scale)
    mixed = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return mixed.transpose(1, 2)


def attend_by_products(
    q: Queries, k: Keys, v: Values, mask: Mask | None, *, scale: float, module: nn.Module | None = None
) -> Queries:
    """Two batched matrix products with a softmax between, in the inputs' own type; the scores exist in full, and `module` names
    the sites where they are seen. No key is repeated for the heads that share it."""
    time, kv_heads = q.shape[1], k.shape[2]
    grouped = (q * scale).unflatten(2, (kv_heads, -1)).permute(0, 2, 3, 1, 4)  # batch kv_heads group time head_dim
    scores: Scores = (grouped.flatten(2, 3) @ k.permute(0, 2, 3, 1)).unflatten(2, (-1, time)).flatten(1, 2)
    if module is not None:
        scores = tap(module, "scores", scores)
    if mask is None:
        mask = _triangle(q, k)
    # Added, not filled in: the gradient of an addition costs nothing.
    hidden = torch.zeros(mask.shape, dtype=scores.dtype, device=q.device).masked_fill_(~mask, -torch.inf)
    probs = (scores + hidden).softmax(-1)
    if module is not None:
        probs = tap(module, "probs", probs)
    mixed = probs.unflatten(1, (kv_heads, -1)).flatten(2, 3) @ v.transpose(1, 2)
    return mixed.unflatten(2, (-1, time)).permute(0, 3, 1, 2, 4).flatten(2, 3)


def attend_newest(
    q: Queries,
    k: Keys,
    v: Values,
    *,
    scale: float,
    window: int | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
) -> Queries:
    """One query a row, the newest: it sees every key, or its window's. No key is repeated for the heads that share it."""
    if torch.compiler.is_compiling():
        return _attend_newest_in_one_loop(q, k, v, scale=scale, window=window, sinks=sinks)
    if window is not None:
        k, v = k[:, -window:], v[:, -window:]
    if sinks is None:
        heads_first = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        shared = q.shape[2] != k.shape[2]
        return F.scaled_dot_product_attention(*heads_first, scale=scale, enable_gqa=shared).transpose(1, 2)
    wide = torch.promote_types(q.dtype, torch.float32)
    grouped = (q[:, 0].to(wide) * scale).unflatten(1, (k.shape[2], -1))  # batch kv_heads group head_dim
    scores = torch.einsum("bkgd,bpkd->bpkg", grouped, k.to(wide))
    mixed = torch.einsum("bpkg,bpkd->bkgd", _share(scores, sinks), v.to(wide))
    return mixed.flatten(1, 2)[:, None].to(q.dtype)


def _attend_newest_in_one_loop(
    q: Queries,
    k: Keys,
    v: Values,
    *,
    scale: float,
    window: int | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
) -> Queries:
    """The same for a compiler, which makes one loop of a product and its sum; written out, the product would fill the memory."""
    wide = torch.promote_types(q.dtype, torch.float32)
    grouped = (q[:, 0].to(wide) * scale).unflatten(1, (k.shape[2], -1))
    scores = (grouped[:, None] * k[:, :, :, None].to(wide)).sum(-1)
    if window is not None:  # not cut off: sizes that depend on the length in two ways would be compiled twice
        age = torch.arange(k.shape[1] - 1, -1, -1, device=q.device)
        scores = scores.masked_fill(age[:, None, None] >= window, -torch.inf)
    mixed = (_share(scores, sinks)[..., None] * v[:, :, :, None].to(wide)).sum(1)
    return mixed.flatten(1, 2)[:, None].to(q.dtype)


def _share(
    scores: Float[Tensor, "batch past kv_heads group"], sinks: Float[Tensor, " heads"] | None
) -> Float[Tensor, "batch past kv_heads group"]:
    """Softmax over the keys, a sink taking its share."""
    if sinks is None:
        return scores.softmax(1)
    sink = sinks.to(scores.dtype).unflatten(0, scores.shape[2:])
    top = torch.maximum(scores.amax(1, keepdim=True), sink)
    weights = (scores - top).exp()
    return weights / (weights.sum(1, keepdim=True) + (sink - top).exp())


def _triangle(q: Queries, k: Keys) -> Mask:
    """Every query sees the keys up to its own; the last query stands at the last key."""
    time, past = q.shape[1], k.shape[1]
    return torch.ones(1, 1, time, past, dtype=torch.bool, device=q.device).tril(past - time)


def _products_are_faster(q: Queries, k: Keys) -> bool:
    """Training short rows in bfloat16 on a CPU: there the fused kernel's backward pass takes twice as long."""
    trains = torch.is_grad_enabled() and q.requires_grad
    return trains and q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[1] * k.shape[1] <= 2**17


def mix(
    module: nn.Module,
    layer: int,
    q: Queries,
    k: Keys,
    v: Values,
    sight: Sight,
    *,
    scale: float | None = None,
    window: int | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
) -> Float[Tensor, "batch time lanes"]:
    """Attention of one layer as a model uses it: cache, mask, kernel, heads side by side (site `mixed`)."""
    if sight.cache is not None:
        k, v = sight.cache.extend(layer, k, v)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if watched(module, "scores", "probs"):
        rows = rows_at_a_time(module, "scores", "probs")
        mixed = attend_visibly(q, k, v, sight.mask(window), scale=scale, module=module, sinks=sinks, rows=rows)
    elif sight.reads_one_on:
        mixed = attend_newest(q, k, v, scale=scale, window=window, sinks=sinks)
    elif sinks is not None:
        mixed = attend_plainly(q, k, v, sight.mask(window), scale=scale, sinks=sinks)
    else:
        mixed = attend(q, k, v, sight.mask(window), scale=scale)
    return tap(module, "mixed", mixed.flatten(2))
