"""The way back: how strongly the loss pulls at every part, whether the pull dies or grows on its way down, clipping, the step.

vanishing    the gradient that reaches the first block is less than a hundredth of that at the last
exploding    it is more than a hundred times as long
usual        updates of about 1e-3 of the weights' length: from 1e-4 to 1e-2 nothing is remarked
"""

from __future__ import annotations

import math

from picolab.measure.parameters import part_of
from picolab.report.narration.scene import Scene
from picolab.report.narration.sources import line_of
from picolab.report.narration.step import Section, Step, Table, Values
from picolab.report.narration.wording import figure, plural, share
from picolab.trace import step as steps
from picolab.trace.sites import GRAD
from picolab.trace.step import StepTrace

VANISHING, EXPLODING = 0.01, 100.0
USUAL, SMALL, LARGE = 1e-3, 1e-4, 1e-2
CARRIERS = ("resid_post", "state", "act")
"""Sites whose gradients, block by block, show how the pull travels; the first a model has."""


def backward(scene: Scene, taken: StepTrace) -> Section:
    """Gradients by part and by block."""
    told = [_by_part(taken)]
    travel = _travel(scene, taken)
    if travel is not None:
        told.append(travel)
    says = f"The gradient is {figure(taken.gradient_norm)} long"
    says += f"; {told[-1].says[0].lower()}{told[-1].says[1:]}" if travel is not None else "."
    return Section(kind="backward", title="Backward", says=says, steps=tuple(told))


def _parts(taken: StepTrace) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for index, parameter in enumerate(taken.parameters):
        groups.setdefault(part_of(parameter.name), []).append(index)
    return groups


def _by_part(taken: StepTrace) -> Step:
    norms = {
        part: math.hypot(*(taken.parameters[i].gradient_norm for i in members))
        for part, members in _parts(taken).items()
    }
    most = max(norms, key=lambda part: norms[part])
    total = max(taken.gradient_norm, 1e-300)
    zero = [p.name for p in taken.parameters if p.gradient_norm == 0]
    says = f"The loss pulls hardest at `{most}`, {share((norms[most] / total) ** 2)} of the squared length"
    says += (
        f"; nothing reaches {plural(len(zero), 'parameter')}, among them `{zero[0]}`."
        if zero
        else "; every parameter gets some."
    )
    rows = [(part, figure(norm), share((norm / total) ** 2)) for part, norm in norms.items()]
    single = [(p.name, figure(p.gradient_norm), share((p.gradient_norm / total) ** 2)) for p in taken.parameters]
    columns, right = ("part", "gradient norm", "of the square"), ("gradient norm", "of the square")
    return Step(
        title="Gradients by part",
        says=says,
        formula="d loss / d parameter",
        source=line_of(steps._take, "backward()"),
        tables=(
            Table(columns=columns, rows=tuple(rows), right=right),
            Table(columns=("parameter", *columns[1:]), rows=tuple(single), right=right, level="full"),
        ),
    )


def _travel(scene: Scene, taken: StepTrace) -> Step | None:
    """Gradients at the same place of every block."""
    place = next((name for name in CARRIERS if f"{GRAD}blocks.0.{name}" in taken.recording), None)
    if place is None:
        return None
    norms = {}
    for layer in scene.layers:
        site = f"{GRAD}blocks.{layer}.{place}"
        if site in taken.recording:
            found = taken.recording.entry(site).statistics
            norms[layer] = found.rms * math.sqrt(found.count)
    if len(norms) < 2:
        return None
    first, last = norms[min(norms)], norms[max(norms)]
    ratio = first / last if last else math.inf
    if ratio < VANISHING:
        says = (
            f"It is vanishing: only {figure(ratio)} of the gradient at block {max(norms)} reaches block {min(norms)}."
        )
    elif ratio > EXPLODING:
        says = f"It is exploding: block {min(norms)} gets {figure(ratio)} times the gradient of block {max(norms)}."
    else:
        says = f"It neither vanishes nor explodes: block {min(norms)} gets {figure(ratio)} times what block {max(norms)} does."
    rows = tuple((str(layer), figure(norm)) for layer, norm in norms.items())
    return Step(
        title="Gradients block by block",
        says=says,
        site=f"{GRAD}blocks.0.{place}",
        formula=f"length of d loss / d {place}",
        source=scene.sources.get(f"blocks.0.{place}"),
        tables=(Table(columns=("block", "gradient norm"), rows=rows, right=("block", "gradient norm")),),
    )


