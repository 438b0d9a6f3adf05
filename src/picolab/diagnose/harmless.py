"""What may two correct engines do differently? Ways to the same function: whoever calls one of them a fault raises a false alarm.

float64, bfloat16          the same lines, rounded otherwise
heads, units, summands     in another order, and what reads them too
q and k together           later positions for both; twice as long and half as long
a norm's weight            folded into the matrices after it
a constant                 added to all logits of a token
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.injured import recorded
from picolab.diagnose.walk import Schedule, walk
from picolab.models.contract import LanguageModel
from picolab.trace.recording import Recording

Change = Callable[[Any], bool]
"""Changes a model in place; False where this model has nothing of the kind."""


def in_double(model: Any) -> bool:
    model.double()
    return True


def in_bfloat16(model: Any) -> bool:
    model.bfloat16()
    return True


def heads_reordered(model: Any) -> bool:
    """Query heads of every group in another order, and the output matrix's columns with them."""
    config = model.config
    width = getattr(config, "head_dim", 0) or config.d_model // config.n_heads
    groups = getattr(config, "n_kv_heads", 0) or 1
    lanes = torch.arange(config.n_heads * width).reshape(groups, -1, width).flip(1).flatten()
    for block in model.blocks:
        attention = block.attention
        if getattr(attention, "sinks", None) is not None:
            return False
        if hasattr(attention, "qkv_proj"):
            _rows(attention.qkv_proj, torch.cat([lanes + part * len(lanes) for part in range(3)]))
        else:
            _rows(attention.q_proj, lanes)
        attention.out_proj.weight.data = attention.out_proj.weight.data[:, lanes].contiguous()
    return True


def units_reordered(model: Any) -> bool:
    """The units of the feed-forward in another order."""
    order = torch.arange(model.config.d_ff).flip(0)
    for block in model.blocks:
        for name in ("gate_proj", "up_proj"):
            if hasattr(block.mlp, name):
                _rows(getattr(block.mlp, name), order)
        block.mlp.down_proj.weight.data = block.mlp.down_proj.weight.data[:, order].contiguous()
    return True


def positions_shifted(model: Any) -> bool:
    """Queries and keys stand five positions later, together."""
    if not hasattr(model, "rope") or getattr(model.rope, "scaling", None) is not None:
        return False
    right = model.rope.forward
    model.rope.forward = lambda positions: right(positions + 5)
    return True


def scale_moved(model: Any) -> bool:
    """Queries twice as long and keys half; values twice and the output matrix half."""
    for block in model.blocks:
        attention = block.attention
        if hasattr(attention, "qkv_proj") or hasattr(attention, "q_norm") or hasattr(attention, "qk_norm"):
            return False
        for name, factor in (("q_proj", 2.0), ("k_proj", 0.5), ("v_proj", 2.0)):
            for parameter in getattr(attention, name).parameters():
                parameter.data *= factor
        attention.out_proj.weight.data *= 0.5
    return True


def norm_folded(model: Any) -> bool:
    """The weights of the norms multiplied into the matrices that read them."""
    for block in model.blocks:
        attention, mlp = block.attention, block.mlp
        if getattr(block.mlp_norm, "weight", None) is None or hasattr(attention, "qkv_proj"):
            return False
        for matrix in (attention.q_proj, attention.k_proj, attention.v_proj):
            matrix.weight.data *= block.attention_norm.weight.data
        for name in ("gate_proj", "up_proj"):
            getattr(mlp, name).weight.data *= block.mlp_norm.weight.data
        block.attention_norm.weight.data.fill_(1)
        block.mlp_norm.weight.data.fill_(1)
    return True


CHANGES: dict[str, Change] = {
    "float64 throughout": in_double,
    "bfloat16 throughout": in_bfloat16,
    "heads in another order, output columns with them": heads_reordered,
    "units of the feed-forward in another order": units_reordered,
    "q and k five positions later": positions_shifted,
    "q and v doubled, k and out halved": scale_moved,
    "norm weights folded into the next matrix": norm_folded,
}


def changed(model: LanguageModel, change: Change) -> LanguageModel | None:
    """A copy of the model that computes the same otherwise; None where it has nothing of the kind."""
    other = copy.deepcopy(model)
    return other if change(other) else None


def with_constants(model: LanguageModel, schedule: Schedule) -> Recording:
    """The model's numbers, with a number of its own added to all logits of every token."""
    values = walk(Anatomy(model), schedule)
    for number, (key, value) in enumerate(list(values.items())):
        if key.site == "logits":
            values[key] = value + torch.linspace(-3, 5 + number, value.shape[1])[None, :, None]
    return recorded(values, schedule)


class _FromTheEnd(TorchFunctionMode):
    """While open, products of matrices add their terms from the last to the first."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.functional.linear:
            args = (args[0].flip(-1), args[1].flip(-1), *args[2:])
        return func(*args, **(kwargs or {}))


class _InTwoHalves(TorchFunctionMode):
    """While open, products of matrices add two halves up, each summed for itself, as a kernel over blocks does."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not nn.functional.linear:
            return func(*args, **(kwargs or {}))
        half = args[0].shape[-1] // 2
        first = func(args[0][..., :half], args[1][..., :half])
        return first + func(args[0][..., half:], args[1][..., half:], *args[2:], **(kwargs or {}))


ORDERS: dict[str, type[TorchFunctionMode]] = {
    "products summed from the end": _FromTheEnd,
    "products summed in two halves": _InTwoHalves,
}


def in_another_order(model: LanguageModel, schedule: Schedule, order: str) -> Recording:
    """The model's numbers where every product of matrices is summed up in another order."""
    with ORDERS[order]():
        return recorded(walk(Anatomy(model), schedule), schedule)


def healthy_targets(
    model: LanguageModel, schedule: Schedule
) -> Iterator[tuple[str, Callable[[], Recording | LanguageModel]]]:
    """Every way of this model to the same function: its name, and how to have it."""

    def by(change: Change) -> Callable[[], Recording | LanguageModel]:
        def make() -> LanguageModel:
            other = changed(model, change)
            assert other is not None
            return other

        return make

    for name, change in CHANGES.items():
        if changed(model, change) is not None:
            yield name, by(change)
    for order in ORDERS:
        yield order, lambda order=order: in_another_order(model, schedule, order)  # type: ignore[misc]
    yield "a number added to all logits of a token", lambda: with_constants(model, schedule)


def _rows(linear: Any, order: Tensor) -> None:
    """The rows of a matrix, and its bias, in another order."""
    linear.weight.data = linear.weight.data[order].contiguous()
    if linear.bias is not None:
        linear.bias.data = linear.bias.data[order].contiguous()
