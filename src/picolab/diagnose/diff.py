"""Two engines, one text: is it the same function, and if not, which line is wrong?

reference (a model here) and target (what any engine made of the same tokens)
-> the same tokens? -> which array is which place? (align.py) -> are the logits apart by more than rounding?
-> replay the reference on the target's inputs: where is error born? -> which cause makes it vanish? (rounds.py)
-> proof: the reference with all mistakes found gives the target's logits
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from picolab.diagnose.align import align
from picolab.diagnose.align_book import Places
from picolab.diagnose.anatomy import Anatomy
from picolab.diagnose.bundles import diff_bundles
from picolab.diagnose.causes.catalogue import CATALOGUE
from picolab.diagnose.causes.cause import Bend, Cause
from picolab.diagnose.exhibit import exhibit
from picolab.diagnose.noise import Floor
from picolab.diagnose.rounding import dtype_noise, worst
from picolab.diagnose.rounds import faults_of
from picolab.diagnose.target import dtype_of, recording_of_module
from picolab.diagnose.tokens import incomparable
from picolab.diagnose.undone import harmless
from picolab.diagnose.verdict import UNKNOWN, Pair, Verdict
from picolab.diagnose.walk import Key, Schedule, difference, schedule_of, walk
from picolab.errors import BadInput
from picolab.models.contract import LanguageModel
from picolab.text.tokenizer import Tokenizer
from picolab.trace.elsewhere import record_engine
from picolab.trace.engines.here import Here
from picolab.trace.recording import Recording
from picolab.trace.sites import layer_of


def diff(
    reference: LanguageModel | Recording,
    target: Recording | nn.Module,
    *,
    tokens: Sequence[int] = (),
    prefill: int | None = None,
    causes: Sequence[Cause] = CATALOGUE,
    words: Tokenizer | None = None,
    show: bool = False,
) -> Verdict:
    """Where the target departs from the reference, and why.

    `target` is a recording of any engine, whose tokens and phases are then those of the comparison (`tokens`, where given, are
    those it should have read), or a model, which reads `tokens`: the first `prefill` at once (all but the last three, if not
    said), the rest one by one. A model that is none of the zoo's shows its logits alone. `words` spells tokens that differ.
    A reference that is a recording cannot be replayed: where the two part is told, and causes are leads only (bundles.py).
    With `show` the verdict has what a report shows: errors by place and position, pieces of the values (exhibit.py).
    """
    started = time.monotonic()
    if isinstance(reference, Recording):
        return diff_bundles(reference, _recorded(target, reference), words=words, show=show)
    if not isinstance(target, Recording | LanguageModel):
        target = recording_of_module(target, tokens, prefill)
    with torch.no_grad(), _reading(reference), _reading(target):
        told = _diff(reference, target, tuple(tokens), prefill, causes, words, show)
    return replace(told, seconds=time.monotonic() - started)


def _recorded(target: Recording | nn.Module, reference: Recording) -> Recording:
    """A target on the tokens of a recording, in its passes."""
    if isinstance(target, Recording):
        return target
    schedule = schedule_of(reference)
    if isinstance(target, LanguageModel):
        with _reading(target):
            return record_engine(Here(target), schedule.tokens, prefill=schedule.prefill)
    return recording_of_module(target, schedule.tokens, schedule.prefill)


def _diff(
    reference: LanguageModel,
    target: Recording | LanguageModel,
    tokens: tuple[int, ...],
    prefill: int | None,
    causes: Sequence[Cause],
    words: Tokenizer | None,
    show: bool,
) -> Verdict:
    anatomy = Anatomy(reference)
    if isinstance(target, Recording):
        schedule, (dtype, notes) = schedule_of(target), dtype_of(target)
        other = incomparable(tokens, schedule.tokens, words) if tokens else None
        if other is not None:
            return other
        _check(reference, schedule)
        natural = walk(anatomy, schedule)
        aligned = align(target, Places.of(anatomy, schedule), schedule, natural)
        values, pairs, notes = aligned.values, aligned.pairs, (*notes, *aligned.notes)
        unlike = _unlike(target, pairs, anatomy, values)
    else:
        schedule, dtype = Schedule(tokens, prefill or max(len(tokens) - 3, 1)), target.head.weight.dtype
        pairs, notes, unlike = (), (), _unlike_models(reference, target)
        if unlike is None:
            _check(reference, schedule)
            natural, values = walk(anatomy, schedule), _target_walk(target, schedule)
    if unlike is not None:
        return _refused(unlike, pairs, notes)
    floor = Floor(anatomy, schedule, coarser(reference.head.weight.dtype, dtype))
    return _compared(anatomy, schedule, natural, values, floor, causes, pairs, notes, show)


def _compared(
    anatomy: Anatomy,
    schedule: Schedule,
    natural: Mapping[Key, Tensor],
    values: Mapping[Key, Tensor],
    floor: Floor,
    causes: Sequence[Cause],
    pairs: tuple[Pair, ...],
    notes: tuple[str, ...],
    show: bool,
) -> Verdict:
    """The verdict on values that stand at the reference's places."""
    before = apart(natural, values)
    found: tuple[Bend, ...] = ()

    def differs(key: Key) -> bool:
        return difference(natural[key], values[key], key.site) > max(floor.allows(key.site), floor.allows_at_the_end)

    first = next((key for key in natural if key in values and differs(key)), None)
    same = before == 0 or (math.isnan(before) and worst(values, natural) == 0)
    told = Verdict(
        verdict="equal" if same else "noise",
        says="",
        noise_floor=floor.allows_at_the_end,
        before=before,
        remaining=before,
        first_divergence=first.site if first else None,
        pairs=pairs,
        notes=notes
        if not math.isnan(before)
        else (*notes, "no logits are shown: only the places that are were compared"),
        curve=_curve(natural, values),
    )
    if before <= floor.allows_at_the_end or (math.isnan(before) and first is None):
        told = replace(told, notes=(*told.notes, *harmless(natural, values, differs)))
    elif (rounded := dtype_noise(anatomy, schedule, values, natural, floor)) is not None:
        born, coarse = rounded
        told = replace(told, verdict="diverged", born=(born,), noise_floor=coarse.allows_at_the_end)
    else:
        faults, found = faults_of(anatomy, schedule, values, natural, floor, causes)
        remaining = apart(walk(anatomy, schedule, faults=found), values) if found else before
        told = replace(told, verdict="diverged", born=faults, remaining=remaining)
    if show:
        told = replace(told, exhibit=exhibit(anatomy, schedule, natural, values, floor, told.born, found))
    return replace(told, says=summary(told))