def clipping(taken: StepTrace) -> Section:
    """What the limit on the gradient's length did."""
    if not taken.clip:
        says = f"None was asked for; the gradient goes on with its length of {figure(taken.gradient_norm)}."
    elif taken.clip_factor < 1:
        says = (
            f"{figure(taken.gradient_norm)} is above the limit of {taken.clip:g}: every gradient is multiplied by"
            f" {figure(taken.clip_factor)}."
        )
    else:
        says = f"{figure(taken.gradient_norm)} is within the limit of {taken.clip:g}: nothing is changed."
    step = Step(
        title="Clipping",
        says=says,
        formula="gradient x min(1, limit / length)",
        values=(Values(where="length, limit, factor", numbers=(taken.gradient_norm, taken.clip, taken.clip_factor)),),
        source=line_of(steps._take, "clip_grad_norm_"),
    )
    return Section(kind="clipping", title="Clipping", says=says, steps=(step,))


def optimizer(taken: StepTrace) -> Section:
    """How far the step moved the weights."""
    ratios = {}
    for part, members in _parts(taken).items():
        update = math.hypot(*(taken.parameters[i].update_norm for i in members))
        weight = math.hypot(*(taken.parameters[i].weight_norm for i in members))
        ratios[part] = (update, weight, update / weight if weight else math.inf if update else 0.0)
    update = math.hypot(*(u for u, _, _ in ratios.values()))
    weight = math.hypot(*(w for _, w, _ in ratios.values()))
    whole = update / max(weight, 1e-300)
    count = sum(p.count for p in taken.parameters)
    each = update / math.sqrt(max(count, 1))
    says = f"The weights move by {figure(whole)} of their length, " + (
        f"more than is usual (about {USUAL:g}): the learning rate of {taken.lr:g} is large for them"
        if whole > LARGE
        else f"less than is usual (about {USUAL:g}): the learning rate of {taken.lr:g} is small for them"
        if whole < SMALL
        else f"near what is usual (about {USUAL:g})"
    )
    detail = (
        f"A number moves by {figure(each)} (root mean square), {figure(each / taken.lr)} of the learning rate"
        if taken.lr
        else f"A number moves by {figure(each)}"
    )
    if 0.5 < each / max(taken.lr, 1e-300) < 1.5:
        detail += ": AdamW's first step is that long whatever the gradient's size"
    outside = [part for part, (_, _, r) in ratios.items() if r > LARGE or r < SMALL]
    if outside:
        far = max(outside, key=lambda part: abs(math.log10(max(ratios[part][2], 1e-12)) + 3))
        detail += f"; furthest from usual is `{far}` ({figure(ratios[far][2])})"
    rows = tuple((part, figure(w), figure(u), figure(r)) for part, (u, w, r) in ratios.items())
    told = [
        Step(
            title="Update against weight",
            says=detail + ".",
            formula="|new - old| / |old|",
            source=line_of(steps._take, "optimizer.step()"),
            tables=(
                Table(
                    columns=("part", "weight", "update", "ratio"),
                    rows=rows,
                    right=("weight", "update", "ratio"),
                ),
            ),
        ),
        _afterwards(taken),
    ]
    return Section(kind="optimizer", title="The optimizer's step", says=says + ".", steps=tuple(told))


def _afterwards(taken: StepTrace) -> Step:
    """The loss of the same tokens after every step."""
    before, after = taken.mean_losses[0], taken.mean_losses[-1]
    n = len(taken.mean_losses) - 1
    if after < before:
        says = f"After {plural(n, 'step')} the same tokens cost {figure(after)} nats instead of {figure(before)}."
    else:
        says = (
            f"After {plural(n, 'step')} the same tokens cost {figure(after)} nats, no less than the {figure(before)} before:"
            " the step was too long."
        )
    says += " The weights were then put back."
    rows = tuple((str(i), f"{mean:.4f}") for i, mean in enumerate(taken.mean_losses))
    return Step(
        title="The same tokens again",
        says=says,
        source=line_of(steps._take, "mean = "),
        tables=(Table(columns=("steps", "loss"), rows=rows, right=("steps", "loss")),),
    )
