"""Linear attention: what was read is one matrix, however long the text. Katharopoulos et al. 2020, arXiv:2006.16236.

    softmax    weight of s for t = exp(q_t . k_s)         every key is kept, time x time weights
    linear     weight of s for t = map(q_t) . map(k_s)    map(x) = elu(x) + 1 > 0, so the sum over s can be taken before t asks

    state_t = kept_t * state_(t-1) + map(k_t) [v_t, 1]    the 1 gathers the weights' sum beside their mixture
    mixed_t = map(q_t) state_t, its first lanes divided by the last

`kept` is 1, but where a text begins it is 0, which is all that keeps packed documents and padding apart. With gates it is the share
of the past that a head keeps at each token, as in gated linear attention (Yang et al. 2023, arXiv:2312.06635), with one gate a head
instead of one a lane: then every weight is a product of gates, never a quotient, and no length can overflow.

Three forms, equal in values and gradients: `attend_in_square` shows the weights, `attend_in_chunks` trains, `attend_step` writes.
All compute in float32 at least. Shapes: q, k, v `(batch, time, heads, head_dim)`, q and k mapped; `log_kept` at most 0, `(batch,
time, heads)`, or 1 in place of heads; None where nothing is forgotten.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from picolab.parts.tap import rows_at_a_time, tap, watched
from picolab.shapes import Queries

Mapped = Float[Tensor, "batch time heads head_dim"]
Some = Float[Tensor, "batch rows heads head_dim"]
Weights = Float[Tensor, "batch heads rows past"]
LogKept = Float[Tensor, "batch time #heads"]
State = Float[Tensor, "batch heads head_dim lanes"]
"""The matrix of every head: what each lane of a mapped key gathered of the values' lanes, and of the 1 beside them."""

CHUNK = 64
"""Tokens whose weights exist at once in training. Work a token grows with it, the number of steps from chunk to chunk falls."""
LEAST = 1e-30
"""Least sum of weights that is divided by: only where no key was read, or all were mapped to nothing, is it smaller."""