def apart(values: Mapping[Key, Tensor], others: Mapping[Key, Tensor]) -> float:
    """How far the logits of two walks are apart, in the worst pass; a constant added to all logits of a token is nothing."""
    gaps = []
    for key in values:
        if key.site == "logits" and key in others:
            a, b = (v[key].double() for v in (values, others))
            gaps.append(difference(a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True), key.site))
    return max(gaps, default=math.nan)


def coarser(a: torch.dtype, b: torch.dtype) -> torch.dtype:
    """Of two types the one that rounds more."""
    known = [dtype for dtype in (a, b) if dtype.is_floating_point]
    return max(known, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)


def summary(verdict: Verdict) -> str:
    """The verdict as one sentence."""
    shown = not math.isnan(verdict.before)
    if verdict.verdict == "equal":
        return "both compute the same logits, bit for bit" if shown else "what both show is the same, bit for bit"
    if verdict.verdict == "noise":
        what = f"logits differ by {verdict.before:.1e}" if shown else "what both show differs by no more than rounding"
        return f"both compute the same function: {what}, rounding explains {verdict.noise_floor:.1e}"
    named = ", ".join(
        " or ".join(f"`{name}`" for name in born.causes or (UNKNOWN,)) + f" at {born.site}" for born in verdict.born
    )
    what = f"logits differ by {verdict.before:.2g}" if shown else "no logits are shown"
    proof = f"; the reference with the mistakes found differs by {verdict.remaining:.1e}" if shown else ""
    return f"{what}: {named or 'nothing is born at a place both show'}{proof}"


def _curve(natural: Mapping[Key, Tensor], values: Mapping[Key, Tensor]) -> dict[str, tuple[float, float]]:
    """How far the prefill is apart at every place."""
    return {
        key.site: (difference(natural[key], values[key], key.site), 0.0)
        for key in natural
        if key in values and key.phase == "prefill"
    }


def _check(reference: LanguageModel, schedule: Schedule) -> None:
    limit = reference.config.context_length
    if len(schedule.tokens) > limit:
        raise BadInput(f"{len(schedule.tokens)} tokens are more than the reference's context of {limit}")
    beyond = [token for token in schedule.tokens if not 0 <= token < reference.config.vocab_size]
    if beyond:
        raise BadInput(f"token {beyond[0]} is not in the reference's vocabulary of {reference.config.vocab_size}")


def _unlike(target: Recording, pairs: Sequence[Pair], anatomy: Anatomy, values: Mapping[Key, Tensor]) -> str | None:
    """Why a recording is of no model like the reference, if it is not."""
    ours = _depth(anatomy.sites)
    theirs = _depth([pair.name for pair in pairs if pair.matcher in ("site", "unpaired")])
    if theirs > ours:
        return f"the target has at least {theirs} blocks and the reference {ours}"
    logits = next((pair for pair in pairs if pair.name == "logits" and pair.site is None), None)
    if logits is not None:
        shape = tuple(target["logits"].shape)
        return f"the target's logits have shape {shape} and the reference's vocabulary {anatomy.model.config.vocab_size} words"
    if not values:
        return f"none of the target's {len(pairs)} arrays could be paired with a place of the reference"
    return None


def _unlike_models(reference: LanguageModel, target: LanguageModel) -> str | None:
    for what, name in (("words", "vocab_size"), ("blocks", "n_layers")):
        ours, theirs = (getattr(model.config, name, None) for model in (reference, target))
        if ours != theirs:
            return f"the target has {theirs} {what} and the reference {ours}"
    return None


def _depth(sites: Sequence[str]) -> int:
    return 1 + max((layer for site in sites if (layer := layer_of(site)) is not None), default=-1)


def _refused(why: str, pairs: tuple[Pair, ...], notes: tuple[str, ...]) -> Verdict:
    return Verdict(
        verdict="incomparable",
        says=f"these are not two engines of one model: {why}",
        noise_floor=0.0,
        before=math.nan,
        remaining=math.nan,
        pairs=pairs,
        notes=notes,
    )


def _target_walk(target: LanguageModel, schedule: Schedule) -> dict[Key, Tensor]:
    """Every value of a model here; whatever a person's changes to it make it raise is told in a sentence."""
    try:
        return walk(Anatomy(target), schedule)
    except BadInput:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise BadInput(f"the target fails on {len(schedule.tokens)} tokens: {type(error).__name__}: {said}") from error


@contextmanager
def _reading(model: Any) -> Iterator[None]:
    """A module in evaluation mode while it is compared; nothing that is switched on for training alone may change it."""
    modes = [(module, module.training) for module in model.modules()] if isinstance(model, nn.Module) else []
    try:
        if isinstance(model, nn.Module):
            model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
