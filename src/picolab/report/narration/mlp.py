"""The feed-forward layer: expand, bend, contract. How many of its units speak, and which speak loudest.

silent    exactly 0 (relu squared), or smaller than a hundredth of the largest unit of that token (silu, gelu)
sparse    at least 70 % silent; dense    at most 30 %
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from picolab.report.narration.scene import Scene
from picolab.report.narration.step import Step
from picolab.report.narration.wording import figure, plural, share

SILENT, SPARSE, DENSE = 0.01, 0.7, 0.3


def mlp(scene: Scene, layer: int) -> Iterator[Step]:
    """The steps of one block's feed-forward layer that were recorded."""
    at = f"blocks.{layer}.mlp."
    gated = at + "gate" in scene.order
    for site in scene.order:
        if not site.startswith(at):
            continue
        name = site.removeprefix(at)
        if name == "gate":
            yield _gate(scene, site)
        elif name == "up":
            yield _up(scene, site)
        elif name == "act":
            yield activation(scene, site, formula=activation_formula(scene, layer, gated=gated))
        elif name == "down":
            yield _down(scene, site)


def activation_formula(scene: Scene, layer: int, *, gated: bool) -> str:
    """What bends, by its own name."""
    if gated:
        return "silu(gate) * up"
    function = getattr(scene.module(f"blocks.{layer}.mlp"), "activation", None)
    return f"{getattr(function, '__name__', 'act')}(up)"


def _gate(scene: Scene, site: str) -> Step:
    value, entry = scene.value(site), scene.entry(site)
    assert entry is not None
    if value is None:
        says = f"Numbers around {figure(entry.statistics.mean)}: what is below 0 closes its unit."
    else:
        closed = float((value < 0).float().mean())
        says = f"{share(closed)} of gates are negative and " + (
            "hold their unit nearly shut" if closed else "so none holds its unit shut"
        )
        says += "; most open on " + scene.word(int(value.clamp(min=0).mean(-1).argmax())) + "."
    return scene.step(site, "Gate", says, formula="x W_gate")


def _up(scene: Scene, site: str) -> Step:
    entry = scene.entry(site)
    assert entry is not None
    wide = entry.statistics.shape[-1]
    value = scene.value(site)
    says = f"{wide:,} units a token"
    if value is None:
        return scene.step(site, "Expand", says + f", of size {figure(entry.statistics.rms)}.", formula="x W_up")
    unit = int(value[scene.followed].abs().argmax())
    says += f"; {scene.word(scene.followed)} excites unit {unit} most ({figure(float(value[scene.followed, unit]))})."
    return scene.step(site, "Expand", says, formula="x W_up")


def activation(scene: Scene, site: str, formula: str, title: str = "Activation") -> Step:
    """Who speaks after the bend."""
    value, entry = scene.value(site), scene.entry(site)
    assert entry is not None
    if value is None:
        says = f"Numbers of size {figure(entry.statistics.rms)}, the largest {figure(entry.statistics.maximum)}."
        return scene.step(site, title, says, formula=formula)
    silence = silent(value)
    quiet = float(silence.float().mean())
    manner = "sparse" if quiet >= SPARSE else "dense" if quiet <= DENSE else "half silent"
    exact = float((value == 0).float().mean())
    says = f"{share(quiet)} of units are silent ({manner}" + (f", {share(exact)} exactly 0)" if exact else ")")
    never = int(silence.all(0).sum())
    if never and scene.time > 1:
        says += f", {plural(never, 'unit')} on every token"
    mine = value[scene.followed].square()
    total = float(mine.sum())
    if total:
        top = mine.topk(min(3, len(mine)))
        unit = int(top.indices[0])
        loudest = figure(float(value[scene.followed, unit]))
        says += (
            f"; for {scene.word(scene.followed)} unit {unit} is loudest ({loudest}),"
            f" and three units hold {share(float(top.values.sum()) / total)} of the energy"
        )
    return scene.step(site, title, says + ".", formula=formula)


def silent(value: Tensor) -> Tensor:
    """True where a unit says next to nothing, against the loudest of its token."""
    return value.abs() <= SILENT * value.abs().amax(-1, keepdim=True)


def _down(scene: Scene, site: str) -> Step:
    value, entry = scene.value(site), scene.entry(site)
    assert entry is not None
    if value is None:
        says = f"What the layer will add to the stream; of size {figure(entry.statistics.rms)}."
    elif not bool(value.any()):
        says = "All zeros: the feed-forward layer adds nothing to the stream."
    else:
        lengths = value.norm(dim=-1)
        most = int(lengths.argmax())
        others = torch.cat((lengths[:most], lengths[most + 1 :]))
        typical = float(others.median()) if len(others) else float(lengths[most])
        says = f"It will add most to {scene.word(most)} ({figure(float(lengths[most]))} long"
        says += (
            f", {figure(float(lengths[most]) / typical)} times the usual)."
            if typical and float(lengths[most]) > 2 * typical
            else f"), {figure(float(lengths.mean()))} on average."
        )
    return scene.step(site, "Contract", says, formula="act W_down")
