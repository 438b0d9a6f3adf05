"""How is a large model trained in little memory? Keep what enters each block, and compute the inside again when its turn comes.

    forward   x0 -> block -> x1 -> block -> x2        only x0 x1 x2 are kept
    backward  x1 -> block again, all kept -> gradient, all let go of; then x0 ..

A third more computation, and the activations of one block instead of all (Chen et al. 2016, arXiv:1604.06174). Random numbers are
drawn again as they were, so gradients are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from picolab.errors import BadSetting


def blocks_of(model: nn.Module) -> Iterator[nn.Module]:
    """The layers that a model stacks."""
    for module in list(model.modules()):
        if isinstance(module, nn.ModuleList):
            yield from module


def recompute_blocks(model: nn.Module, *, named: str) -> None:
    """From now on the blocks of `model` keep nothing but their inputs for a backward pass."""
    blocks = list(blocks_of(model))
    if not blocks:
        raise BadSetting(f"`{named}` has no stack of blocks to recompute", hint="leave `training.recompute` out")
    for block in blocks:
        block.__dict__["forward"] = partial(
            _again, block.forward
        )  # on the instance: names in checkpoints stay as they are


def _again(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **named)
    return checkpoint(forward, *inputs, use_reentrant=False, **named)
