"""Norms and the residual stream: what a layer reads, and how far what it adds moves the stream.

ratio    length of what is added / length of the stream before it, on average over tokens
cosine   between the two: above 0.2 it strengthens what is there, below -0.2 it takes away, between it adds something new
"""

from __future__ import annotations

import torch

from picolab.report.narration.scene import Scene
from picolab.report.narration.step import Step
from picolab.report.narration.wording import figure

BARELY, CLEARLY, OUTWEIGHS = 0.05, 0.3, 1.0
"""Ratios from which an addition is said to nudge, move, outweigh the stream."""

ALONG = 0.2
"""Cosine from which an addition is said to lie along the stream or against it."""

ALIKE = 1.1
"""Lengths whose largest is within this factor of the smallest are called alike."""


def stream_before(scene: Scene, layer: int) -> str:
    """The site of the stream as it enters a block."""
    return "embed" if layer == 0 else f"blocks.{layer - 1}.resid_post"


def norm(scene: Scene, site: str, before: str, title: str) -> Step:
    """A norm: lengths before and after."""
    after_entry, x, y = scene.entry(site), scene.value(before), scene.value(site)
    assert after_entry is not None
    kind = "layer" if _is_layer_norm(scene, site) else "rms"
    formula: str | None
    formula = "x / sqrt(mean(x^2) + eps) * w" if kind == "rms" else "(x - mean) / sqrt(variance + eps) * w + b"
    if _module(scene, site) is None:
        formula = None
    elif _weight(scene, site) is None:
        formula = formula.removesuffix(" * w")
    if x is None or y is None:
        before_entry = scene.entry(before)
        was = f" from {figure(before_entry.statistics.rms)}" if before_entry is not None else ""
        says = f"The size of a number goes{was} to {figure(after_entry.statistics.rms)} (root mean square)."
        return scene.step(site, title, says, formula=formula)
    sizes, normed = (v.square().mean(-1).sqrt() for v in (x, y))
    low, high = float(sizes.min()), float(sizes.max())
    spread = high / max(low, 1e-12)
    says = (
        f"Tokens of like size ({figure(low)} to {figure(high)})"
        if spread <= ALIKE
        else f"Sizes of {figure(low)} to {figure(high)}, {figure(spread)} times apart,"
    )
    says += f" become {figure(float(normed.min()))} to {figure(float(normed.max()))}"
    weight = _weight(scene, site)
    if weight is not None:
        says += (
            "; its weight is still 1 everywhere"
            if bool((weight == 1).all())
            else f"; its weight favours lane {int(weight.abs().argmax())} ({figure(float(weight[weight.abs().argmax()]))})"
        )
    return scene.step(site, title, says + ".", formula=formula)


def _module(scene: Scene, site: str) -> torch.nn.Module | None:
    return scene.module(site)


def _weight(scene: Scene, site: str) -> torch.Tensor | None:
    weight = getattr(_module(scene, site), "weight", None)
    return weight.detach().float().cpu() if isinstance(weight, torch.Tensor) else None


def _is_layer_norm(scene: Scene, site: str) -> bool:
    return getattr(_module(scene, site), "bias", None) is not None


def residual(scene: Scene, site: str, before: str, added: str, title: str, formula: str) -> Step:
    """What was added to the stream."""
    x, delta = scene.value(before), scene.value(added)
    if x is None or delta is None:
        entry = scene.entry(site)
        assert entry is not None
        was = scene.entry(before)
        says = f"The stream's size is now {figure(entry.statistics.rms)}"
        says += f", from {figure(was.statistics.rms)}." if was is not None else "."
        return scene.step(site, title, says, formula=formula)
    ratio, cosine = moved(x, delta)
    return scene.step(site, title, _movement(ratio, cosine), formula=formula)


def moved(x: torch.Tensor, delta: torch.Tensor) -> tuple[float, float]:
    """How long an addition is against the stream, and its cosine with it; means over tokens."""
    ratio = float((delta.norm(dim=-1) / x.norm(dim=-1).clamp(min=1e-12)).mean())
    cosine = float(torch.cosine_similarity(x, delta, dim=-1).mean())
    return ratio, cosine


def _movement(ratio: float, cosine: float) -> str:
    if ratio == 0:
        return "Nothing was added: what this layer writes is all zeros."
    verb = (
        "hardly moves the stream"
        if ratio < BARELY
        else "nudges the stream"
        if ratio < CLEARLY
        else "moves the stream"
        if ratio < OUTWEIGHS
        else "outweighs the stream"
    )
    manner = (
        "in directions mostly new to it"
        if abs(cosine) < ALONG
        else "along what is there, which grows"
        if cosine > 0
        else "against what is there, which shrinks"
    )
    return f"It {verb}: {figure(ratio)} of its length, {manner} (cosine {figure(cosine)})."


def movement(scene: Scene, layer: int) -> tuple[float, float] | None:
    """Ratio and cosine of all that a block added."""
    x, y = scene.value(stream_before(scene, layer)), scene.value(f"blocks.{layer}.resid_post")
    return None if x is None or y is None else moved(x, y - x)
