"""What was never loaded differs from one start to the next: `two-seeds` (I02).

build, load, seed 1     a b c d e f          a weight that is not the same twice was drawn, not read;
build, load, seed 2     a b c D e f          where all differ, nothing was loaded
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.modules import parameters_of


class TwoSeeds(Law):
    name = "two-seeds"
    id = "I02"
    says = "made twice under two seeds, a loaded model is the same"
    hint = "a tensor the file calls otherwise, memory that was never filled, an init that runs after loading"
    order = 2

    def check(self, patient: Patient) -> Finding:
        if patient.build is None:
            return self.skips("it cannot be made again: it is at hand as it is")
        one, two = (_weights(patient.build(seed)) for seed in (1, 2))
        if one.keys() != two.keys():
            names = sorted(one.keys() ^ two.keys())
            return self.fails(f"made twice, it has other weights: `{names[0]}` is there once", names=names)
        if not one:
            return self.skips("it has no weights")
        differ = [name for name in one if not _same(one[name], two[name])]
        telling = {name for name in one if one[name].ndim > 1 and not _constant(one[name])}
        drawn = [name for name in differ if name in telling] or differ
        if not differ:
            return self.passes(f"made twice under two seeds, all {len(one)} weights are the same")
        if telling - set(drawn) and drawn:
            also = f", and {len(drawn) - 1} more" if len(drawn) > 1 else ""
            return self.fails(
                f"`{drawn[0]}`{also} of {len(one)} weights differ from seed to seed: nothing was loaded into them",
                never_loaded=drawn,
            )
        if patient.trained:
            return self.fails(
                f"all {len(drawn)} weights differ from seed to seed: nothing was loaded", never_loaded=drawn
            )
        return self.skips("every weight is drawn at random: nothing was loaded, and so nothing can be missing")


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """Parameters, and buffers of numbers: a table that is rebuilt after loading is one."""
    buffers = {name: b.detach() for name, b in module.named_buffers() if b.is_floating_point() and b.numel() > 1}
    fixed = {name for name, p in module.named_parameters() if not p.requires_grad}
    trained = any(p.requires_grad for p in module.parameters())
    parameters = {n: p for n, p in parameters_of(module).items() if not (trained and n in fixed)}
    return {**parameters, **{name: b for name, b in buffers.items() if not _table(module, name)}}


def _table(module: nn.Module, name: str) -> bool:
    """A buffer that no file holds follows from the settings, and says nothing about loading."""
    path, _, own = name.rpartition(".")
    return own in module.get_submodule(path)._non_persistent_buffers_set or "mask" in own or "inv_freq" in own


def _same(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and bool(torch.equal(one.nan_to_num(), two.nan_to_num()))


def _constant(weight: Tensor) -> bool:
    return weight.numel() < 2 or bool((weight == weight.flatten()[0]).all())
