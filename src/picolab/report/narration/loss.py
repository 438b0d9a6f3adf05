"""The loss: how surprised the model was by each token that came, and which three surprised it most.

uniform    a model that knows nothing has ln V nats a token
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from picolab.report.narration.scene import Scene
from picolab.report.narration.step import Section, Source, Step, Table
from picolab.report.narration.wording import figure
from picolab.trace.statistics import statistics_of

WORST = 3
NEAR = 0.02
"""How near to ln V a loss is said to be that of knowing nothing."""


def losses_of(scene: Scene) -> Tensor | None:
    """Nats of every token but the first, from the recorded logits; None where there are none or nothing follows."""
    logits = scene.value("logits")
    if logits is None or scene.time < 2:
        return None
    return F.cross_entropy(logits[:-1], torch.tensor([word.id for word in scene.words[1:]]), reduction="none")


def loss(scene: Scene, losses: Tensor, source: Source | None = None) -> Section:
    """Nats a token, against knowing nothing; `losses[t]` is what the token after position t cost."""
    mean = float(losses.mean())
    order = torch.argsort(losses, descending=True).tolist()
    worst, best = order[:WORST], order[-1]
    rows = [
        (str(t), scene.words[t].piece, scene.words[t + 1].piece, f"{cost:.3f}")
        for t, cost in enumerate(losses.tolist())
    ]
    most = float(losses[worst[0]])
    says = (
        f"What surprised it most was {scene.word(worst[0] + 1)} after {scene.word(worst[0])}: {figure(most)} nats, a"
        f" probability of {figure(math.exp(-most))}."
    )
    if len(order) > 1:
        says += f" {scene.word(best + 1)} after {scene.word(best)} cost {figure(float(losses[best]))}."
    step = Step(
        title="Loss of every token",
        says=says,
        site="loss",
        formula="-ln p(what came)",
        shape=(1, len(losses)),
        dims="batch time",
        dtype=str(losses.dtype).removeprefix("torch."),
        statistics=statistics_of(losses),
        source=source,
        tables=(_table([rows[t] for t in worst], "worst", "normal"), _table(rows, "all", "full")),
    )
    return Section(kind="loss", title="Loss", says=_against_nothing(mean, scene.vocab_size), steps=(step,))


def _against_nothing(mean: float, vocab_size: int | None) -> str:
    """The mean, against ln V."""
    says = f"{figure(mean)} nats a token"
    if vocab_size is None:
        return says + "."
    uniform = math.log(vocab_size)
    nothing = f"ln {vocab_size:,} = {figure(uniform)}"
    if mean > (1 + NEAR) * uniform:
        return f"{says}, worse than knowing nothing ({nothing})."
    if mean > (1 - NEAR) * uniform:
        return f"{says}, as much as knowing nothing ({nothing})."
    return (
        f"{says}, where knowing nothing costs {figure(uniform)}: a choice among {figure(math.exp(mean))} words instead of"
        f" {vocab_size:,}."
    )


def _table(rows: list[tuple[str, str, str, str]], title: str, level: str) -> Table:
    return Table(
        title=title, columns=("at", "after", "came", "nats"), rows=tuple(rows), right=("at", "nats"), level=level
    )