def feature_map(x: Queries) -> Mapped:
    """elu(x) + 1, positive everywhere: exp(x) below 0, x + 1 above."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return F.elu(wide) + 1


def implied_weights(q: Some, k: Mapped, log_kept: LogKept | None, *, start: int = 0) -> Weights:
    """What share of its mixture each query takes from each key: rows sum to 1. `q` are the queries from `start` on."""
    weights = torch.einsum("bthd,bshd->bhts", q, k[:, : start + q.shape[1]]) * _share_kept(log_kept, q, start)
    return weights / weights.sum(-1, keepdim=True).clamp(min=LEAST)


def attend_in_square(
    q: Mapped, k: Mapped, v: Queries, log_kept: LogKept | None = None, *, module: nn.Module | None = None, rows: int = 0
) -> Queries:
    """The plain form: all weights, then their mixture. `module` names the site `probs` where they are seen, `rows` at once."""
    mixed: list[Tensor] = []
    for part in q.split(rows or max(q.shape[1], 1), dim=1):
        probs = implied_weights(part, k, log_kept, start=sum(m.shape[1] for m in mixed))
        if module is not None:
            probs = tap(module, "probs", probs)
        mixed.append(torch.einsum("bhts,bshd->bthd", probs, v[:, : probs.shape[-1]].to(probs.dtype)))
    return torch.cat(mixed, dim=1)


def attend_in_chunks(
    q: Mapped, k: Mapped, v: Queries, log_kept: LogKept | None = None, *, state: State | None = None, chunk: int = CHUNK
) -> tuple[Queries, State]:
    """The form for training and prompts: squares within chunks, the state from chunk to chunk. Also the state at the end.

    chunk n     mixed = its own square  +  map(q) kept since the chunk began * state_n
                state_(n+1) = kept over the chunk * state_n  +  sum of kept since s * map(k_s) [v_s, 1]
    """
    time = q.shape[1]
    chunk = min(chunk, max(time, 1))
    q, k, values = (_chunks(x, chunk) for x in (q, k, _with_ones(v, q.dtype)))  # batch chunks heads chunk lanes
    # Behind the end there is nothing to add, and nothing is forgotten there.
    log_kept = None if log_kept is None else _chunks(log_kept[..., None], chunk)[..., 0]
    square = (q @ k.transpose(-1, -2)) * _within(log_kept, q)
    gathered, held = square @ values, k
    if log_kept is not None:
        held = k * _sums_after(log_kept).exp()[..., None]
    added = held.transpose(-1, -2) @ values
    if state is None:
        state = torch.zeros_like(added[:, 0])
    before = []
    for n in range(added.shape[1]):
        before.append(state)
        kept = state if log_kept is None else state * log_kept[:, n].sum(-1).exp()[..., None, None]
        state = kept + added[:, n]
    asked = q if log_kept is None else q * log_kept.cumsum(-1).exp()[..., None]
    gathered = gathered + asked @ torch.stack(before, dim=1)
    mixed = _divided(gathered).transpose(2, 3).flatten(1, 2)[:, :time]
    return mixed, state


def attend_step(q: Mapped, k: Mapped, v: Queries, log_kept: LogKept | None, state: State) -> tuple[Queries, State]:
    """The form for writing: token after token, one matrix a head. Time and memory of a token do not depend on the text before."""
    values, mixed = _with_ones(v, q.dtype), []
    for t in range(q.shape[1]):
        if log_kept is not None:
            state = state * log_kept[:, t].exp()[..., None, None]
        state = state + k[:, t, :, :, None] * values[:, t, :, None, :]
        mixed.append(_divided((q[:, t, :, None, :] @ state)[:, :, 0]))
    return torch.stack(mixed, dim=1), state


def mix_linearly(
    module: nn.Module, q: Queries, k: Queries, v: Queries, log_kept: LogKept | None, state: State | None, *, fresh: bool
) -> tuple[Float[Tensor, "batch time width"], State | None]:
    """Linear attention of one layer as a model uses it: maps (sites `q_map`, `k_map`), form, heads side by side (site `mixed`).

    `state` is what was read before, None where nothing is kept; `fresh` that it holds nothing yet. The weights can be seen (site
    `probs`) where all keys are here: not after a text that only the state remembers.
    """
    kind = v.dtype
    with torch.autocast(q.device.type, enabled=False):  # sums over a whole text need their digits
        q, k = tap(module, "q_map", feature_map(q)), tap(module, "k_map", feature_map(k))
        if log_kept is not None:
            log_kept = log_kept.to(q.dtype)
        if state is not None and q.shape[1] == 1:
            mixed, state = attend_step(q, k, v, log_kept, state)
        elif watched(module, "probs") and fresh:
            rows = rows_at_a_time(module, "probs") or 0
            mixed = attend_in_square(q, k, v, log_kept, module=module, rows=rows)
            state = None if state is None else attend_in_chunks(q, k, v, log_kept, state=state)[1]
        else:
            mixed, after = attend_in_chunks(q, k, v, log_kept, state=state)
            state = None if state is None else after
    return tap(module, "mixed", mixed.to(kind).flatten(2)), state


def _share_kept(log_kept: LogKept | None, q: Some, start: int) -> Tensor:
    """What is left at query t of key s: the product of what was kept at s + 1 .. t; 0 where s comes after t."""
    stop = start + q.shape[1]
    if log_kept is None:
        return torch.ones(q.shape[1], stop, dtype=q.dtype, device=q.device).tril(start)
    return _products(log_kept[:, :stop].transpose(1, 2), start)


def _within(log_kept: Float[Tensor, "batch chunks #heads chunk"] | None, q: Tensor) -> Tensor:
    """The same inside each chunk."""
    if log_kept is None:
        return torch.ones(q.shape[-2], q.shape[-2], dtype=q.dtype, device=q.device).tril()
    return _products(log_kept, 0)


def _products(log_kept: Float[Tensor, "*heads past"], start: int) -> Float[Tensor, "*heads time past"]:
    """For t from `start` on, s up to t: exp of the sum over s + 1 .. t. Only negative numbers are added: nothing cancels, and the
    beginning of a text, minus infinity, stays one."""
    past = log_kept.shape[-1]
    since = torch.ones(past - start, past, dtype=torch.bool, device=log_kept.device).tril(start)
    of_row = log_kept[..., None, :].masked_fill(~since, 0.0)
    return _sums_after(of_row).exp().masked_fill(~since, 0.0)


def _sums_after(x: Float[Tensor, "*rows past"]) -> Float[Tensor, "*rows past"]:
    """At s, the sum of all that come after s."""
    return F.pad(x[..., 1:].flip(-1).cumsum(-1).flip(-1), (0, 1))


def _with_ones(v: Queries, dtype: torch.dtype) -> Float[Tensor, "batch time heads lanes"]:
    return F.pad(v.to(dtype), (0, 1), value=1.0)


def _divided(gathered: Float[Tensor, "*rows lanes"]) -> Float[Tensor, "*rows head_dim"]:
    """The mixture of values by the sum of its weights, which was gathered in the last lane."""
    return gathered[..., :-1] / gathered[..., -1:].clamp(min=LEAST)


def _chunks(x: Float[Tensor, "batch time heads lanes"], chunk: int) -> Float[Tensor, "batch chunks heads chunk lanes"]:
    """Cut along time, zeros behind the end."""
    return F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % chunk)).unflatten(1, (-1, chunk)).transpose(2, 3)
