"""How far from float32 is llama.cpp by its own choice, on a file whose weights are rounded?

    x @ W, W of 8 or fewer bits     x is rounded to 8 bits, in blocks of 32 (Q4_0 .. Q8_0) or 256 (Q2_K .. Q6_K) with one scale
    x @ W, W of 16 bits             x is rounded to the same 16 bits

The weights are the same numbers here and there; what enters a matrix is not. So the same rounding is done here, to what enters each
matrix, and the logits it moves are measured: on the model, the file and the texts at hand. Two right engines that both round then
differ by about as much: where two numbers lie on either side of a step, the rest of the pass is another pass.
github.com/ggml-org/llama.cpp, ggml/src/ggml-cpu/ggml-cpu.c, `vec_dot_type`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from gguf import GGMLQuantizationType as Type
from torch import Tensor, nn

from picolab.diagnose.verify_read import Tally, Text, at_once, draw, read_text
from picolab.models.contract import LanguageModel
from picolab.parts.head import Head
from picolab.trace.engines.here import Here
from picolab.weights.gguf.header import Header
from picolab.weights.gguf.names import SPELLINGS, named

ALLOWED = 3.0
"""Times the measured noise that two engines may be apart. llama.cpp was 0.7 to 1.8 times the noise away on random models:
two depths, three architectures, eight types of file."""

Rounding = Callable[[Tensor], Tensor]


def rounded_in_file(header: Header) -> dict[str, Type]:
    """The types of the matrices of a file, without those of float32; empty where nothing is rounded."""
    names = named(SPELLINGS[header.text("general.architecture")].tensors, _layers(header))
    kinds = {ours: Type(header.tensors[theirs].kind) for ours, theirs in names.items() if theirs in header.tensors}
    kinds.setdefault("head.weight", kinds["embedding.weight"])
    return {ours: kind for ours, kind in kinds.items() if kind in ROUNDINGS}


def measured_noise(
    model: LanguageModel, kinds: Mapping[str, Type], seed: int, *, texts: int = 4, longest: int
) -> float:
    """How far llama.cpp's rounding moves the logits of random texts, in the worst position."""
    rng, here, tally = random.Random(seed), Here(model), Tally(0.0)
    for number in range(texts):
        text: Text = draw(rng, longest, here.vocab_size)
        exact = read_text(here, at_once(text))
        with rounding(model, kinds):
            tally.add(number, read_text(here, at_once(text)), exact)
    return tally.worst


@contextmanager
def rounding(model: nn.Module, kinds: Mapping[str, Type]) -> Iterator[None]:
    """While open, what enters each of these matrices is rounded as llama.cpp rounds it."""
    with ExitStack() as stack:
        for name, module in model.named_modules():
            kind = kinds.get(f"{name}.weight")
            if kind is not None and isinstance(module, nn.Linear | Head):
                stack.callback(module.register_forward_pre_hook(_before(ROUNDINGS[kind])).remove)
        yield


def _before(round_: Rounding) -> Callable[[nn.Module, Sequence[Tensor]], tuple[Tensor]]:
    return lambda _, given: (round_(given[0]),)


def _in_blocks(x: Tensor, block: int) -> Tensor:
    """Whole numbers from -127 to 127 times one scale for each block."""
    blocks = x.unflatten(-1, (-1, block))
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    whole = (blocks / torch.where(scale > 0, scale, torch.ones_like(scale))).round()
    return (whole * scale).flatten(-2)


def _layers(header: Header) -> int:
    return header.integer(f"{header.text('general.architecture')}.block_count")


ROUNDINGS: dict[Type, Rounding] = {
    Type.F16: lambda x: x.half().float(),
    Type.BF16: lambda x: x.bfloat16().float(),
    **{kind: lambda x: _in_blocks(x, 32) for kind in (Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0)},
    **{kind: lambda x: _in_blocks(x, 256) for kind in (Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K)},
}
"""Type of a matrix -> what happens to what enters it."""
