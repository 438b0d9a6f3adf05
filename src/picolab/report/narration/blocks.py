"""The blocks: the first three and the last in full, each other in a line, or those somebody named."""

from __future__ import annotations

from collections.abc import Collection

from picolab.report.narration.attention import attention
from picolab.report.narration.mlp import activation, mlp
from picolab.report.narration.scene import Scene
from picolab.report.narration.step import Section
from picolab.report.narration.stream import movement, norm, residual, stream_before
from picolab.report.narration.wording import figure, share

FIRST_IN_FULL = 3

PREFERS = 1.5
"""A weight this many times an even share is a preference."""


def told_in_full(layers: Collection[int]) -> set[int]:
    """The blocks that are told step by step where nobody says which."""
    ordered = sorted(layers)
    return {*ordered[:FIRST_IN_FULL], *ordered[-1:]}


def block(scene: Scene, layer: int, *, in_full: bool) -> Section:
    """One block of a decoder."""
    at = f"blocks.{layer}."
    steps = []
    before, order = stream_before(scene, layer), scene.order
    if in_full:
        if at + "attention_norm" in order:
            steps.append(norm(scene, at + "attention_norm", before, "Norm"))
        steps += attention(scene, layer)
        if at + "resid_mid" in order:
            steps.append(residual(scene, at + "resid_mid", before, at + "attention.out", "Residual", "x + out"))
        if at + "mlp_norm" in order:
            steps.append(norm(scene, at + "mlp_norm", at + "resid_mid", "Norm"))
        steps += mlp(scene, layer)
        if at + "resid_post" in order:
            middle = at + "resid_mid"
            steps.append(residual(scene, at + "resid_post", middle, at + "mlp.down", "Residual", "x + down"))
    return Section(kind="block", title=f"Block {layer}", says=_line(scene, layer), steps=tuple(steps), layer=layer)


def _line(scene: Scene, layer: int) -> str:
    """A block in a sentence: what attention did, what the feed-forward layer added, how far the stream moved."""
    at = f"blocks.{layer}."
    facts = []
    found = scene.attention(at + "attention.probs")
    if found is not None:
        _, entropy, heaviest, key = found
        p = scene.followed
        head = int(heaviest[:, p].argmax())
        where = int(key[head, p])
        weight = float(heaviest[head, p])
        if weight * (p + 1) < PREFERS and p:
            facts.append(f"{scene.word(p)} attends to all {p + 1} tokens almost alike")
        else:
            on = "itself" if where == p else scene.word(where)
            facts.append(f"head {head} puts {figure(weight)} of {scene.word(p)}'s attention on {on}")
    down, middle = scene.value(at + "mlp.down"), scene.value(at + "resid_mid")
    out, before = scene.value(at + "attention.out"), scene.value(stream_before(scene, layer))
    if out is not None and before is not None and down is not None and middle is not None:
        a = float((out.norm(dim=-1) / before.norm(dim=-1).clamp(min=1e-12)).mean())
        m = float((down.norm(dim=-1) / middle.norm(dim=-1).clamp(min=1e-12)).mean())
        facts.append(f"attention adds {figure(a)} of the stream's length, the feed-forward layer {figure(m)}")
    whole = movement(scene, layer)
    if whole is not None:
        facts.append(f"together the stream moves by {figure(whole[0])}")
    if not facts:
        entry = next((scene.entry(site) for site in scene.order if site.startswith(at)), None)
        assert entry is not None
        facts.append(f"numbers of size {figure(entry.statistics.rms)} at `{entry.site}`")
    says = "; ".join(facts)
    return says[0].upper() + says[1:] + "."


def recurrence(scene: Scene, layer: int) -> Section:
    """One layer of an LSTM: the state after every token."""
    site = f"blocks.{layer}.state"
    value, entry = scene.value(site), scene.entry(site)
    assert entry is not None
    if value is None or scene.time < 2:
        says = f"The state's numbers are of size {figure(entry.statistics.rms)}; each lies between -1 and 1."
    else:
        change = (value[1:] - value[:-1]).norm(dim=-1) / value[:-1].norm(dim=-1).clamp(min=1e-12)
        most = int(change.argmax()) + 1
        full = float((value.abs() > 0.9).float().mean())
        says = (
            f"A token changes the state by {figure(float(change.mean()))} of its length on average,"
            f" {scene.word(most)} most ({figure(float(change.max()))}); {share(full)} of lanes are near their limit of 1."
        )
    step = scene.step(site, "State", says, formula="h = o tanh(c), c = f c + i g")
    return Section(kind="recurrence", title=f"Layer {layer}", says=says, steps=(step,), layer=layer)


def hidden(scene: Scene, layer: int) -> Section:
    """One hidden layer of a k-gram network."""
    at, steps = f"blocks.{layer}.", []
    up = scene.entry(at + "up")
    if up is not None:
        negative = scene.value(at + "up")
        says = f"{up.statistics.shape[-1]:,} units"
        says += "" if negative is None else f", {share(float((negative < 0).float().mean()))} of them below 0"
        steps.append(scene.step(at + "up", "Expand", says + ".", formula="x W_up + b"))
    if scene.entry(at + "act") is not None:
        name = scene.setting("activation", "act")
        steps.append(activation(scene, at + "act", formula=f"{name}(up)"))
    says = steps[-1].says if steps else ""
    return Section(kind="hidden", title=f"Hidden layer {layer}", says=says, steps=tuple(steps), layer=layer)


def blocks(scene: Scene, layers: Collection[int] | None = None) -> list[Section]:
    """A section for every block something was seen of."""
    full = told_in_full(scene.layers) if layers is None else set(layers)
    sections = []
    for layer in scene.layers:
        at = f"blocks.{layer}."
        names = {site.removeprefix(at) for site in scene.order if site.startswith(at)}
        if "state" in names:
            sections.append(recurrence(scene, layer))
        elif names <= {"up", "act"}:
            sections.append(hidden(scene, layer))
        else:
            sections.append(block(scene, layer, in_full=layer in full))
    return sections
