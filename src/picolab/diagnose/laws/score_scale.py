"""Are the scores of attention of a size the softmax can work with? `score-scale` (I13).

    queries, keys of unit variance  ->  q . k has variance head_dim  ->  / sqrt(head_dim)  ->  scores of standard deviation 1

The projections' outputs are replaced by such numbers, in a copy whose norms have no gains, and what enters the softmax is measured:
sqrt(head_dim) times too large, attention is a maximum; as much too small, it is a mean. Vaswani et al. 2017, arXiv:1706.03762.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.modules import Heads, copy_of, heads_of, is_norm, no_copy
from picolab.diagnose.softmaxes import Softmaxes

LOW, HIGH = 0.8, 1.25

YARN = 2.2
"""YaRN raises scores on purpose, by (0.1 ln(factor) + 1)^2: 1.9 for a factor of 40 (Peng et al. 2023, arXiv:2309.00071)."""

OWN_SCALE = (
    "query_pre_attn_scalar",
    "attention_multiplier",
    "mup_scale",
    "scale_attn_by_inverse_layer_idx",
    "attn_scale",
)
"""Settings by which a model says that its scale is another."""


class ScoreScale(Law):
    name = "score-scale"
    id = "I13"
    says = "queries and keys of unit variance give scores of standard deviation 1"
    hint = "the scale is 1 / sqrt(head_dim): of one head, not of d_model; once; under the root"
    order = 28

    def check(self, patient: Patient) -> Finding:
        reason = no_copy(patient)
        if reason is not None:
            return self.skips(reason)
        config = getattr(patient.module, "config", None)
        own = [name for name in OWN_SCALE if _said(config, name)]
        if own:
            return self.skips(f"its settings give a scale of their own (`{own[0]}`)")
        module = copy_of(patient)
        layers = heads_of(module)
        if not layers:
            return self.skips("no projections of queries and keys are found by name")
        spreads = _spreads(patient, module, layers)
        if not spreads:
            return self.skips("no softmax over tokens was seen")
        far = max(spreads, key=lambda item: abs(torch.tensor(item[0]).log().item()))
        spread, head_dim = far
        if not LOW < spread < (YARN if "yarn" in str(_said(config, "rope_scaling")) else HIGH):
            return self.fails(
                f"scores of unit queries and keys have a standard deviation of {spread:.3g}, not 1: {_word(spread, head_dim)}",
                spread=spread, head_dim=head_dim,
            )  # fmt: skip
        return self.passes(
            f"{len(spreads)} layers: scores of unit queries and keys have a standard deviation of {spread:.2f}",
            spreads=[spread for spread, _ in spreads],
        )


def _said(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, dict) else getattr(config, name, None)


def _word(spread: float, head_dim: int | None) -> str:
    if head_dim is None:
        return "the scale is not 1 / sqrt(head_dim)"
    root = head_dim**0.5
    names = {"nothing divides them": root, "they are divided by head_dim, or twice": 1 / root}
    near = [word for word, value in names.items() if abs(spread / value - 1) < 0.15]
    return near[0] if near else f"1 / sqrt(head_dim {head_dim}) would make it 1"


@torch.no_grad()
def _spreads(patient: Patient, module: nn.Module, layers: list[Heads]) -> list[tuple[float, int | None]]:
    """The standard deviation of every layer's visible scores, and the width of its heads where it shows."""
    assert patient.run is not None
    generator = torch.Generator().manual_seed(3)
    for child in module.modules():
        weight = getattr(child, "weight", None)
        if is_norm(child) and isinstance(weight, nn.Parameter):
            _neutral(child, weight)

    def unit(child: nn.Module, args: Any, output: Tensor) -> Tensor:
        return torch.randn(output.shape, generator=generator).to(output)

    for name in {name for layer in layers for name in (layer.q, layer.k)}:
        module.get_submodule(name).register_forward_hook(unit)
    for layer in layers:
        owner = module.get_submodule(layer.path) if layer.path else module
        for name, numbers in (*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)):
            if numbers.ndim == 1 and name.endswith("bias"):
                numbers.zero_()  # added to queries or keys that are to be of unit size
    with Softmaxes() as seen:
        patient.run(module, patient.random(2, 23, salt=51))
    return [(float(s.scores[s.visible].std()), s.head_dim) for s in seen.found if int(s.visible.sum()) > 20]


def _neutral(norm: nn.Module, weight: nn.Parameter) -> None:
    """Set a norm's weight so that its gain is 1, whether it is stored as w or as 1 + w."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(weight.shape, generator=generator).to(weight)
    weight.data.fill_(1.0)
    one = norm(x.expand(1, *x.shape)).square().mean().sqrt()
    if float(one) > 1.5:
        weight.data.zero_()
