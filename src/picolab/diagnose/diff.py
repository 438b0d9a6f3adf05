"""Two engines, one text: is it the same function, and if not, which line is wrong?

reference (a model here) and target (what any engine made of the same tokens)
-> are the logits apart by more than rounding? -> replay the reference on the target's inputs: where is error born?
-> which cause makes it vanish? -> let the reference make that mistake too, and look again: bugs stack
-> proof: the reference with all mistakes found gives the target's logits
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.birth import Stretch, births
from picolab.diagnose.causes.catalogue import CATALOGUE
from picolab.diagnose.causes.cause import Bend, Cause
from picolab.diagnose.noise import Floor
from picolab.diagnose.search import Evidence, Explanation, covered, explain
from picolab.diagnose.verdict import UNKNOWN, Born, Told, Verdict
from picolab.diagnose.walk import Key, Schedule, difference, local, schedule_of, values_of, walk
from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.trace.recording import Recording

MOST_FAULTS = 8
"""Rounds of search; a target with more faults than this is not a port but another model."""


def diff(
    reference: LanguageModel,
    target: Recording | LanguageModel,
    *,
    tokens: Sequence[int] = (),
    prefill: int | None = None,
    causes: Sequence[Cause] = CATALOGUE,
) -> Verdict:
    """Where the target departs from the reference, and why.

    `target` is a recording of any engine, whose tokens and phases are then those of the comparison, or a model here, which reads
    `tokens`: the first `prefill` at once (all but the last three, if not said), the rest one by one.
    """
    started = time.monotonic()
    anatomy = Anatomy(reference)
    if isinstance(target, Recording):
        schedule, values, dtype = schedule_of(target), values_of(target), getattr(torch, target.dtype, torch.float32)
    else:
        schedule = Schedule(tuple(tokens), prefill or max(len(tokens) - 3, 1))
        values, dtype = walk(Anatomy(target), schedule), target.head.weight.dtype
    _check(reference, schedule, values)
    floor = Floor(anatomy, schedule, coarser(reference.head.weight.dtype, dtype))
    natural = walk(anatomy, schedule)
    before = apart(natural, values)
    first = next((key for key in natural if key in values and _differs(natural, values, key, floor)), None)
    told = Verdict(
        verdict="equal" if before == 0 else "noise",
        says="",
        noise_floor=floor.allows_at_the_end,
        before=before,
        remaining=before,
        first_divergence=first.site if first else None,
    )
    born: tuple[Born, ...] = ()
    found: tuple[Bend, ...] = ()
    if not before <= floor.allows_at_the_end or (math.isnan(before) and first):
        born, found = _search(anatomy, schedule, values, natural, floor, causes)
        remaining = apart(walk(anatomy, schedule, faults=found), values) if found else before
        told = replace(told, verdict="diverged", born=born, remaining=remaining)
    told = replace(told, curve=_curve(natural, values), seconds=time.monotonic() - started)
    return replace(told, says=summary(told))


def _search(
    anatomy: Anatomy,
    schedule: Schedule,
    values: Mapping[Key, Tensor],
    natural: Mapping[Key, Tensor],
    floor: Floor,
    causes: Sequence[Cause],
) -> tuple[tuple[Born, ...], tuple[Bend, ...]]:
    """Fault after fault, in the order of computation; what nothing explains is left where it is, and the search goes on."""
    born: list[Born] = []
    found: tuple[Bend, ...] = ()
    given_up: set[str] = set()
    for _ in range(MOST_FAULTS):
        stretches = [
            s for s in births(anatomy, schedule, values, natural, floor, faults=found) if s.until not in given_up
        ]
        if not stretches:
            break
        evidence = Evidence(anatomy, schedule, values, natural, floor, found)
        told = explain(evidence, stretches, causes)
        if told and told[0].certain:
            found = (*found, told[0].bend)
            same = covered(told[0], stretches)
        else:
            same = [s for s in stretches if local(s.until) == local(stretches[0].until)]
            given_up |= {s.until for s in same}
        born.append(_born(stretches[0], same, told, causes))
    return tuple(born), found


def _born(first: Stretch, same: Sequence[Stretch], told: Sequence[Explanation], causes: Sequence[Cause]) -> Born:
    certain = [e for e in told if e.certain]
    leads = [e for e in told if not e.certain and e.explained > 0.5]
    explanations = [_told(e, causes) for e in (*certain, *leads)]
    if not certain:
        explanations.insert(0, Told(cause=UNKNOWN, says="no cause of the catalogue explains it", explained=0.0,
                                    residual=first.added, certain=False))  # fmt: skip
    return Born(
        site=first.until,
        lines=first.lines,
        phase=first.phase,
        step=first.step,
        inherited=first.inherited,
        added=first.added,
        explanations=tuple(explanations),
        also=tuple(dict.fromkeys(s.until for s in same if s.until != first.until)),
    )


def _told(explanation: Explanation, causes: Sequence[Cause]) -> Told:
    bend = explanation.bend
    look_for = next((cause.look_for for cause in causes if cause.name == bend.cause), "")
    return Told(
        cause=bend.cause,
        says=bend.says() + _where(bend),
        explained=explanation.explained,
        residual=explanation.residual,
        certain=explanation.certain,
        evidence=bend.evidence,
        look_for=look_for,
    )


def apart(values: Mapping[Key, Tensor], others: Mapping[Key, Tensor]) -> float:
    """How far the logits of two walks are apart, in the worst pass; a constant added to all logits of a token is nothing."""
    gaps = []
    for key in values:
        if key.site == "logits" and key in others:
            a, b = (v[key].double() for v in (values, others))
            gaps.append(difference(a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True), key.site))
    return max(gaps, default=math.nan)


def _where(bend: Bend) -> str:
    """In which blocks and phases, where it is not in all."""
    blocks = "" if bend.layers is None else ", in block " + ", ".join(str(layer) for layer in sorted(bend.layers))
    return blocks + ("" if bend.phases is None else ", in " + " and ".join(sorted(bend.phases)) + " only")


def coarser(a: torch.dtype, b: torch.dtype) -> torch.dtype:
    """Of two types the one that rounds more."""
    known = [dtype for dtype in (a, b) if dtype.is_floating_point]
    return max(known, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)


def summary(verdict: Verdict) -> str:
    """The verdict as one sentence."""
    if verdict.verdict == "equal":
        return "both compute the same logits, bit for bit"
    if verdict.verdict == "noise":
        return f"both compute the same function: logits differ by {verdict.before:.1e}, rounding explains {verdict.noise_floor:.1e}"
    causes = [born.cause for born in verdict.born]
    named = ", ".join(f"`{cause}` at {born.site}" for cause, born in zip(causes, verdict.born, strict=True))
    return (
        f"logits differ by {verdict.before:.2g}: {named or 'nothing is born at a place both show'}; "
        f"the reference with the mistakes found differs by {verdict.remaining:.1e}"
    )


def _curve(natural: Mapping[Key, Tensor], values: Mapping[Key, Tensor]) -> dict[str, tuple[float, float]]:
    """How far the prefill is apart at every place."""
    return {
        key.site: (difference(natural[key], values[key], key.site), 0.0)
        for key in natural
        if key in values and key.phase == "prefill"
    }


def _differs(natural: Mapping[Key, Tensor], values: Mapping[Key, Tensor], key: Key, floor: Floor) -> bool:
    return difference(natural[key], values[key], key.site) > max(floor.allows(key.site), floor.allows_at_the_end)


def _check(reference: LanguageModel, schedule: Schedule, values: Mapping[Key, Tensor]) -> None:
    limit = reference.config.context_length
    if len(schedule.tokens) > limit:
        raise BadInput(f"{len(schedule.tokens)} tokens are more than the reference's context of {limit}")
    beyond = [token for token in schedule.tokens if not 0 <= token < reference.config.vocab_size]
    if beyond:
        raise BadInput(f"token {beyond[0]} is not in the reference's vocabulary of {reference.config.vocab_size}")
    if not values:
        raise BadInput("the target shows no value of a prefill or a decode step")
