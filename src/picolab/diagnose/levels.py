"""How closely is a computation looked at? Three levels, from the stream alone to every place that has a name."""

from __future__ import annotations

from picolab.trace.sites import layer_of

Level = frozenset[str] | None

COARSE = frozenset({"embed", "resid_mid", "resid_post", "final_norm", "logits"})
MIDDLE = COARSE | {"attention.probs", "attention.mixed", "attention.out", "mlp.act", "mlp.down", "state", "act"}
LEVELS: tuple[Level, ...] = (COARSE, MIDDLE, None)
"""Which places are compared; None: all."""


def shows(level: Level, site: str) -> bool:
    """Whether a place is looked at."""
    return level is None or (site if layer_of(site) is None else site.split(".", 2)[2]) in level
