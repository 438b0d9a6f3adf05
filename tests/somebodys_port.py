"""Somebody's own decoder in plain PyTorch, as people write it from a paper; and the mistakes people make, one word each.

`Port(Settings(), mistake)` is right when `mistake` is empty. Nothing of picolab is used.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Settings:
    vocab_size: int = 47
    block_size: int = 40
    hidden_size: int = 24
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 8
    intermediate_size: int = 40
    num_hidden_layers: int = 3
    rope_theta: float = 700.0
    rms_norm_eps: float = 1e-4
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    attention_dropout: float = 0.0


class RMSNorm(nn.Module):
    def __init__(self, width, eps, mistake=""):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width) if mistake == "gain from zero" else torch.ones(width))
        self.eps, self.mistake = eps, mistake

    def forward(self, x):
        match self.mistake:
            case "norm without a root":
                return x / (x.square().mean(-1, keepdim=True) + self.eps) * self.weight
            case "norm by n - 1":
                return x / (x.square().sum(-1, keepdim=True) / (x.shape[-1] - 1) + self.eps).sqrt() * self.weight
            case "norm over time":
                return x / (x.square().mean(1, keepdim=True) + self.eps).sqrt() * self.weight
            case "norm without eps":
                return x / x.square().mean(-1, keepdim=True).sqrt() * self.weight
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight


class Attention(nn.Module):
    def __init__(self, s, mistake):
        super().__init__()
        self.s, self.mistake = s, mistake
        self.q_proj = nn.Linear(s.hidden_size, s.num_attention_heads * s.head_dim, bias=False)
        self.k_proj = nn.Linear(s.hidden_size, s.num_key_value_heads * s.head_dim, bias=False)
        self.v_proj = nn.Linear(s.hidden_size, s.num_key_value_heads * s.head_dim, bias=False)
        self.o_proj = nn.Linear(s.num_attention_heads * s.head_dim, s.hidden_size, bias=False)
        if mistake == "a layer never called":
            self.gate_proj = nn.Linear(s.hidden_size, s.hidden_size)

    def turned(self, x, positions):
        s = self.s
        theta = 10000.0 if self.mistake == "theta forgotten" else s.rope_theta
        rate = theta ** (-torch.arange(0, s.head_dim, 2, dtype=torch.float64) / s.head_dim)
        angle = (positions[:, None] * rate).to(x.dtype)
        if self.mistake == "angles in few digits":
            angle = angle.bfloat16().to(x.dtype)
        one, other = x.chunk(2, dim=-1)
        c, n = angle.cos(), angle.sin()
        return torch.cat((one * c - other * n, other * c + one * n), dim=-1)

    def forward(self, x, cache=None, layer=0):
        s, (batch, time, _) = self.s, x.shape
        q = self.q_proj(x).view(batch, time, s.num_attention_heads, s.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(batch, time, s.num_key_value_heads, s.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, s.num_key_value_heads, s.head_dim).transpose(1, 2)
        before = 0 if cache is None else cache.length
        positions = torch.arange(before, before + time)
        q, k = self.turned(q, positions), self.turned(k, positions)
        if cache is not None:
            cache.k[layer][:, :, before : before + time] = k
            cache.v[layer][:, :, before : before + time] = v
            end = before + time + (1 if self.mistake == "one slot too many" and before + time < cache.capacity else 0)
            k, v = cache.k[layer][:, :, :end], cache.v[layer][:, :, :end]
        group = s.num_attention_heads // s.num_key_value_heads
        if self.mistake == "keys tiled":
            k, v = k.repeat(1, group, 1, 1), v.repeat(1, group, 1, 1)
        else:
            k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        scale = {"no scale": 1.0, "scale of d": s.head_dim, "scale of d_model": math.sqrt(s.hidden_size)}
        scores = q @ k.transpose(-1, -2) / scale.get(self.mistake, math.sqrt(s.head_dim))
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1 + before)
        if self.mistake == "one slot too many":
            hidden[:, before + time :] = False
        mixed = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v
        if self.mistake == "heads merged too early":
            return self.o_proj(mixed.reshape(batch, time, -1))
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, time, -1))


class MLP(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.gate_proj = nn.Linear(s.hidden_size, s.intermediate_size, bias=False)
        self.up_proj = nn.Linear(s.hidden_size, s.intermediate_size, bias=False)
        self.down_proj = nn.Linear(s.intermediate_size, s.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, s, mistake):
        super().__init__()
        norm = mistake if mistake.startswith(("norm", "gain")) else ""
        self.mistake = mistake
        self.input_layernorm = RMSNorm(s.hidden_size, s.rms_norm_eps, norm)
        self.post_attention_layernorm = RMSNorm(s.hidden_size, s.rms_norm_eps, norm)
        self.self_attn, self.mlp = Attention(s, mistake), MLP(s)

    def forward(self, x, cache=None, layer=0):
        match self.mistake:
            case "no residual":
                x = self.self_attn(self.input_layernorm(x), cache, layer)
                return self.mlp(self.post_attention_layernorm(x))
            case "residual after the norm":
                x = self.input_layernorm(x)
                x = x + self.self_attn(x, cache, layer)
                x = self.post_attention_layernorm(x)
                return x + self.mlp(x)
            case "residual twice":
                x = x + self.self_attn(self.input_layernorm(x), cache, layer)
                return x + x + self.mlp(self.post_attention_layernorm(x))
            case "norm after the sum":  # no mistake: the transformer of 2017
                x = self.input_layernorm(x + self.self_attn(x, cache, layer))
                return self.post_attention_layernorm(x + self.mlp(x))
            case "side by side":  # no mistake: GPT-J's
                h = self.input_layernorm(x)
                return x + self.self_attn(h, cache, layer) + self.mlp(self.post_attention_layernorm(x))
        x = x + self.self_attn(self.input_layernorm(x), cache, layer)
        return x + self.mlp(self.post_attention_layernorm(x))


class Cache:
    def __init__(self, s, batch, capacity):
        shape = (batch, s.num_key_value_heads, capacity, s.head_dim)
        self.k = [torch.zeros(shape) for _ in range(s.num_hidden_layers)]
        self.v = [torch.zeros(shape) for _ in range(s.num_hidden_layers)]
        self.length, self.capacity = 0, capacity


class Port(nn.Module):
    def __init__(self, config, mistake=""):
        super().__init__()
        s, self.config, self.mistake = config, config, mistake
        self.embed_tokens = nn.Embedding(s.vocab_size, s.hidden_size)
        self.layers = nn.ModuleList(Block(s, mistake) for _ in range(s.num_hidden_layers))
        self.norm = RMSNorm(s.hidden_size, s.rms_norm_eps, mistake if mistake.startswith(("norm", "gain")) else "")
        self.lm_head = nn.Linear(s.hidden_size, s.vocab_size, bias=False)
        if s.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def new_cache(self, batch, capacity):
        return Cache(self.config, batch, capacity)

    def forward(self, tokens, cache=None):
        match self.mistake:
            case "reads memory as it lies":
                tokens = tokens.as_strided(tokens.shape, (tokens.shape[1], 1))
            case "embedding detached":
                return self.lm_head(self.body(self.embed_tokens(tokens).detach(), cache))
            case "a stream too large for float16":
                return self.lm_head(self.body(self.embed_tokens(tokens) * 1e6, cache))
        return self.lm_head(self.body(self.embed_tokens(tokens), cache))

    def body(self, x, cache):
        for number, layer in enumerate(self.layers):
            x = layer(x, cache, number)
        if cache is not None:
            cache.length += x.shape[1]
        return self.norm(x)


def made(mistake="", seed=0, trained=True, **settings):
    """A port whose weights are large enough that attention is far from even; `trained` ones have directions that stand out."""
    torch.manual_seed(seed)
    kind = type("Theirs", (Port,), {"__init__": lambda self, config: Port.__init__(self, config, mistake)})
    port = kind(Settings(**settings))
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in port.parameters():
            if parameter.ndim == 1:
                centre = 0.0 if mistake == "gain from zero" else 1.0
                parameter.copy_(centre + 0.3 * torch.randn(parameter.shape, generator=generator))
                continue
            rows, columns = parameter.shape
            random = torch.randn(rows, columns, generator=generator) * columns**-0.5
            if trained:
                one, other = torch.randn(rows, 1, generator=generator), torch.randn(1, columns, generator=generator)
                random = 0.9 * random + 0.35 * one @ other / columns**0.5
            parameter.copy_(random)
    return port.eval()
