"""Two bundles and no model: no line can be replayed, so where is it only that they part, and what can be told from the numbers?

    embed ok   q ok   q_rope 0.8   scores 0.9 ..      first divergence q_rope, between q and q_rope
    resid_mid = resid_post + out                      a line without weights can be checked in each bundle by itself: a sum that
                                                      holds in the reference and not in the target is wrong there

What is recognised in the numbers (an order, a scale, one vector added) is a lead. Nothing here is ever certain.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from picolab.diagnose.align import align
from picolab.diagnose.align_book import Places
from picolab.diagnose.causes.lines import make_mixed
from picolab.diagnose.describe import describe
from picolab.diagnose.exhibit import exhibit_of_values
from picolab.diagnose.noise import ALLOWED
from picolab.diagnose.target import dtype_of
from picolab.diagnose.tokens import incomparable
from picolab.diagnose.verdict import UNKNOWN, Born, Told, Verdict
from picolab.diagnose.walk import Key, difference, local, schedule_of
from picolab.text.tokenizer import Tokenizer
from picolab.trace.recording import DECODE, PREFILL, Recording
from picolab.trace.sites import SITES, dims_of, layer_of

PLACES = {name.rpartition("{i}.")[2]: number for number, name in enumerate(SITES)}
"""Canonical places in the order of computation."""


def diff_bundles(
    reference: Recording, target: Recording, *, words: Tokenizer | None = None, show: bool = False
) -> Verdict:
    """Where two recordings of the same tokens part, and what the numbers look like there; `show` as in `diff`."""
    started = time.monotonic()
    schedule, other = schedule_of(reference), schedule_of(target)
    unlike = incomparable(schedule.tokens, other.tokens, words)
    if unlike is not None:
        return unlike
    (ours, notes), (theirs, more) = dtype_of(reference), dtype_of(target)
    natural = _values(reference)
    aligned = align(target, _places(natural), schedule, natural)
    order = sorted((key for key in aligned.values if key in natural), key=_when)
    dtype = max((ours, theirs), key=lambda dtype: torch.finfo(dtype).eps)
    gaps = {key: difference(natural[key], aligned.values[key], key.site) for key in order}
    floor = {key: allowed(key.site, dtype) for key in order}
    wrong = [key for key in order if not gaps[key] <= floor[key]]
    logits = [gaps[key] for key in order if key.site == "logits"]
    before = max(logits, default=math.nan)
    born = tuple(_born(natural, aligned.values, order, wrong, gaps, floor)) if wrong else ()
    said = (
        *dict.fromkeys((*notes, *more, *aligned.notes)),
        "the reference is a bundle: no line of it can be replayed, so where they part is told, and causes are leads",
    )
    if not order:
        verdict, says = (
            "incomparable",
            f"none of the target's {len(aligned.pairs)} arrays is shown by the reference as well",
        )
    elif wrong:
        verdict, says = "diverged", _parting(wrong[0], order, gaps)
    elif all(gap == 0 for gap in gaps.values()):
        verdict, says = "equal", f"all {len(order)} values that both show are the same, bit for bit"
    else:
        verdict, says = (
            "noise",
            f"all {len(order)} values that both show agree; the worst is {max(gaps.values()):.1e} apart",
        )
    return Verdict(
        verdict=verdict,  # type: ignore[arg-type]
        says=says,
        noise_floor=max(floor.values(), default=0.0),
        before=before,
        remaining=before,
        first_divergence=wrong[0].site if wrong else None,
        born=born,
        notes=said,
        pairs=aligned.pairs,
        curve={key.site: (gaps[key], 0.0) for key in order if key.phase == PREFILL},
        seconds=time.monotonic() - started,
        exhibit=exhibit_of_values(schedule, {key: natural[key] for key in order}, aligned.values, floor)
        if show
        else None,
    )


def allowed(site: str, dtype: torch.dtype) -> float:
    """How far two correct engines may be apart at a place: rounding grows with the depth, as the root of the lines before it."""
    layer = layer_of(site)
    lines = 1 + PLACES.get(local(site), len(PLACES)) + len(PLACES) * (0 if layer is None else layer)
    return ALLOWED * float(torch.finfo(dtype).eps) * math.sqrt(lines)


def _values(recording: Recording) -> dict[Key, Tensor]:
    """What a recording shows, one text, by place; its own names are places too."""
    texts = int(recording.tokens.shape[0])
    values: dict[Key, Tensor] = {}
    for entry in recording.entries:
        if entry.phase in (PREFILL, DECODE):
            value = entry.value[:1] if texts > 1 and entry.value.shape[0] == texts else entry.value
            dims = (dims_of(entry.site) or "").split()
            if dims and value.ndim == len(dims) - 1 and "batch" not in (entry.dims or ""):
                value = value[None]
            values.setdefault(Key(entry.phase, entry.step, entry.site), value)
    return values


def _places(natural: Mapping[Key, Tensor]) -> Places:
    """Sites of the reference's bundle, and how wide its heads are, where it shows any."""
    sites = sorted({key.site for key in natural}, key=lambda site: _when(Key(PREFILL, 0, site)))
    shapes = {local(key.site): value.shape for key, value in natural.items()}
    queries = next(
        (shapes[place] for place in ("attention.q", "attention.q_norm", "attention.q_rope") if place in shapes), None
    )
    keys = next(
        (shapes[place] for place in ("attention.k", "attention.v", "attention.k_rope") if place in shapes), queries
    )
    heads, width = (queries[2], queries[3]) if queries is not None and len(queries) == 4 else (1, 1)
    return Places(
        sites=tuple(sites),
        embeds_plainly=True,
        n_heads=int(heads),
        n_kv_heads=int(keys[2]) if keys is not None and len(keys) == 4 else int(heads),
        head_dim=int(width),
        replay=lambda given: natural,
    )


