"""Does a norm give every token the standard size, and nothing else? `norms` (I12).

    rms norm     (output - bias) / gain  has root mean square 1             layer norm: mean 0, variance 1
    gain         the weight as it is stored, or 1 + it: both conventions exist, and a checkpoint means one of them
    at zero      a vector of zeros stays finite: that is what eps is for

Each norm is called alone, with vectors of its own width; so the lane it sums over, the count it divides by and the place of its
gain all show.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.modules import calls, copy_of, is_norm, no_copy

EXACT = 2e-4
"""Off one in float32; a variance divided by n - 1 is off by 1 / 2n."""

LARGE = 30.0
"""Vectors so long that no eps matters."""

GROUPS = (nn.BatchNorm1d, nn.GroupNorm, nn.InstanceNorm1d)


class Norms(Law):
    name = "norms"
    id = "I12"
    says = "before its gain, every normed vector has mean square 1, or mean 0 and variance 1"
    hint = "the axis, n or n - 1, a root that is missing, the gain stored as w or as 1 + w, eps inside the root"
    order = 27

    def check(self, patient: Patient) -> Finding:
        reason = no_copy(patient)
        if reason is not None:
            return self.skips(reason)
        assert patient.run is not None
        module = copy_of(patient)
        with torch.no_grad(), calls(module, lambda _, child: is_norm(child)) as seen:
            patient.run(module, patient.random(2, 5, salt=41))
        norms = {call.name: call for call in seen if call.input is not None and call.input.is_floating_point()}
        if not norms:
            return self.skips("no module of it calls itself a norm")
        kinds: dict[str, int] = {}
        for name, call in norms.items():
            if isinstance(call.module, GROUPS):
                return self.fails(f"`{name}` is a {type(call.module).__name__}: it does not norm each token by itself")
            assert call.input is not None
            found = _kind(call.module.float(), call.input.float())
            if found in FAULTS:
                return self.fails(f"`{name}` {FAULTS[found]}", site=name)
            if isinstance(found, float):
                return self.fails(
                    f"`{name}` gives vectors of root mean square {found:.4f} before its gain, not 1",
                    site=name,
                    rms=found,
                )
            strange = _stored_as_offset(call.module)
            if strange is not None and not found.endswith("1 + w"):
                return self.fails(
                    f"the gains of `{name}` lie around {strange:.2g}, half of them negative: they mean 1 + w",
                    site=name, median=strange,
                )  # fmt: skip
            kinds[found] = kinds.get(found, 0) + 1
        told = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
        return self.passes(f"{len(norms)} norms: {told}", kinds=kinds)


FAULTS = {
    "grows": "gives longer vectors for longer inputs: it does not norm",
    "nan": "turns a vector of zeros into NaN: it has no eps",
    "neighbours": "gives a token another value when another token changes",
}


@torch.no_grad()
def _kind(norm: nn.Module, like: Tensor) -> str | float:
    """What kind of norm a module is, or what is wrong with it; a number is the root mean square it gives."""
    generator = torch.Generator().manual_seed(2)
    x = LARGE * torch.randn(like.shape, generator=generator) + 0.3 * LARGE
    x = x.to(like.device)
    y = norm(x).float()
    if y.shape != x.shape or not bool(norm(torch.zeros_like(x)).isfinite().all()):
        return "nan"
    if float((norm(8 * x).float() - y).abs().max()) > 0.01 * float(y.abs().max()):
        return "grows"
    changed = x.clone()
    changed.flatten(0, -2)[-1] *= -0.7
    if float((norm(changed).float() - y).flatten(0, -2)[:-1].abs().max()) > 1e-4 * float(y.abs().max()):
        return "neighbours"
    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    shifted = y if bias is None else y - bias
    best = float("inf")
    gains = {"": None, " w": weight, " 1 + w": None if weight is None else 1 + weight}
    for called, gain in gains.items():
        if called and gain is None:
            continue
        if gain is not None and bool((gain.abs() <= 1e-6 * gain.abs().max()).any()):
            continue  # a gain of zero hides its lane: this convention cannot be asked
        z = shifted if gain is None else shifted / gain
        rms, mean = z.square().mean(-1).sqrt(), z.mean(-1)
        off = float((rms - 1).abs().max())
        if off < EXACT:
            centred = float(mean.abs().max()) < EXACT
            return f"{'layer' if centred else 'rms'} norm{',' if called else ''}{called}"
        if off < abs(best - 1):
            best = float(rms.flatten()[(rms - 1).abs().argmax()])
    return best


def _stored_as_offset(norm: nn.Module) -> float | None:
    """The median of gains that lie around zero; None for gains as they are meant."""
    weight = getattr(norm, "weight", None)
    if not isinstance(weight, Tensor) or weight.numel() < 8:
        return None
    values = weight.detach().float()
    middle, negative = float(values.median()), float((values < 0).float().mean())
    return middle if 0.25 < negative < 0.75 and bool(values.any()) else None
