"""Cross entropy of a vocabulary head, in nats: how surprised the model is by each next token.

    logits = features weight^T;   loss = log sum exp(logits) - logits[target]

With a large vocabulary the logits dwarf everything else a step touches: 2,048 tokens times 50,257 words are 412 MB in float32,
moved through memory several times. So the fast version takes a few hundred tokens at a time and, while their logits are still warm,
computes the gradient as well, (softmax - one_hot), and folds it into the gradients of features and weight at once:

    for a chunk of tokens:  logits -> probs -> losses;  slope = probs - one_hot;  d_features = slope weight;  d_weight += slope^T x

Nothing of size tokens x vocab ever exists (the idea of Liger-Kernel, Hsu et al. 2024, arXiv:2410.10989, and of cut cross entropy,
Wijmans et al. 2024, arXiv:2411.09009).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from picolab.shapes import Stream, TokenLosses, Tokens

IGNORE = -1
"""Target id of a position whose loss does not count (padding)."""

CHUNK_ELEMENTS = 2**25
"""Logits held at once: 64 MB in bfloat16. Smaller chunks feed the matrix products too little (benchmarks/training.py)."""

ALIGNED = 64
"""A large vocabulary is filled up to a multiple of this: with rows that start on a cache line its gradient is a fifth faster."""

COLUMNS = 128
"""How many columns of a softmax are read to recover its normaliser."""


def token_losses_plainly(
    features: Stream,
    weight: Float[Tensor, "vocab d_model"],
    targets: Tokens,
    *,
    bias: Float[Tensor, " vocab"] | None = None,
    cap: float | None = None,
) -> TokenLosses:
    """All logits at once; softmax in float32; 0 where the target is `IGNORE`."""
    logits = F.linear(features, weight, bias).float()
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none")
    return losses.view_as(targets)


def token_losses(
    features: Stream,
    weight: Float[Tensor, "vocab d_model"],
    targets: Tokens,
    *,
    bias: Float[Tensor, " vocab"] | None = None,
    cap: float | None = None,
) -> TokenLosses:
    """`token_losses_plainly`, a chunk of tokens at a time, gradient included; padding costs nothing.

    Computes in autocast's type where autocast is on. The gradient is exact for any weighting of the losses; it is already
    finished when every scored token weighs the same, as in a mean, and computed anew when not.
    """
    if (
        torch.compiler.is_compiling()
    ):  # left alone there; a decorator would load the compiler for everybody, two seconds
        return torch.compiler.disable(_in_chunks)(features, weight, targets, bias, cap)
    return _in_chunks(features, weight, targets, bias, cap)


def _in_chunks(
    features: Stream,
    weight: Float[Tensor, "vocab d_model"],
    targets: Tokens,
    bias: Float[Tensor, " vocab"] | None,
    cap: float | None,
) -> TokenLosses:
    scored = targets.flatten() != IGNORE
    flat = features.flatten(0, 1)
    dtype = torch.get_autocast_dtype(flat.device.type) if torch.is_autocast_enabled(flat.device.type) else flat.dtype
    with torch.autocast(flat.device.type, enabled=False):
        losses = _HeadLoss.apply(flat[scored], weight, bias, targets.flatten()[scored], cap, dtype)
    return losses.new_zeros(scored.shape).masked_scatter(scored, losses).view_as(targets)


class _Pass(NamedTuple):
    """Losses of some tokens, and the gradient of their weighted sum."""

    losses: Float[Tensor, " tokens"]
    d_features: Float[Tensor, "tokens d_model"] | None
    d_weight: Float[Tensor, "vocab d_model"] | None
    d_bias: Float[Tensor, " vocab"] | None


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Float[Tensor, "tokens d_model"],
        weight: Float[Tensor, "vocab d_model"],
        bias: Float[Tensor, " vocab"] | None,
        targets: Int64[Tensor, " tokens"],
        cap: float | None,
        dtype: torch.dtype,
    ) -> Float[Tensor, " tokens"]:
        done = _through_head(features, weight, bias, targets, cap, dtype, gradient=any(ctx.needs_input_grad))
        ctx.save_for_backward(features, weight, bias, targets)
        ctx.done, ctx.cap, ctx.dtype = done, cap, dtype
        return done.losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Float[Tensor, " tokens"]) -> tuple[Tensor | None, ...]:
        inputs = features, weight, bias, targets = ctx.saved_tensors
        uniform = upstream.numel() > 0 and bool((upstream == upstream[0]).all())
        if uniform and ctx.done is not None:
            done, factor = ctx.done, upstream[0]
        else:
            done = _through_head(features, weight, bias, targets, ctx.cap, ctx.dtype, gradient=True, weighting=upstream)
            factor = None
        ctx.done = None  # handed out and scaled in place: a second backward pass computes its own
        grads = []
        for grad, tensor in zip((done.d_features, done.d_weight, done.d_bias), inputs[:3], strict=True):
            if grad is not None:
                grad = grad.to(tensor.dtype) if factor is None else grad.mul_(factor).to(tensor.dtype)
            grads.append(grad)
        return (*grads, None, None, None)


def _through_head(
    features: Float[Tensor, "tokens d_model"],
    weight: Float[Tensor, "vocab d_model"],
    bias: Float[Tensor, " vocab"] | None,
    targets: Int64[Tensor, " tokens"],
    cap: float | None,
    dtype: torch.dtype,
    *,
    gradient: bool,
    weighting: Float[Tensor, " tokens"] | None = None,
) -> _Pass:
    """One walk over the tokens in chunks: losses, and the gradient of their sum (weighted, if a weighting is given)."""
    tokens, vocab = features.shape[0], weight.shape[0]
    chunks = max(1, math.ceil(tokens * vocab / CHUNK_ELEMENTS))
    rows = max(1, math.ceil(tokens / chunks))
    x, w = features.to(dtype), _filled(weight, dtype)
    b = None if bias is None else bias.to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    losses = torch.empty(tokens, dtype=wide, device=x.device)
    d_features = torch.empty_like(x) if gradient else None
    d_weight = d_bias = None
    memory = torch.empty(rows, len(w), dtype=dtype, device=x.device)
    for start in range(0, tokens, rows):
        here = slice(start, min(start + rows, tokens))
        count = here.stop - start
        at_target = (torch.arange(count, device=x.device), targets[here])
        logits = _logits(x[here], w, b, cap, out=memory[:count])
        steepness = None if cap is None or not gradient else 1 - (logits / cap).square()
        logits[:, vocab:] = -torch.inf
        target_logits, some_logits = logits[at_target].to(wide), logits[:, :COLUMNS].to(wide, copy=True)
        # In place: every row is read whole before its probabilities are written (a test watches over it).
        probs = torch.softmax(logits, -1, out=logits)
        log_sum_exp, lost = _log_sum_exp(some_logits, probs)
        if lost is not None:
            log_sum_exp[lost] = _logits(x[here][lost], w[:vocab], b, cap).to(wide).logsumexp(1)
        losses[here] = log_sum_exp - target_logits
        if d_features is None:
            continue
        slope = probs
        slope[at_target] -= 1
        if steepness is not None:
            slope *= steepness
        if weighting is not None:
            slope *= weighting[here, None].to(dtype)
        torch.mm(slope, w, out=d_features[here])
        d_weight = _add(d_weight, (slope.T @ x[here])[:vocab], wide)
        if bias is not None:
            d_bias = _add(d_bias, slope[:, :vocab].sum(0, dtype=wide), wide)
    return _Pass(losses, d_features, d_weight, d_bias)


def _filled(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight in the type of the products, with rows of zeros up to a multiple of `ALIGNED` where that costs under 2 %."""
    vocab, lanes = weight.shape
    rows = math.ceil(vocab / ALIGNED) * ALIGNED
    if rows == vocab or vocab < 64 * ALIGNED:
        return weight.to(dtype)
    filled = weight.new_zeros(rows, lanes, dtype=dtype)
    filled[:vocab] = weight
    return filled


