"""Is every parameter trained, once, and as AdamW says? `optimizer-ledger` (I27). Loshchilov and Hutter 2017, arXiv:1711.05101.

ledger         each trainable parameter in exactly one group; vectors (norms, biases) do not decay
first step     |change| = lr * g / (g + eps), against the gradient's sign: both averages are corrected for having just begun
zero gradient  change = - lr * decay * parameter, and nothing where there is no decay
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from picolab.diagnose.laws.law import Finding, Law, Patient

SLOPES = (1.0, 1e-3, 10.0, -1e-2)
"""Gradients that are tried, in this order; the third times `eps`."""

OFF, LR = 0.02, 1e-2
"""What a first step may be off, of itself; the learning rate it is tried with."""


class OptimizerLedger(Law):
    name = "optimizer-ledger"
    id = "I27"
    says = "each parameter once, vectors not decayed, steps lr long"
    hint = "groups made from names, parameters replaced after the optimizer was built, eps inside the bias correction"
    order = 44

    def check(self, patient: Patient) -> Finding:
        optimizer, module = patient.optimizer, patient.module
        if optimizer is None or module is None:
            return self.skips("no optimizer is offered (`optimizer`)")
        wrong = ledger(module, optimizer)
        if wrong:
            return self.fails(wrong)
        groups = optimizer.param_groups
        said = ", ".join(f"{sum(p.numel() for p in g['params']):,} at {g.get('weight_decay', 0):g}" for g in groups)
        told = f"{sum(len(g['params']) for g in groups)} tensors once each, numbers by decay: {said}"
        if not all("betas" in group and "eps" in group for group in groups):
            return self.passes(f"{told}; its first step is not AdamW's and was not measured")
        wrong, apart = first_step(optimizer)
        if wrong:
            return self.fails(wrong, apart=apart)
        return self.passes(f"{told}; its first steps are lr long to {apart:.1g}", apart=apart)


def ledger(module: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """What is wrong with the groups, in words."""
    names = {id(p): name for name, p in module.named_parameters() if p.requires_grad}
    tensors = {id(p): p for p in module.parameters()}
    counted = Counter(id(p) for group in optimizer.param_groups for p in group["params"])
    twice = [names.get(i, "one the model does not have") for i, times in counted.items() if times > 1]
    if twice:
        return f"{len(twice)} parameters are in more than one group, `{twice[0]}` first: they take two steps at once"
    strange = [i for i in counted if i not in tensors]
    lost = [name for i, name in names.items() if i not in counted]
    if strange:
        also = f", and `{lost[0]}` is in none: was the model replaced after the optimizer was made?" if lost else ""
        return f"{len(strange)} tensors of the optimizer are not the model's{also}"
    if lost:
        return f"{len(lost)} of {len(names)} parameters are in no group and never change, `{lost[0]}` first"
    vectors = [
        (names.get(id(p), "?"), group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
        if p.dim() < 2 and group.get("weight_decay")
    ]
    if vectors:
        name, decay = vectors[0]
        return f"{len(vectors)} vectors decay by {decay:g}, `{name}` first: a norm's weight or a bias is pulled to zero"
    return ""


def first_step(optimizer: torch.optim.Optimizer) -> tuple[str, float]:
    """What is wrong with a first step, in words, and how far it is off; tried on a copy, the model keeps its numbers."""
    worst = 0.0
    for number, slope in enumerate(SLOPES):
        tried = _fresh(optimizer)
        for group in tried.param_groups:
            group["weight_decay"] = 0.0
            g = slope * group["eps"] if number == 2 else slope
            meant = -LR * g / (abs(g) + group["eps"])
            for p, change in _step(tried, group, g):
                off = float((change - meant).abs().max()) / abs(meant)
                worst = max(worst, off)
                if not off <= OFF:
                    ratio = float(change.mean()) / meant
                    size = f"{g:.3g} (ten times eps)" if number == 2 else f"{g:g}"
                    return (
                        f"with a gradient of {size} the first step is {ratio:.3g} times what lr {LR:g} makes, on {tuple(p.shape)}",
                        off,
                    )
    tried = _fresh(optimizer)
    for group in tried.param_groups:
        decay = group.get("weight_decay", 0.0)
        coupled = not group.get("decoupled_weight_decay", type(optimizer).__name__ != "Adam")
        if coupled and decay:
            continue  # Adam adds decay to the gradient, and says so by its name
        befores = [p.detach().clone() for p in group["params"]]
        for (_, change), before in zip(_step(tried, group, 0.0), befores, strict=True):
            off = float((change + LR * decay * before).abs().max()) / (LR * max(float(before.abs().max()), 1e-6))
            worst = max(worst, off)
            if not off <= OFF:
                return (
                    f"without a gradient, decay {decay:g} changes a parameter by other than lr * decay of it: {off:.2g} of lr off",
                    off,
                )
    return "", worst


def _fresh(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """A copy with tensors of its own, few numbers each, that has taken no step."""
    tried: torch.optim.Optimizer = object.__new__(type(optimizer))
    # A schedule puts its own `step`, and others their hooks, on the optimizer: these are of the real one.
    hooks: dict[str, Any] = {name: OrderedDict() for name in vars(optimizer) if name.endswith("_hooks")}
    vars(tried).update({name: value for name, value in vars(optimizer).items() if name != "step"} | hooks)
    tried.param_groups = [_small(group) for group in optimizer.param_groups]
    tried.state = defaultdict(dict)
    for group in tried.param_groups:
        group["lr"] = LR if not isinstance(group["lr"], Tensor) else torch.tensor(LR)
    return tried


def _small(group: dict[str, Any]) -> dict[str, Any]:
    """A group whose tensors are a few numbers of each parameter, as float32 on the CPU: steps are element by element."""
    small = [nn.Parameter(p.detach().flatten()[:8].float().cpu().clone()) for p in group["params"][:4]]
    return {**group, "params": small}


def _step(tried: torch.optim.Optimizer, group: dict[str, Any], slope: float) -> list[tuple[Tensor, Tensor]]:
    """One step of one group with the same gradient everywhere; what changed."""
    for other in tried.param_groups:
        for p in other["params"]:
            p.grad = torch.full_like(p, slope) if other is group else None
    befores = [p.detach().clone() for p in group["params"]]
    tried.step()
    return [(p, p.detach() - before) for p, before in zip(group["params"], befores, strict=True)]
