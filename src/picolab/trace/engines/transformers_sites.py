"""Which value of a transformers block is which site? Told by where it came from and where it went, not by what it is called.

A value is reported where it obeys the law of its place, and is absent where it does not (norms after the sum, scaled residuals):
better absent than wrong.

| site                | what it is in transformers                                                                            |
|---------------------|-------------------------------------------------------------------------------------------------------|
| q k v               | a view of what a linear layer gave, on its way into norm, rotation, cache or attention; this splits a  |
|                     |   fused projection (GPT-2's c_attn) however it is laid out                                             |
| q_norm k_norm       | what modules called q_norm and k_norm gave, found again in rotation (qwen3) or attention (nanochat)    |
| q_rope k_rope       | what `apply_rotary_pos_emb` gave, with the lanes that were not turned beside it                        |
| scores probs mixed  | inside and after `eager_attention_forward`; keys repeated for grouped heads are theirs alone           |
| attention_norm      | what attention read, if a norm of the block gave it; mlp_norm likewise                                 |
| resid_mid           | what the norm before the feed-forward layer read                                                       |
| out, down           | what attention and feed-forward gave, if the stream grew by exactly that                               |
| act                 | what the last linear layer of the feed-forward read; gate and up are told by the activation between    |

What differs from picolab: heads stand before time there, `(batch, heads, time, head_dim)`, and are turned back here. Lanes are in
halves in both. Layers that store weights input by output (Conv1D) differ in storage only.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from picolab.trace.engines.transformers_flow import Attended, Call, Flow, Rotated

NORMS = {"q": ("q_norm", "q_layernorm"), "k": ("k_norm", "k_layernorm")}
CLOSE = 1e-5
"""Relative to the largest number: a sum of the same two tensors, perhaps in another order."""


def sites_of_block(flow: Flow, past: int) -> Iterator[tuple[str, Tensor]]:
    """The places of a block with their values, in the order of computation."""
    attended: Attended | None = flow.first(Attended)
    calls = flow.calls()
    children = [call for call in calls if "." not in call.path]
    attention = None if attended is None else _child(children, attended.path)
    feed = _feed_forward(children, attention)
    normed = _norm_before(children, attention)
    if normed is not None and normed.y is not None:
        yield "attention_norm", normed.y
    if attended is not None:
        yield from _inside_attention(flow, attended, past)
    yield from _after_attention(flow, children, attention, feed)
    if flow.y is not None:
        yield "resid_post", flow.y


def _inside_attention(flow: Flow, attended: Attended, past: int) -> Iterator[tuple[str, Tensor]]:
    linears = {_memory(call.y): call.y for call in flow.calls() if _linear(call) and call.y is not None}
    steps = {"q": _steps(flow, "q", attended.q, linears), "k": _steps(flow, "k", flow.k, linears)}
    for letter, found in steps.items():
        if letter in found:
            yield f"attention.{letter}", found[letter]
    if flow.v is not None and _memory(flow.v) in linears:
        yield "attention.v", flow.v.transpose(1, 2)
    for name in [name for name in steps["q"] if name != "q"]:  # norm and rotation in their order
        for letter, found in steps.items():
            if (same := name.replace("q", letter, 1)) in found:
                yield f"attention.{same}", found[same]
    if attended.scores is not None and attended.scores.shape[-1] == past:
        yield "attention.scores", attended.scores
    if attended.probs is not None and attended.probs.shape[-1] == past:
        yield "attention.probs", attended.probs
    yield "attention.mixed", attended.mixed.flatten(2)


def _steps(flow: Flow, letter: str, final: Tensor | None, linears: dict[int, Tensor]) -> dict[str, Tensor]:
    """The way of a query or key from its projection into attention: `(batch, time, heads, head_dim)` at each step."""
    if final is None:
        return {}
    norm = next((call for call in flow.calls() if call.path.rpartition(".")[2] in NORMS[letter]), None)
    turned: Rotated | None = flow.first(Rotated)
    if turned is None:
        entered, left = final, final
    else:
        entered, left = (turned.q, turned.q_turned) if letter == "q" else (turned.k, turned.k_turned)
        if not turned.heads_first:
            entered, left = entered.transpose(1, 2), left.transpose(1, 2)
    steps: dict[str, Tensor] = {}
    raw: Tensor | None = entered
    rest: dict[str, Tensor] = {}
    if norm is None:
        rest = {} if turned is None else {f"{letter}_rope": final}
    elif turned is not None and flow.events.index(norm) > flow.events.index(turned):
        rest = {f"{letter}_rope": left}
        if _found_in(norm.y, final):
            rest[f"{letter}_norm"] = final
    else:
        raw = None if norm.x is None else _heads_first(norm.x, final)
        rest = {f"{letter}_norm": entered} if _found_in(norm.y, entered) else {}
        if turned is not None:
            rest[f"{letter}_rope"] = final
    raw = None if raw is None else _projected(raw, final, linears)
    if raw is not None:
        steps[letter] = raw
    return {name: value.transpose(1, 2) for name, value in {**steps, **rest}.items()}


def _projected(x: Tensor, like: Tensor, linears: dict[int, Tensor]) -> Tensor | None:
    """All lanes of what a linear layer gave and `x` is a view of; None where `x` is no such view any more."""
    given = linears.get(_memory(x))
    if given is None or x.shape == like.shape:
        return None if given is None else x
    # Only some lanes are turned: the others were cut off before.
    whole = _heads_first(given, like)
    return whole if whole is not None and torch.equal(whole[..., : x.shape[-1]], x) else None


def _memory(x: Tensor) -> int:
    """Where a tensor's numbers lie; the same for all views of it."""
    return x.untyped_storage().data_ptr()