def _logits(x: Tensor, w: Tensor, b: Tensor | None, cap: float | None, out: Tensor | None = None) -> Tensor:
    """The head itself, without gradient, in memory of one's own."""
    logits = torch.mm(x, w.T, out=out)
    if b is not None:
        logits[:, : len(b)] += b
    return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)


def _log_sum_exp(
    some_logits: Float[Tensor, "tokens columns"], probs: Float[Tensor, "tokens vocab"]
) -> tuple[Float[Tensor, " tokens"], Tensor | None]:
    """log sum exp of every row, from a softmax that is there already: logit - log prob is the same in every column.

    Probabilities carry their type's rounding (2^-9 in bfloat16); the mean over some columns leaves a twentieth of it, and reading
    these instead of all saves a sixth of the whole step. Also returns the rows, if any, whose columns have all underflowed.
    """
    some = probs[:, : some_logits.shape[1]].to(some_logits.dtype)
    usable = some > torch.finfo(probs.dtype).tiny * 2**10
    count = usable.sum(1)
    gap = torch.where(usable, some_logits - some.log(), 0).sum(1) / count.clamp(min=1)
    lost = count == 0
    return gap, lost if bool(lost.any()) else None


def _add(total: Tensor | None, part: Tensor, dtype: torch.dtype) -> Tensor:
    """`total + part` in a wide type; the first part needs no zeros to be added to."""
    return part.to(dtype) if total is None else total.add_(part)
