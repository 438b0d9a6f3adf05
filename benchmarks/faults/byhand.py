"""Models broken by hand: edited weights, patched functions, other modules. Nothing of the catalogue's own code is used.

name, model, cause that it should be called by, block and phase in which it is, and how it is done
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F

from picolab.models import gpt2, llama
from picolab.parts import attention, cache, feedforward

Breaks = Callable[[ExitStack, Any], None]


@dataclass(frozen=True)
class ByHand:
    """One fault. `cause` is the name the catalogue has for it."""

    name: str
    host: str
    cause: str
    breaks: Breaks


FAULTS: list[ByHand] = []


def fault(host: str, cause: str) -> Callable[[Breaks], Breaks]:
    def keep(breaks: Breaks) -> Breaks:
        FAULTS.append(ByHand(breaks.__name__.replace("_", " "), host, cause, breaks))
        return breaks

    return keep


@contextmanager
def broken(model: Any, breaks: Breaks) -> Iterator[Any]:
    """A broken copy of a model; what was patched is put back at the end."""
    with ExitStack() as stack:
        sick = copy.deepcopy(model)
        breaks(stack, sick)
        yield sick


def put(stack: ExitStack, thing: Any, name: str, value: Any) -> Any:
    """Replace a function while the fault lasts; what was there."""
    before = getattr(thing, name)
    stack.enter_context(patch.object(thing, name, value))
    return before


def scaled(linear: Any, factor: float) -> None:
    for parameter in linear.parameters():
        parameter.data *= factor


# Positions


@fault("llama", "rope-pairing")
def rotates_neighbouring_lanes(stack, model):
    def adjacent(x, turn):
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * turn.cos - odd * turn.sin, odd * turn.cos + even * turn.sin), dim=-1).flatten(-2)

    put(stack, llama, "rotate", adjacent)


@fault("llama", "rope-theta")
def theta_of_the_library(stack, model):
    other = type(model.rope)(model.config.context_length, model.config.head_dim, 10000.0)
    put(stack, model.rope, "forward", other.forward)


@fault("llama", "rope-offset")
def queries_one_position_late(stack, model):
    right = llama.rotate
    state = {"n": 0}

    def rotate(x, turn):
        state["n"] += 1
        if x.shape[2] != model.config.n_heads:
            return right(x, turn)
        # one more step of every pair
        other = model.rope.forward(torch.arange(2)[None])
        cos, sin = other.cos[:, 1:2], other.sin[:, 1:2]
        return right(right(x, turn), type(turn)(cos, sin))

    put(stack, llama, "rotate", rotate)


@fault("llama", "rope-missing")
def keys_never_rotated(stack, model):
    right = llama.rotate
    put(stack, llama, "rotate", lambda x, turn: right(x, turn) if x.shape[2] == model.config.n_heads else x)


@fault("gpt2", "position-offset")
def positions_from_one(stack, model):
    right = model.position_embedding.forward
    put(stack, model.position_embedding, "forward", lambda positions: right(positions + 1))


@fault("gpt2", "position-missing")
def positions_never_added(stack, model):
    right = model.position_embedding.forward
    put(stack, model.position_embedding, "forward", lambda positions: torch.zeros_like(right(positions)))


# Attention


@fault("llama", "mask-missing")
def no_mask_at_all(stack, model):
    put(stack, attention, "_triangle", lambda q, k: torch.ones(1, 1, q.shape[1], k.shape[1], dtype=torch.bool))


@fault("gpt2", "mask-offset")
def mask_one_token_ahead(stack, model):
    def triangle(q, k):
        return torch.ones(1, 1, q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1] + 1)

    put(stack, attention, "_triangle", triangle)


@fault("llama", "mask-window")
def a_window_nobody_asked_for(stack, model):
    def triangle(q, k):
        seen = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1])
        return (seen & ~seen.tril(k.shape[1] - q.shape[1] - 6))[None, None]

    put(stack, attention, "_triangle", triangle)


@fault("llama", "weight-scaled")
def query_matrix_stored_with_the_scale_in_it(stack, model):
    for block in model.blocks:
        scaled(block.attention.q_proj, model.config.head_dim**-0.5)


@fault("llama", "head-grouping")
def groups_tiled_instead_of_repeated(stack, model):
    def tiled(q, k, v, mask, *, scale, module=None, sinks=None):
        group = q.shape[2] // k.shape[2]
        k, v = k.repeat(1, 1, group, 1), v.repeat(1, 1, group, 1)
        return attention.attend_plainly(q, k, v, mask, scale=scale, module=module)

    put(stack, attention, "attend_by_products", tiled)


@fault("gpt2", "qkv-split")
def fused_matrix_cut_head_by_head(stack, model):
    def forward(self, x, sight):
        fused = self.qkv_proj(x).unflatten(-1, (self.n_heads, 3, -1))
        q, k, v = (gpt2.tap(self, letter, fused[..., i, :]) for i, letter in enumerate("qkv"))
        return gpt2.tap(self, "out", self.out_proj(gpt2.mix(self, self.layer, q, k, v, sight)))

    put(stack, gpt2.Attention, "forward", forward)


@fault("llama", "rope-on-v")
def values_rotated_too(stack, model):
    for block in model.blocks:
        right = block.attention.v_proj.forward

        def forward(x, right=right):
            v = right(x).unflatten(-1, (-1, model.config.head_dim))
            past = forward.start if x.shape[1] == 1 else 0
            turn = model.rope.forward(torch.arange(past, past + x.shape[1])[None])
            return llama.rotate(v, turn).flatten(-2)

        put(stack, block.attention.v_proj, "forward", forward)
    features = model.features

    def watched(tokens, *, cache=None, documents=None):
        for block in model.blocks:
            block.attention.v_proj.forward.start = 0 if cache is None else cache.length
        return features(tokens, cache=cache, documents=documents)

    put(stack, model, "features", watched)


@fault("qwen3", "norm-missing")
def queries_not_normed(stack, model):
    for block in model.blocks:
        put(stack, block.attention.q_norm, "forward", lambda x: x)


# Feed-forward


@fault("gpt2", "activation")
def gelu_by_the_error_function(stack, model):
    for block in model.blocks:
        block.mlp.activation = F.gelu


@fault("llama", "activation")
def gelu_where_silu_is_meant(stack, model):
    put(stack, feedforward.F, "silu", F.gelu)


@fault("gpt2", "activation")
def relu_where_gelu_is_meant(stack, model):
    for block in model.blocks:
        block.mlp.activation = F.relu


@fault("llama", "gate-up-swapped")
def gate_and_up_exchanged(stack, model):
    for block in model.blocks:
        block.mlp.gate_proj, block.mlp.up_proj = block.mlp.up_proj, block.mlp.gate_proj


# The stream


@fault("llama", "residual-missing")
def attention_not_added_but_put(stack, model):
    def forward(self, x, sight, turn):
        h = llama.tap(self, "attention_norm", self.attention_norm(x))
        x = llama.tap(self, "resid_mid", self.attention(h, sight, turn))
        h = llama.tap(self, "mlp_norm", self.mlp_norm(x))
        return llama.tap(self, "resid_post", x + self.mlp(h))

    put(stack, llama.Block, "forward", forward)


@fault("llama", "residual-twice")
def stream_added_twice(stack, model):
    def forward(self, x, sight, turn):
        h = llama.tap(self, "attention_norm", self.attention_norm(x))
        x = llama.tap(self, "resid_mid", x + self.attention(h, sight, turn))
        h = llama.tap(self, "mlp_norm", self.mlp_norm(x))
        return llama.tap(self, "resid_post", x + x + self.mlp(h))

    put(stack, llama.Block, "forward", forward)


@fault("llama", "norm-place")
def feed_forward_reads_the_stream_before_attention(stack, model):
    def forward(self, x, sight, turn):
        h = llama.tap(self, "attention_norm", self.attention_norm(x))
        mid = llama.tap(self, "resid_mid", x + self.attention(h, sight, turn))
        h = llama.tap(self, "mlp_norm", self.mlp_norm(x))
        return llama.tap(self, "resid_post", mid + self.mlp(h))

    put(stack, llama.Block, "forward", forward)


# Norms


@fault("llama", "norm-eps")
def eps_a_hundred_times_too_large(stack, model):
    for block in model.blocks:
        block.mlp_norm.eps = block.attention_norm.eps = 3e-2


@fault("llama", "norm-offset")
def norm_weights_read_as_one_plus_w(stack, model):
    for block in model.blocks:
        block.mlp_norm.weight.data += 1


@fault("llama", "norm-weight-missing")
def final_norm_without_its_weight(stack, model):
    model.final_norm.weight.data.fill_(1)


@fault("gpt2", "norm-kind")
def rms_where_layernorm_is_meant(stack, model):
    for block in model.blocks:
        norm = block.mlp_norm

        def forward(x, norm=norm):
            return x * (x.square().mean(-1, keepdim=True) + norm.eps).rsqrt() * norm.weight + norm.bias

        put(stack, norm, "forward", forward)


# Embedding and head


@fault("llama", "embed-scale")
def embedding_times_sqrt_d_model(stack, model):
    right = model.embedding.forward
    put(stack, model.embedding, "forward", lambda tokens: right(tokens) * model.config.d_model**0.5)


@fault("llama", "tied-head")
def head_tied_to_the_embedding(stack, model):
    model.head.weight = model.embedding.weight


@fault("nanochat", "softcap-missing")
def logits_not_capped(stack, model):
    model.head.cap = None


@fault("qwen2", "logit-scale")
def logits_by_a_temperature(stack, model):
    model.head.weight.data *= 0.7


# Weights


@fault("qwen2", "bias-missing")
def query_bias_lost(stack, model):
    for block in model.blocks:
        block.attention.q_proj.bias.data.zero_()


@fault("gpt2", "weight-transposed")
def output_matrix_transposed(stack, model):
    for block in model.blocks:
        block.attention.out_proj.weight.data = block.attention.out_proj.weight.data.T.contiguous()


@fault("llama", "weight-permuted")
def rows_for_other_code(stack, model):
    for block in model.blocks:
        for matrix, heads in ((block.attention.q_proj, model.config.n_heads), (block.attention.k_proj, 2)):
            rows = matrix.weight.data.unflatten(0, (heads, 2, -1))
            matrix.weight.data = rows.transpose(1, 2).flatten(0, 2).contiguous()


@fault("qwen3", "weight-swapped")
def down_matrix_of_the_next_block(stack, model):
    model.blocks[1].mlp.down_proj.weight.data = model.blocks[2].mlp.down_proj.weight.data.clone()


@fault("llama", "nonfinite")
def a_weight_that_overflowed(stack, model):
    model.blocks[1].mlp.up_proj.weight.data[3, 5] = float("inf")


# Decode


@fault("llama", "cache-unwritten")
def first_step_never_stored(stack, model):
    right = cache.KeyValueCache.extend

    def extend(self, layer, k, v):
        keys, values = right(self, layer, k, v)
        if self.length > 13:
            keys[:, 13], values[:, 13] = 0, 0
        return keys, values

    put(stack, cache.KeyValueCache, "extend", extend)


@fault("gpt2", "cache-layer")
def a_block_reads_the_cache_of_the_one_below(stack, model):
    right = cache.KeyValueCache.extend

    def extend(self, layer, k, v):
        keys, values = right(self, layer, k, v)
        if layer == 1 and self.length:
            keys, values = keys.clone(), values.clone()
            keys[:, : self.length] = self.memory[0, 0][:, : self.length]
            values[:, : self.length] = self.memory[0, 1][:, : self.length]
        return keys, values

    put(stack, cache.KeyValueCache, "extend", extend)


@fault("llama", "rope-offset")
def decode_positions_one_behind(stack, model):
    right = model.rope.forward
    put(stack, model.rope, "forward", lambda positions: right(positions - 1 if positions.shape[-1] == 1 else positions))


@fault("gpt2", "position-offset")
def decode_positions_from_zero(stack, model):
    right = model.position_embedding.forward

    def forward(positions):
        return right(torch.zeros_like(positions) if positions.shape[-1] == 1 else positions)

    put(stack, model.position_embedding, "forward", forward)
