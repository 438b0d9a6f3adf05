"""What differs inside and is undone later? The same function computed otherwise, which is no fault and is worth a note.

attention_norm differs, q k v do not       the norm's weight is folded into the next matrices
q_rope k_rope differ, scores do not        queries and keys turned, scaled or ordered together
mixed differs, out does not                heads in another order, and the output projection with them
logits differ by one number a token        a constant, which softmax does not see
a NaN at a place, none after it            the array was written down wrongly
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from picolab.diagnose.describe import describe
from picolab.diagnose.walk import Key, difference, local
from picolab.trace.sites import layer_of

STAGES = (
    (("attention_norm",), ("attention.q", "attention.k", "attention.v"), "norms differ and what is made of them does not: a norm's"
     " weight is folded into the next matrices"),
    (("mlp_norm",), ("mlp.gate", "mlp.up", "mlp.act"), "norms differ and what is made of them does not: a norm's weight is folded"
     " into the next matrices"),
    (("attention.q", "attention.k", "attention.q_norm", "attention.k_norm", "attention.q_rope", "attention.k_rope"),
     ("attention.scores", "attention.probs"), "queries and keys differ and their products do not:"
     " turned, scaled or ordered together"),
    (("attention.v", "attention.scores", "attention.probs", "attention.mixed"), ("attention.out", "resid_mid"),
     "inside attention values differ and what it adds does not: undone by the output projection"),
    (("mlp.gate", "mlp.up", "mlp.act"), ("mlp.down", "resid_post"),
     "inside the feed-forward layer values differ and what it adds does not: undone by the contraction"),
)  # fmt: skip
"""Places that may differ, the places after them that do not, and what that means."""


def harmless(
    natural: Mapping[Key, Tensor], values: Mapping[Key, Tensor], differs: Callable[[Key], bool]
) -> tuple[str, ...]:
    """Notes on what differs although both compute the same; nothing where all places agree."""
    off = {key for key in values if key in natural and key.phase == "prefill" and differs(key)}
    broken = {key: n for key in off if (n := _not_finite(natural[key], values[key]))}
    off -= broken.keys()
    notes = [
        f"{key.site} holds {n} number{'s that are' if n > 1 else ' that is'} not finite, and all after it is right: the array was"
        " written down wrongly"
        for key, n in broken.items()
    ]
    settled: set[str] = set()
    for inside, after, says in STAGES:
        wrong = [key for key in off if local(key.site) in inside and local(key.site) not in settled]
        shown = {local(key.site) for key in values}
        good = [place for place in after if place in shown]
        if not wrong or not good or any(local(key.site) in good for key in off):
            continue
        settled |= set(inside)
        layers = sorted({layer for key in wrong if (layer := layer_of(key.site)) is not None})
        told = _how(natural, values, wrong)
        notes.append(f"{says}, in block {', '.join(map(str, layers))}{told}; no fault")
    return (*notes, *_gauge(natural, values))


def _not_finite(right: Tensor, value: Tensor) -> int:
    """How many numbers are not finite that should be."""
    return int((value.isfinite() < right.isfinite()).sum()) if value.shape == right.shape else 0


def _how(natural: Mapping[Key, Tensor], values: Mapping[Key, Tensor], wrong: list[Key]) -> str:
    """What was done to the most telling of these values, where it is something simple."""
    order = (
        "attention.mixed",
        "mlp.act",
        "attention.v",
        "attention.q_rope",
        "attention.q",
        "attention_norm",
        "mlp_norm",
    )
    key = min(wrong, key=lambda k: (order.index(local(k.site)) if local(k.site) in order else 99, k.site))
    found = describe(natural[key], values[key], key.site).recognised
    return f" ({key.site}: {found[0].says.partition(' (')[0]})" if found and found[0].explained > 0.999 else ""


def _gauge(natural: Mapping[Key, Tensor], values: Mapping[Key, Tensor]) -> tuple[str, ...]:
    """A constant on all logits of a token."""
    most = 0.0
    for key, value in values.items():
        if key.site == "logits" and key in natural:
            right = natural[key][:, natural[key].shape[1] - value.shape[1] :].double()
            gap = (value.double() - right).mean(-1)
            size = float(right.norm(dim=-1).square().mean().sqrt()) / right.shape[-1] ** 0.5
            if difference(right, value, key.site) > 1e-5 and float(gap.abs().max()) > 1e-4 * size:
                most = max(most, float(gap.abs().max()))
    return (
        (f"a constant, up to {most:.3g}, is added to all logits of a token: probabilities are the same; no fault",)
        if most
        else ()
    )
