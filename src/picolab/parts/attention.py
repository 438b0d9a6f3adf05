"""Attention: every token gathers what it needs from the tokens before it. Vaswani et al. 2017, arXiv:1706.03762.

    q . k * scale -> scores -> mask -> softmax -> probs -> weighted sum of v -> mixed

Query head h reads key/value head h // (heads / kv_heads) (grouped queries, Ainslie et al. 2023, arXiv:2305.13245).
Shapes: q `(batch, time, heads, head_dim)`, k and v `(batch, past, kv_heads, head_dim)`; the last query
stands at the last key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from picolab.errors import BadInput, BadSetting
from picolab.parts.cache import KeyValueCache
from picolab.parts.tap import tap, watched
from picolab.shapes import Documents, Keys, Mask, Queries, Scores, Tokens, Values


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

    def mask(self, window: int | None = None) -> Mask | None:
        """True where a query may look; None stands for the plain causal triangle over `time` keys."""
        time, before = self.positions.shape[1], self.cache.length if self.cache else 0
        if self.documents is None and before == 0 and (window is None or time <= window):
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
        return mask


def look(
    tokens: Tokens,
    *,
    context_length: int,
    documents: Documents | None = None,
    cache: KeyValueCache | None = None,
) -> Sight:
    """The `Sight` of a pass over `tokens`; positions restart at every document of a packed row."""
    time = tokens.shape[1]
    if documents is not None and cache is not None:
        raise BadInput("packed documents and a cache cannot be combined", hint="generate one document a row")
    start = cache.length if cache else 0
    if start + time > context_length:
        raise BadInput(
            f"{start + time} positions are more than the model's context of {context_length}",
            hint="shorten the text or use a model with a longer context",
        )
    positions = torch.arange(start, start + time, device=tokens.device)[None]
    if documents is not None:
        positions = positions_within(documents)
    return Sight(positions, documents, cache)


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
        mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device).tril()
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


def attend_by_products(q: Queries, k: Keys, v: Values, mask: Mask | None, *, scale: float) -> Queries:
    """Two batched matrix products with a softmax between, in the inputs' own type; the scores exist in full."""
    batch, time, heads, head_dim = q.shape
    past, kv_heads = k.shape[1], k.shape[2]
    grouped = (q * scale).unflatten(2, (kv_heads, -1)).permute(0, 2, 3, 1, 4)  # batch kv_heads group time head_dim
    scores = grouped.flatten(2, 3) @ k.permute(0, 2, 3, 1)
    if mask is None:
        mask = torch.ones(time, past, dtype=torch.bool, device=q.device).tril()[None, None]
    # Added, not filled in: the gradient of an addition costs nothing.
    hidden = torch.zeros(mask.shape, dtype=scores.dtype, device=q.device).masked_fill_(~mask, -torch.inf)
    probs = (scores.unflatten(2, (-1, time)) + hidden[:, :, None]).softmax(-1)
    mixed = (probs.flatten(2, 3) @ v.transpose(1, 2)).unflatten(2, (-1, time))
    return mixed.permute(0, 3, 1, 2, 4).flatten(2, 3)


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
    mask = sight.mask(window)
    if sinks is not None or watched(module, "scores", "probs"):
        mixed = attend_plainly(q, k, v, mask, scale=scale, sinks=sinks, module=module)
    else:
        mixed = attend(q, k, v, mask, scale=scale)
    return tap(module, "mixed", mixed.flatten(2))
