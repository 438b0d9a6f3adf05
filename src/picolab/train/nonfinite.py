"""Which number went bad first? The loss is no longer finite: walk the same step again and look at every tensor on the way.

parameters -> activations, in the order they are computed -> the loss -> gradients, in the order backward reaches them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def first_nonfinite(model: nn.Module, passes: Iterable[Callable[[], Tensor]]) -> str | None:
    """Names the first tensor with a NaN or an infinity; None where all is finite.

    `passes` compute the step's losses again, one piece each. The gradients of the model are replaced on the way.
    """
    for name, parameter in model.named_parameters():
        if says := _says(parameter):
            return f"parameter `{name}` {says}"
    for run in passes:
        model.zero_grad(set_to_none=True)
        found: list[str] = []
        hooks = [module.register_forward_hook(_watch(name, found)) for name, module in model.named_modules()]
        try:
            loss = run()
        finally:
            for hook in hooks:
                hook.remove()
        if found:
            return found[0]
        if says := _says(loss):
            return f"the loss {says}"
        loss.backward()
        for name, parameter in reversed(list(model.named_parameters())):
            if parameter.grad is not None and (says := _says(parameter.grad)):
                return f"the gradient of `{name}` {says}"
    return None


def _watch(name: str, found: list[str]) -> Callable[[nn.Module, Any, Any], None]:
    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if not found and isinstance(tensor, Tensor) and (says := _says(tensor)):
                found.append(f"the output of `{name or type(module).__name__}` {says}")

    return look


def _says(tensor: Tensor) -> str | None:
    """How many values of a tensor are not finite, and which; None where all are."""
    values = tensor.detach()
    values = values.to_local() if isinstance(values, DTensor) else values
    if not values.is_floating_point() or bool(torch.isfinite(values).all()):
        return None
    kinds = {"NaN": values.isnan(), "infinite": values.isinf()}
    parts = [f"{int(where.sum())} {kind}" for kind, where in kinds.items() if bool(where.any())]
    return f"has {' and '.join(parts)} of {values.numel()} values"
