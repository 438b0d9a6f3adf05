"""Which numbers are pulled towards zero? Matrices. AdamW: Loshchilov and Hutter 2017, arXiv:1711.05101.

two axes or more   embeddings, projections    decay     they can trade size against each other for nothing
one axis           norms, biases, sinks       none      their size is their meaning
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from picolab.errors import BadCheckpoint, BadInput
from picolab.runs.settings import OptimizerSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Parameters that share a decay, by name; a tied tensor appears once, under its first name."""

    name: str
    weight_decay: float
    members: tuple[str, ...]
    count: int


def decay_groups(model: nn.Module, weight_decay: float) -> list[Group]:
    """The ledger of a model's trainable parameters: each in exactly one group."""
    members: dict[str, list[tuple[str, nn.Parameter]]] = {"decayed": [], "not decayed": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members["decayed" if parameter.dim() >= 2 else "not decayed"].append((name, parameter))
    return [
        Group(
            name=name,
            weight_decay=weight_decay if name == "decayed" else 0.0,
            members=tuple(member for member, _ in some),
            count=sum(parameter.numel() for _, parameter in some),
        )
        for name, some in members.items()
        if some
    ]


def adamw(model: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over the decay groups, in PyTorch's fused kernel: one pass over memory instead of a dozen."""
    groups = decay_groups(model, settings.weight_decay)
    if not groups:
        raise BadInput("the model has no parameter to train", hint="a model that counts has a method `estimate`")
    parameters = dict(model.named_parameters())
    return torch.optim.AdamW(
        [{"params": [parameters[name] for name in g.members], "weight_decay": g.weight_decay} for g in groups],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=all(parameter.device.type in ("cpu", "cuda") for parameter in parameters.values()),
    )


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """What the optimizer remembers of every parameter, by the parameter's name, whole and on the CPU.

    Names, not positions, and whole tensors, not shards: the state fits a run on any number of devices. Collective under FSDP.
    """
    return {
        name: {key: _whole(value) for key, value in optimizer.state[parameter].items()}
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
    }


def load_optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Put back what `optimizer_state` took; every tensor must belong to a parameter of its shape."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if state and state.keys() != parameters.keys():
        odd = sorted(state.keys() ^ parameters.keys())[0]
        raise BadCheckpoint(
            f"the optimizer's state and the model disagree about `{odd}`", hint="it is of another model"
        )
    for name, kept in state.items():
        parameter = parameters[name]
        optimizer.state[parameter] = {key: _like(parameter, name, key, value) for key, value in kept.items()}


def _whole(value: Tensor) -> Tensor:
    value = value.full_tensor() if isinstance(value, DTensor) else value
    return value.detach().cpu()


def _like(parameter: nn.Parameter, name: str, key: str, value: Tensor) -> Any:
    """A kept tensor, laid out as the parameter is."""
    if value.dim() == 0:  # the count of steps; the fused kernel wants it beside the parameter
        return value.to(parameter.device, copy=True)
    if value.shape != parameter.shape:
        raise BadCheckpoint(
            f"`{key}` of `{name}` has shape {tuple(value.shape)}, the model's has {tuple(parameter.shape)}",
            hint="the checkpoint is of another model",
        )
    value = value.to(parameter.device, parameter.dtype, copy=True)
    if isinstance(parameter.data, DTensor):
        return distribute_tensor(value, parameter.data.device_mesh, parameter.data.placements)
    return value
