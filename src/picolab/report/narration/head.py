"""From the last vector to a choice: final norm, logits, how much the softcap bent them, the ten likeliest next tokens.

sure         the likeliest next token has at least 0.9
undecided    entropy within 2 % of ln V: every word is as likely as any other
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from picolab.parts.head import Head, softcap
from picolab.report.narration.scene import Scene
from picolab.report.narration.sources import line_of
from picolab.report.narration.step import Section, Step, Table
from picolab.report.narration.stream import norm, stream_before
from picolab.report.narration.wording import figure, share

SURE, UNDECIDED = 0.9, 0.98
NEXT_SHOWN = 10


def head(scene: Scene) -> Section | None:
    """The last part of the forward pass, as far as it was recorded."""
    steps = []
    if scene.entry("final_norm") is not None:
        steps.append(norm(scene, "final_norm", stream_before(scene, len(scene.layers)), "Final norm"))
    if scene.entry("logits") is not None:
        steps.append(_logits(scene))
        logits = scene.value("logits")
        cap = None if scene.model is None else scene.model.head.cap
        if cap is not None and logits is not None:
            steps.append(_softcap(scene, logits, cap))
        if logits is not None:
            steps.append(_next(scene, logits))
    if not steps:
        return None
    return Section(kind="head", title="The head: what comes next", says=steps[-1].says, steps=tuple(steps))


def _logits(scene: Scene) -> Step:
    value, entry = scene.value("logits"), scene.entry("logits")
    assert entry is not None
    vocab = entry.statistics.shape[-1]
    capped = scene.model is not None and scene.model.head.cap is not None
    formula = "softcap(x W_head^T)" if capped else "x W_head^T"
    if value is None:
        s = entry.statistics
        says = f"A score for each of {vocab:,} words, from {figure(s.minimum)} to {figure(s.maximum)}."
        return scene.step("logits", "Logits", says, formula=formula)
    row = value[scene.followed]
    away = (float(row.max()) - float(row.mean())) / max(float(row.std(unbiased=False)), 1e-12)
    says = (
        f"A score for each of {vocab:,} words; after {scene.word(scene.followed)} the highest stands {figure(away)} standard"
        f" deviations above the mean."
    )
    return scene.step("logits", "Logits", says, formula=formula)


def _softcap(scene: Scene, logits: Tensor, cap: float) -> Step:
    raw = cap * torch.atanh((logits / cap).clamp(-1 + 1e-7, 1 - 1e-7))
    bent = (raw - logits).abs()
    where = int(bent.argmax())
    before, after = float(raw.flatten()[where]), float(logits.flatten()[where])
    touched = float((bent > 0.01 * raw.abs().clamp(min=1e-6)).float().mean())
    says = (
        f"It bent {figure(before)} to {figure(after)} at most; {share(touched)} of logits changed by over 1 %."
        if touched
        else f"It changed no logit by more than 1 %: the largest is {figure(float(raw.abs().max()))}, far below {cap:g}."
    )
    return Step(
        title="Softcap",
        says=says,
        site="logits",
        formula=f"{cap:g} tanh(logit / {cap:g})",
        shape=(1, *logits.shape),
        source=line_of(softcap, "torch.tanh") if scene.sources else None,
    )


def _next(scene: Scene, logits: Tensor) -> Step:
    p, vocab = scene.followed, logits.shape[-1]
    log_probs = logits[p].log_softmax(-1)
    probs = log_probs.exp()
    entropy = -float((probs * log_probs).sum())
    top = probs.topk(min(NEXT_SHOWN, vocab))
    rows = []
    for rank, (weight, token) in enumerate(zip(top.values.tolist(), top.indices.tolist(), strict=True), start=1):
        rows.append((str(rank), scene.piece(token), f"{weight:.3f}", f"{float(logits[p, token]):.2f}"))
    best = f"`{scene.piece(int(top.indices[0]))}`"
    weight = float(top.values[0])
    name = scene.word(p)
    if entropy >= UNDECIDED * math.log(vocab):
        says = (
            f"After {name} every word is about as likely: entropy {figure(entropy)} of at most ln {vocab:,} ="
            f" {figure(math.log(vocab))}."
        )
    elif weight >= SURE:
        says = f"After {name} it is sure of {best} ({share(weight)})."
    else:
        second = f"`{scene.piece(int(top.indices[1]))}` ({share(float(top.values[1]))})"
        says = (
            f"After {name} it expects {best} ({share(weight)}) before {second}; its doubt is that of"
            f" {figure(math.exp(entropy))} equally likely words."
        )
    if p + 1 < scene.time:
        came = scene.words[p + 1].id
        rank = int((logits[p] > logits[p, came]).sum()) + 1
        says += f" What came was {scene.word(p + 1)}, its choice number {rank:,} ({share(float(probs[came]))})."
    return Step(
        title="The ten likeliest next tokens" if vocab >= NEXT_SHOWN else "The next token",
        says=says,
        site="logits",
        formula="softmax(logits)",
        source=line_of(Head.forward, "linear") if scene.sources else None,
        tables=(
            Table(
                columns=("", "token", "probability", "logit"),
                rows=tuple(rows),
                right=("", "probability", "logit"),
                level="brief",
            ),
        ),
        level="brief",
    )
