"""A GPT-2 built by hand, whose every head is known: one looks at the token before, one copies what followed the last time.

lanes of the stream    | token | position | token before | copied |

head 0.0    position t asks for key t - 1, brings its token into `token before`         previous token
head 1.0    token asks for an equal `token before`, brings the token there into `copied`        induction
heads 0.1, 1.1    look evenly and bring nothing
head of the model reads `copied`
"""

from __future__ import annotations

import torch

from picolab.models.gpt2 import GPT2, Config
from picolab.text.integers import range_tokenizer

VOCAB, TIME = 14, 28
"""Twelve numbers, end-of-text and padding; positions."""

TOKEN, POSITION, BEFORE, COPIED = (
    slice(0, VOCAB),
    slice(VOCAB, VOCAB + TIME),
    slice(VOCAB + TIME, 2 * VOCAB + TIME),
    slice(2 * VOCAB + TIME, 3 * VOCAB + TIME),
)
LANES, HEADS, WIDE = 88, 2, 16
SHARP = 60.0


def tokenizer():
    """The numbers 0 to 11."""
    return range_tokenizer(0, VOCAB - 3)


@torch.no_grad()
def copier(*, copies: bool = True, twice: bool = False) -> GPT2:
    """The model above. Where it does not copy, both heads look as they did and nobody reads what the second one brings.

    `twice`: head 1.1 does what head 1.0 does, so that either can be spared; a third block has two more heads that do nothing.
    """
    torch.manual_seed(0)
    model = GPT2(
        Config(
            vocab_size=VOCAB,
            context_length=TIME,
            d_model=LANES,
            n_layers=3 if twice else 2,
            n_heads=HEADS,
            d_ff=WIDE,
            attention_bias=False,
            tied=False,
        )
    )
    for parameter in model.parameters():
        parameter.zero_()
    for block in model.blocks:
        block.attention_norm.weight.fill_(1)
        block.mlp_norm.weight.fill_(1)
    model.final_norm.weight.fill_(1)
    model.embedding.weight[:, TOKEN] = torch.eye(VOCAB)
    model.position_embedding.weight[:, POSITION] = torch.eye(TIME)
    first, second = (block.attention for block in model.blocks[:2])
    queries, keys, values = (slice(i * LANES, (i + 1) * LANES) for i in range(3))
    # Head 0 of a block has the first half of the lanes of q, k and v.
    first.qkv_proj.weight[queries][:TIME, POSITION] = SHARP * torch.eye(TIME)
    first.qkv_proj.weight[keys][1:TIME, POSITION] = torch.eye(TIME)[:-1]
    first.qkv_proj.weight[values][:VOCAB, TOKEN] = torch.eye(VOCAB)
    first.out_proj.weight[BEFORE, :VOCAB] = torch.eye(VOCAB)
    second.qkv_proj.weight[queries][:VOCAB, TOKEN] = SHARP * torch.eye(VOCAB)
    second.qkv_proj.weight[keys][:VOCAB, BEFORE] = torch.eye(VOCAB)
    second.qkv_proj.weight[values][:VOCAB, TOKEN] = torch.eye(VOCAB)
    second.out_proj.weight[COPIED, :VOCAB] = torch.eye(VOCAB)
    if twice:
        wide = LANES // HEADS
        for part in (queries, keys, values):
            second.qkv_proj.weight[part][wide:] = second.qkv_proj.weight[part][:wide].clone()
        second.out_proj.weight[COPIED, wide : wide + VOCAB] = torch.eye(VOCAB)
    if copies:
        model.head.weight[:, COPIED] = 3 * torch.eye(VOCAB)
    return model.eval()


@torch.no_grad()
def with_neurons(model: GPT2) -> GPT2:
    """Block 0's neuron 0 opens for the numbers 0 to 5, 1 is dead, 2 is always open, 3 opens for the number 7 alone."""
    up = model.blocks[0].mlp.up_proj
    up.weight[0, :6], up.bias[0] = 1.0, -0.5
    up.bias[1], up.bias[2] = -100.0, 100.0
    up.weight[3, 7], up.bias[3] = 1.0, -0.5
    return model
