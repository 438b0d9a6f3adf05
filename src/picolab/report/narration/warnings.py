"""What must be known before the first number: is this model trained at all, and does anything in it still stand at zero?

untrained    every prediction is near uniform (entropy within 2 % of ln V), or the loss is within 2 % of ln V
zeros        a matrix whose numbers are all 0: whatever it writes is nothing
"""

from __future__ import annotations

import math

from picolab.models.contract import LanguageModel
from picolab.report.narration.scene import Scene
from picolab.report.narration.wording import figure, plural

NEAR = 0.02


def warnings(scene: Scene, mean_loss: float | None) -> list[str]:
    """Sentences that come first."""
    found = []
    zeros = [] if scene.model is None else zero_matrices(scene.model)
    if zeros:
        found.append(
            f"{plural(len(zeros), 'matrix', 'matrices')} of the model hold nothing but zeros, as where projections start at zero"
            f" (`{zeros[0]}`): what they write is nothing."
        )
    if scene.vocab_size is None:
        return found
    uniform = math.log(scene.vocab_size)
    logits = scene.value("logits")
    if logits is not None:
        log_probs = logits.log_softmax(-1)
        entropy = float(-(log_probs.exp() * log_probs).sum(-1).mean())
        if entropy > (1 - NEAR) * uniform:
            found.append(
                f"The model looks untrained: its predictions are nearly uniform (entropy {figure(entropy)} of at most"
                f" {figure(uniform)})."
            )
            return found
    if mean_loss is not None and abs(mean_loss - uniform) < NEAR * uniform:
        found.append(
            f"The model looks untrained: its loss of {figure(mean_loss)} is that of knowing nothing"
            f" (ln {scene.vocab_size:,} = {figure(uniform)})."
        )
    return found


def zero_matrices(model: LanguageModel) -> list[str]:
    """Names of the matrices without a number in them."""
    return [name for name, p in model.named_parameters() if p.ndim >= 2 and p.numel() and not bool(p.any())]
