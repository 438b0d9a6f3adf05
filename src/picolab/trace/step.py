"""What does one step of training do to a model, number by number? Taken for real, watched, and undone.

forward (recorded) -> loss of every token -> backward (grad/<site>) -> clip -> the optimizer moves every parameter -> put back
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.parts.cross_entropy import IGNORE
from picolab.parts.tap import tap
from picolab.shapes import TokenLosses, Tokens
from picolab.trace.record import Keep, record
from picolab.trace.recording import Recording

MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterStep:
    """What the first step did to one parameter; norms are of all its numbers together, the gradient's before clipping."""

    name: str
    count: int
    gradient_norm: float
    weight_norm: float
    update_norm: float

    @property
    def ratio(self) -> float:
        """Length of the update against the weight's; infinite where the weight was zero."""
        return self.update_norm / self.weight_norm if self.weight_norm else math.inf if self.update_norm else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTrace:
    """One step, watched. `losses` are nats, 0 where the target is not scored; `mean_losses` has one before every iteration and one
    after the last; `clip` 0 means none; the recording is of the first iteration, gradients included."""

    recording: Recording
    targets: Tokens
    losses: TokenLosses
    mean_losses: tuple[float, ...]
    parameters: tuple[ParameterStep, ...]
    gradient_norm: float
    clip: float
    clip_factor: float
    lr: float

    @property
    def components(self) -> tuple[ParameterStep, ...]:
        """The same by component, `blocks.0.attention`, `blocks.0.mlp`, `embedding` ..: the norms of all its parameters together."""
        members: dict[str, list[ParameterStep]] = {}
        for parameter in self.parameters:
            members.setdefault(component_of(parameter.name), []).append(parameter)
        return tuple(
            ParameterStep(
                name=name,
                count=sum(p.count for p in some),
                gradient_norm=math.hypot(*(p.gradient_norm for p in some)),
                weight_norm=math.hypot(*(p.weight_norm for p in some)),
                update_norm=math.hypot(*(p.update_norm for p in some)),
            )
            for name, some in members.items()
        )


def component_of(parameter: str) -> str:
    """The component that a parameter is in: `blocks.3.mlp.up_proj.weight` is in `blocks.3.mlp`, `head.weight` in `head`."""
    words = parameter.split(".")
    return ".".join(words[: 3 if len(words) > 3 and words[1].isdigit() else 1])


def trace_step(
    model: LanguageModel,
    tokens: Tokens,
    targets: Tokens,
    *,
    make_optimizer: MakeOptimizer,
    clip: float = 1.0,
    sites: str | Sequence[str] = "*",
    iterations: int = 1,
    keep: Keep = "device",
) -> StepTrace:
    """Train on these tokens `(batch, time)` `iterations` times, in evaluation mode, and record the first with its gradients.

    Afterwards the model's parameters, buffers, modes and gradients are what they were, bit for bit, whatever happened. A tied
    parameter counts once. `clip` limits the length of the gradient, 0 does not; `sites` and `keep` are those of `record`.

    Raises `BadInput` where nothing is scored, and what `record` raises.
    """
    if iterations < 1:
        raise BadInput(f"{iterations} iterations are fewer than one")
    if tokens.shape != targets.shape:
        raise BadInput(f"tokens of shape {tuple(tokens.shape)} have targets of shape {tuple(targets.shape)}")
    if not bool((targets != IGNORE).any()):
        raise BadInput("no token has one after it to be predicted", hint="give two tokens or more")
    with torch.inference_mode(False), torch.enable_grad(), _put_back(model) as kept:
        # A tensor made in inference mode takes part in no backward pass; a copy does.
        tokens, targets = tokens.clone(), targets.clone()
        model.eval().zero_grad(set_to_none=True)
        return _take(model, tokens, targets, make_optimizer(model), clip, sites, iterations, keep, kept)


@contextmanager
def _put_back(model: nn.Module) -> Iterator[Mapping[str, Tensor]]:
    """Yields copies of the parameters by name; at the end everything about the model is as it was."""
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    gradients = [(p, p.grad) for p in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield parameters
    finally:
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(parameters[name])
            for buffer, before in buffers:
                buffer.copy_(before)
        for p, gradient in gradients:
            p.grad = gradient
        for module, training in modes:
            module.training = training


def _take(
    model: LanguageModel,
    tokens: Tokens,
    targets: Tokens,
    optimizer: torch.optim.Optimizer,
    clip: float,
    sites: str | Sequence[str],
    iterations: int,
    keep: Keep,
    before: Mapping[str, Tensor],
) -> StepTrace:
    means: list[float] = []
    first: tuple[Recording, Tensor, tuple[ParameterStep, ...], float] | None = None
    for _ in range(iterations):
        watching = record(model, sites, gradients=True, keep=keep) if first is None else nullcontext(None)
        with watching as recording:
            losses = token_losses_of(model, tokens, targets)
            mean = losses.sum() / (targets != IGNORE).sum()
            mean.backward()
        means.append(float(mean.detach()))
        named = {name: p for name, p in model.named_parameters() if p.grad is not None}
        norms = {name: float(p.grad.norm()) for name, p in named.items() if p.grad is not None}
        total = math.hypot(*norms.values())
        if clip:
            nn.utils.clip_grad_norm_(list(named.values()), clip)
        optimizer.step()
        if recording is not None:
            moved = tuple(
                ParameterStep(
                    name=name,
                    count=p.numel(),
                    gradient_norm=norms[name],
                    weight_norm=float(before[name].norm()),
                    update_norm=float((p.detach() - before[name]).norm()),
                )
                for name, p in named.items()
            )
            first = (recording, losses.detach(), moved, total)
        optimizer.zero_grad(set_to_none=True)
        del losses, mean
    with torch.no_grad():
        losses = token_losses_of(model, tokens, targets)
        means.append(float(losses.sum() / (targets != IGNORE).sum()))
    assert first is not None
    recording, losses, moved, total = first
    return StepTrace(
        recording=recording,
        targets=targets,
        losses=losses,
        mean_losses=tuple(means),
        parameters=moved,
        gradient_norm=total,
        clip=clip,
        clip_factor=min(1.0, clip / (total + 1e-6)) if clip else 1.0,
        lr=float(optimizer.param_groups[0]["lr"]),
    )


def token_losses_of(model: LanguageModel, tokens: Tokens, targets: Tokens) -> TokenLosses:
    """Cross entropy of every token from the logits themselves, so that they take part in the record; site `loss`."""
    logits = model(tokens)
    losses = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE, reduction="none")
    return tap(model, "loss", losses.view_as(targets))