def _when(key: Key) -> tuple[int, int, int, int]:
    """The order of computation: passes, blocks, places."""
    layer, place = layer_of(key.site), local(key.site)
    after = place in ("final_norm", "logits", "loss")
    number = -1 if layer is None and not after else 10**6 if layer is None else layer
    return (0 if key.phase == PREFILL else 1, key.step, number, PLACES.get(place, len(PLACES)))


def _parting(first: Key, order: Sequence[Key], gaps: Mapping[Key, float]) -> str:
    before = _last_good(first, order, gaps)
    what = f"they part at {first.site} ({first.phase} {first.step}), {gaps[first]:.2g} apart"
    return what + (
        f"; {before.site} before it agrees" if before is not None else "; nothing before it is shown by both"
    )


def _last_good(first: Key, order: Sequence[Key], gaps: Mapping[Key, float]) -> Key | None:
    """The last place before the divergence that agrees, in the same pass."""
    before = [key for key in order[: order.index(first)] if (key.phase, key.step) == (first.phase, first.step)]
    return before[-1] if before else None


def _born(
    natural: Mapping[Key, Tensor],
    values: Mapping[Key, Tensor],
    order: Sequence[Key],
    wrong: Sequence[Key],
    gaps: Mapping[Key, float],
    floor: Mapping[Key, float],
) -> Iterator[Born]:
    """The first divergence with its bracket, and every line without weights that holds in the reference alone."""
    broken = {
        key: off
        for key in order
        if (off := _own(values, key)) is not None
        and off > floor[key]
        and ((right := _own(natural, key)) is None or right <= floor[key])
    }
    first = wrong[0]
    before = _last_good(first, order, gaps)
    for key in dict.fromkeys((first, *_one_a_place(broken))):
        description = describe(natural[key], values[key], key.site)
        bracket = (key.site,) if key in broken or before is None else (f"{before.site} -> {key.site}",)
        why = " its own line does not hold in the target:" if key in broken else ""
        told = [Told(cause=UNKNOWN, says=f"no line can be replayed:{why} {description.says}", explained=0.0,
                     residual=gaps[key], certain=False, evidence=description.evidence)]  # fmt: skip
        told += [Told(cause=UNKNOWN, says=f"looks like {one.says}", explained=one.explained, residual=one.residual, certain=False,
                      evidence={"recognised": one.name}) for one in description.recognised[:2]]  # fmt: skip
        also = [other.site for other in broken if other != key and local(other.site) == local(key.site)]
        yield Born(
            site=key.site,
            lines=bracket,
            phase=key.phase,
            step=key.step,
            inherited=0.0 if key == first else gaps[key],
            added=broken.get(key, gaps[key]),
            explanations=tuple(told),
            also=tuple(dict.fromkeys(also)),
        )


def _one_a_place(broken: Mapping[Key, float]) -> list[Key]:
    """Of every kind of line the first that is broken."""
    first: dict[str, Key] = {}
    for key in broken:
        first.setdefault(local(key.site), key)
    return list(first.values())


def _own(values: Mapping[Key, Tensor], key: Key) -> float | None:
    """How far a value is from what a line without weights makes of its inputs, where these are shown: sums, and probs x v."""
    layer, place = layer_of(key.site), local(key.site)
    if layer is None:
        return None

    def get(site: str) -> Tensor | None:
        return values.get(Key(key.phase, key.step, site))

    here = f"blocks.{layer}."
    if place == "resid_mid":
        parts = [get(f"blocks.{layer - 1}.resid_post" if layer else "embed"), get(f"{here}attention.out")]
    elif place == "resid_post":
        parts = [get(f"{here}resid_mid"), get(f"{here}mlp.down")]
    elif place == "attention.mixed" and key.phase == PREFILL:
        probs, v = get(f"{here}attention.probs"), get(f"{here}attention.v")
        if probs is None or v is None or probs.shape[-1] != v.shape[1] or probs.shape[1] % v.shape[2]:
            return None
        return difference(make_mixed(probs.double(), v.double()), values[key], key.site)
    else:
        return None
    first, second = parts
    if first is None or second is None or first.shape != second.shape:
        return None
    return difference(first.double() + second.double(), values[key], key.site)
