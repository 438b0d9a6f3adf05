"""Is every part connected, and a block that says nothing no change? `wiring` (I11).

    x --+--------------+--------------+-->       with every matrix of a block set to zero, what goes in comes out
        +- norm - att -+ norm - feed -+          a parameter that no logit depends on was made and never used

Published blocks differ: the norm may come after the sum, both sublayers may read one stream. What no design does is told.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.modules import Call, blocks_of, calls, copy_of, is_norm, no_copy

SAME = 1e-4


class Wiring(Law):
    name = "wiring"
    id = "I11"
    says = "every parameter moves the logits, and a block whose matrices are zero hands its input on"
    hint = "a residual that is missing, added twice or taken after the norm; a sublayer that reads another stream"
    order = 26

    def check(self, patient: Patient) -> Finding:
        reason = no_copy(patient)
        if reason is not None:
            return self.skips(reason)
        unused = _unused(patient)
        if unused:
            also = f", and {len(unused) - 1} more" if len(unused) > 1 else ""
            return self.fails(
                f"no logit depends on `{unused[0]}`{also}",
                hint="a layer that is made and never called, a value that is detached, a result that is thrown away",
                unused=unused,
            )
        tokens = patient.random(1, 7, salt=31)
        visits = blocks_of(patient, copy_of(patient), tokens)
        if not visits or not _attends(visits[0][0].module):
            return self.passes("every parameter moves the logits; it has no list of attention blocks to silence")
        streams = _streams(patient, visits, tokens)
        if streams is not None:
            return self.fails(streams)
        return self._silenced(patient, tokens)

    def _silenced(self, patient: Patient, tokens: Tensor) -> Finding:
        module = copy_of(patient)
        names = [visit[0].name for visit in blocks_of(patient, module, tokens)]
        for name in names:
            silence(module.get_submodule(name))
        after = 0
        for visit in blocks_of(patient, module, tokens):
            call = visit[0]
            assert call.input is not None and call.output is not None
            x, y = call.input.float().flatten(0, -2), call.output.float().flatten(0, -2)
            if _near(y, x):
                continue
            factor = float((x * y).sum() / (x * x).sum())
            if float(y.abs().max()) < SAME * float(x.abs().max()):
                return self.fails(f"with its matrices set to zero, `{call.name}` gives zero: its input is not added")
            if _near(y, factor * x):
                if _has_gains(call.module):
                    continue
                return self.fails(
                    f"with its matrices set to zero, `{call.name}` gives {factor:.4g} times its input", factor=factor
                )
            if not _normed_before(patient, call, tokens):
                after += 1  # the norm stands after the sum, and attention reads the stream as it is
                continue
            off = float((y - x).abs().max() / x.abs().max())
            return self.fails(
                f"with its matrices set to zero, `{call.name}` changes its input by {off:.2g} of the largest", off=off
            )
        how = f"{after} of them norm after the sum" if after else "all of them hand their input on"
        return self.passes(f"every parameter moves the logits; {len(names)} blocks were silenced, {how}")


def silence(block: nn.Module) -> None:
    """Set what a block computes with to zero: matrices and biases, and not the gains of its norms or of its residuals."""
    for module in block.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not is_norm(module) and (parameter.ndim >= 2 or "bias" in name):
                parameter.data.zero_()


def _unused(patient: Patient) -> list[str]:
    """Parameters that no logit depends on."""
    assert patient.run is not None
    module, generator = copy_of(patient), torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
        if not parameter.data.any():  # one that starts at zero would hide all that lies before it
            parameter.data.add_(0.02 * torch.randn(parameter.shape, generator=generator).to(parameter))
    with torch.enable_grad():
        logits = patient.run(module, patient.random(2, 12, salt=32))
        if not logits.requires_grad:
            return []
        weights = torch.randn(logits.shape, generator=generator).to(logits)
        (logits * weights).sum().backward()
    return [
        name
        for name, parameter in module.named_parameters()
        if parameter.is_floating_point() and (parameter.grad is None or not bool(parameter.grad.any()))
    ]


def _streams(patient: Patient, visits: list[list[Call]], tokens: Tensor) -> str | None:
    """What is wrong with the streams that the sublayers of a model of ours read."""
    if patient.model is None:
        return None
    module = copy_of(patient)
    names = {visit[0].name for visit in visits}
    ours = {f"{name}.{own}" for name in names for own in ("attention_norm", "mlp_norm")}
    with calls(module, lambda name, _: name in ours or name in names) as seen:
        patient.run(module, tokens)  # type: ignore[misc]
    by_name = {call.name: call for call in seen}
    for name in sorted(names):
        block, first, second = by_name[name], by_name.get(f"{name}.attention_norm"), by_name.get(f"{name}.mlp_norm")
        if first is None or second is None or block.input is None or first.input is None or second.input is None:
            continue
        if not torch.equal(first.input, block.input):
            return f"the attention of `{name}` does not read the block's input"
        if torch.equal(second.input, block.input):
            return f"the feed-forward layer of `{name}` reads the block's input, not the stream after attention"
    return None


def _near(a: Tensor, b: Tensor) -> bool:
    return float((a - b).abs().max()) <= SAME * float(b.abs().max().clamp(min=1e-20))


def _has_gains(block: nn.Module) -> bool:
    """Whether a block has numbers of its own for its residuals."""
    return any(
        p.ndim <= 1 and "bias" not in name
        for m in block.modules() if not is_norm(m)
        for name, p in m.named_parameters(recurse=False)
    )  # fmt: skip


def _attends(block: nn.Module) -> bool:
    """Whether there is attention in it, by name or by the name of its class."""
    return any("att" in f"{name} {type(child).__name__}".lower() for name, child in block.named_modules())


@torch.no_grad()
def _normed_before(patient: Patient, call: Call, tokens: Tensor) -> bool:
    """Whether the first matrix of a block reads a normed copy of the stream, and not the stream itself."""
    module = copy_of(patient)
    inside = {n for n, m in module.named_modules() if n.startswith(f"{call.name}.") and hasattr(m, "weight")}
    with calls(module, lambda name, child: name == call.name or (name in inside and not is_norm(child))) as seen:
        patient.run(module, tokens)  # type: ignore[misc]
    first = next((c for c in seen if c.name != call.name and c.input is not None), None)
    block = next((c for c in seen if c.name == call.name), None)
    if first is None or block is None or first.input is None or block.input is None:
        return True
    return first.input.shape != block.input.shape or not _near(first.input.float(), block.input.float())
