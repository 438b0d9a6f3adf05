"""Does the accelerator compute what the processor computes? `device` (self-check).

one pass         logits in float32 on both
three steps      plain gradient descent on both, from the same weights and the same batch: the losses must go the same way
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from picolab.diagnose.laws.law import Finding, Law, Patient, gap
from picolab.diagnose.modules import copy_of, logits_of, no_copy

LOGITS, LOSSES = 5e-3, 2e-3
"""Relative: accelerators sum in other orders, and some round products to fewer digits (TF32 is off by default)."""


class Device(Law):
    name = "device"
    id = "device"
    says = "an accelerator gives the processor's logits, and its losses over three steps of training"
    hint = "the driver, the build of PyTorch, TF32 or reduced precision switched on, a kernel of one's own"
    order = 48
    compares = True

    def check(self, patient: Patient) -> Finding:
        reason = no_copy(patient)
        if reason is not None:
            return self.skips(reason)
        devices = [torch.device("cuda")] if torch.cuda.is_available() else []
        devices += [torch.device("mps")] if torch.backends.mps.is_available() else []
        if not devices:
            return self.skips("this machine has neither cuda nor mps")
        tokens = patient.random(2, 16, salt=111)
        plain = copy_of(patient).cpu().float()
        on_cpu, steps = logits_of(patient, plain, tokens), _three_steps(patient, torch.device("cpu"))
        told = []
        for device in devices:
            off = gap(on_cpu, logits_of(patient, copy_of(patient).float().to(device), tokens))
            if not off <= LOGITS:
                return self.fails(
                    f"on {device} logits are {off:.2g} of the largest off those of the processor", off=off
                )
            there = _three_steps(patient, device)
            apart = max(abs(a - b) / max(abs(a), 1e-6) for a, b in zip(steps, there, strict=True))
            if not apart <= LOSSES:
                return self.fails(
                    f"on {device} three steps of training give the losses {', '.join(f'{x:.4f}' for x in there)}, on the processor "
                    f"{', '.join(f'{x:.4f}' for x in steps)}", losses=there, on_cpu=steps,
                )  # fmt: skip
            told.append(f"{device}: logits to {off:.1g}, losses of three steps to {apart:.1g}")
        return self.passes("; ".join(told))


def _three_steps(patient: Patient, device: torch.device) -> list[float]:
    """Losses before three steps of gradient descent on one batch."""
    assert patient.run is not None
    module = copy_of(patient).float().to(device)
    parameters = [p for p in module.parameters() if p.requires_grad]
    rows = patient.random(2, 17, salt=112).to(device)
    losses = []
    with torch.enable_grad():
        for _ in range(3):
            logits = patient.run(module, rows[:, :-1]).float()
            loss = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten().to(logits.device))
            losses.append(float(loss.detach()))
            if not parameters:
                continue
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    if gradient is not None:
                        parameter.sub_(0.01 * gradient)
    return losses