def _heads_first(x: Tensor, like: Tensor) -> Tensor | None:
    """A view of a projection as `(batch, heads, time, head_dim)`; time is the axis with the longer stride."""
    _, heads, time, head_dim = like.shape
    if x.ndim == 3:
        return x.unflatten(-1, (heads, head_dim)).transpose(1, 2) if x.shape[-1] == heads * head_dim else None
    if heads != time:
        return x if x.shape[1] == heads else x.transpose(1, 2)
    return x if x.stride(1) < x.stride(2) else x.transpose(1, 2)


def _found_in(value: Tensor | None, where: Tensor) -> bool:
    """Whether a value is `where`, heads and time perhaps exchanged."""
    if value is None:
        return False
    if value.ndim == 3 and value.numel() == where.numel():
        value = value.unflatten(-1, (where.shape[1], where.shape[3]))
    return any(v.shape == where.shape and torch.equal(v, where) for v in (value, value.transpose(1, 2)))


def _after_attention(
    flow: Flow, children: list[Call], attention: Call | None, feed: Call | None
) -> Iterator[tuple[str, Tensor]]:
    out = None if attention is None else attention.y
    norm = _norm_before(children, feed)
    middle = None if norm is None or norm.x is flow.x else norm.x
    down = None if feed is None else feed.y
    together = middle is None and _sum(flow.y, flow.x, out, down)  # attention and feed-forward side by side
    if out is not None and (together or _sum(middle, flow.x, out)):
        yield "attention.out", out
    if middle is not None:
        yield "resid_mid", middle
    if norm is not None and norm.y is not None:
        yield "mlp_norm", norm.y
    if feed is not None:
        yield from _inside_feed_forward(flow, feed)
    if down is not None and (together or _sum(flow.y, middle, down)):
        yield "mlp.down", down


def _inside_feed_forward(flow: Flow, feed: Call) -> Iterator[tuple[str, Tensor]]:
    inside = [call for call in flow.calls() if call.path.startswith(f"{feed.path}.") and call.path.count(".") == 1]
    linears = [call for call in inside if _linear(call)]
    bends = [call for call in inside if call not in linears and not isinstance(call.module, nn.Dropout)]
    if len(linears) < 2 or len(bends) != 1 or not _same(linears[-1].y, feed.y):
        return
    *given, act = *(call.y for call in linears[:-1]), linears[-1].x
    bent, bend = bends[0].x, bends[0].y
    if act is None or bent is None or bend is None:
        return
    if len(given) == 1 and bent is given[0] and act is bend:
        yield "mlp.up", bent
        yield "mlp.act", act
        return
    up = _ungated(given, bent)
    if up is not None and up.shape == bend.shape and _same(bend * up, act):
        yield "mlp.gate", bent
        yield "mlp.up", up
        yield "mlp.act", act


def _ungated(given: list[Tensor | None], gate: Tensor) -> Tensor | None:
    """The expansion that is not the gate: of two linear layers the other, of one that is twice as wide the other half."""
    if len(given) == 2:
        return next((one for one in given if one is not gate), None)
    both = given[0]
    if both is None or both.shape[-1] != 2 * gate.shape[-1]:
        return None
    first, second = both.chunk(2, dim=-1)
    return second if first.data_ptr() == gate.data_ptr() else first


def _child(children: list[Call], path: str) -> Call | None:
    """The child of the block that holds the module of this path."""
    return next((call for call in children if call.path == path.split(".")[0]), None)


def _feed_forward(children: list[Call], attention: Call | None) -> Call | None:
    """The one child that is neither attention nor norm nor dropout."""
    others = [
        call
        for call in children
        if call is not attention and not _norm(call) and not isinstance(call.module, nn.Dropout)
    ]
    return others[0] if attention is not None and len(others) == 1 else None


def _norm_before(children: list[Call], reader: Call | None) -> Call | None:
    """The norm whose output a module read."""
    return next((call for call in children if reader is not None and _norm(call) and call.y is reader.x), None)


def _norm(call: Call) -> bool:
    return "norm" in type(call.module).__name__.lower()


def _linear(call: Call) -> bool:
    """A layer with a matrix, however it is stored."""
    weight = getattr(call.module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2


def _sum(total: Tensor | None, *parts: Tensor | None) -> bool:
    """Whether a tensor is the sum of others."""
    if total is None or any(part is None or part.shape != total.shape for part in parts):
        return False
    return _same(total, sum(part for part in parts if part is not None))


def _same(a: Tensor | None, b: Tensor | int | None) -> bool:
    if a is None or not isinstance(b, Tensor) or a.shape != b.shape:
        return False
    return a is b or bool((a - b).abs().max() <= CLOSE * a.abs().max())
