"""Which faults can laws see, without a reference? Those that break what holds of every language model.

    seen        NaN; a later token that is read; rows that do not sum to 1; a cache that changes the answer; order that is lost
    hidden      another angle, another function, another matrix: what comes out is a proper language model, only not this one

What is said here is mathematics, not what the laws at hand happen to find: the self-test and the benchmark count with it.
"""

from __future__ import annotations

from picolab.diagnose.causes.cause import Bend

ANOTHER_MODEL = (
    "the function with this fault is a proper language model: causal, the same with a cache, aware of order; only a reference "
    "knows that it is not the one that was meant"
)

SEEN = {
    "nonfinite": "numbers that are none",
    "mask-missing": "later tokens are read",
    "mask-inverted": "later tokens are read",
    "softmax-axis": "rows do not sum to 1",
    "softmax-missing": "rows do not sum to 1",
    "cache-offset": "decode and prefill differ",
    "cache-stale": "decode and prefill differ",
    "cache-unwritten": "decode and prefill differ",
    "cache-layer": "decode and prefill differ",
    "cache-layout": "decode and prefill differ",
    "rope-missing": "order is lost",
    "position-missing": "order is lost",
}
"""Causes that break a law, and which."""


def why_hidden(bend: Bend) -> str:
    """Why no law can see this fault; empty where one can."""
    if bend.phases is not None and len(bend.phases) == 1:
        return ""  # wrong in one phase alone: prefill and decode differ
    return "" if bend.cause in SEEN else ANOTHER_MODEL
