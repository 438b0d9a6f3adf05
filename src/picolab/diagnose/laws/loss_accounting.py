"""The same tokens cost the same, however they are cut up: `loss-accounting` (I17).

loss(rows 1..4)      =  mean of loss(row 1) .. loss(row 4)       and the gradients
loss                 =  - mean log p(next token), from its own logits
a step in 1 piece    =  in 2, in 4 pieces                        rows padded unequally: a plain mean of means is wrong
the head at once     =  the head in chunks                       documents packed in a row  =  each alone
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.parts import cross_entropy

VALUE, GRADIENT = 2e-3, 5e-3
"""Relative: other kernels sum in another order; a wrong denominator is off in the first digits."""

ROWS, TIME, CHUNK = 4, 17, 3


SHIFTS = {0: ", labels are not shifted", 2: ", labels are shifted twice", 3: "", -1: ""}


class LossAccounting(Law):
    name = "loss-accounting"
    id = "I17"
    says = "loss and gradient are the same however a batch is cut up"
    hint = "the denominator: per piece instead of over all scored tokens, not divided by the pieces, padding counted"
    order = 43

    def check(self, patient: Patient) -> Finding:
        if patient.loss is None and patient.accumulate is None:
            return self.skips("the model offers no `loss(tokens)` and no `accumulate(tokens, pieces)`")
        tokens = patient.random(ROWS, TIME, salt=31)
        if tokens.shape[1] < 4:
            return self.skips("the model reads too few tokens")
        seen: Seen = {}
        for check in (_against_logits, _by_rows, _in_pieces, _chunked, _packed):
            wrong = check(patient, tokens, seen)
            if wrong:
                return self.fails(wrong, **seen)
        return self.passes(
            f"the same {', '.join(name for name in seen)}: at most {max(seen.values()):.1g} apart", **seen
        )


Seen = dict[str, Any]
"""What was compared, and how far apart it is."""


def _against_logits(patient: Patient, tokens: Tensor, seen: Seen) -> str:
    """The loss it says against the one its own logits have; a known mistake is named."""
    if patient.loss is None:
        return ""
    tokens = _telling(patient, tokens)
    with torch.no_grad():
        said, again = float(patient.loss(tokens)), float(patient.loss(tokens))
    if not math.isclose(said, again, rel_tol=1e-5):
        return f"the loss of the same tokens is {said:.4f} and then {again:.4f}: is dropout on?"
    logits = patient.logits(tokens)
    meant = _mean_at(logits, tokens, 1)
    seen["as the logits"] = abs(said - meant) / max(meant, 1e-9)
    if seen["as the logits"] <= VALUE:
        return ""
    count = tokens.shape[0] * (tokens.shape[1] - 1)
    known = {f"that of the token at {k:+d}{words}": _mean_at(logits, tokens, k) for k, words in SHIFTS.items()} | {
        f"the sum over {count} tokens, not their mean": meant * count,
        f"the sum over {tokens.shape[1] - 1} tokens of a row, not their mean": meant * (tokens.shape[1] - 1),
        f"divided by {tokens.shape[1]} tokens a row, of which {tokens.shape[1] - 1} are scored": meant
        * (tokens.shape[1] - 1) / tokens.shape[1],
        "in bits, not nats": meant / math.log(2),
        "in powers of ten, not nats": meant / math.log(10),
        "its negative": -meant,
    }  # fmt: skip
    named = next((f": it is {name}" for name, value in known.items() if math.isclose(said, value, rel_tol=VALUE)), "")
    return f"the loss is {said:.4f}, and its own logits give the next tokens {meant:.4f} nats{named}"


def _telling(patient: Patient, tokens: Tensor) -> Tensor:
    """Rows in which every second token is the most likely one: so the loss of another offset is another."""
    tokens = tokens.clone()
    for place in range(1, tokens.shape[1], 2):
        tokens[:, place] = patient.logits(tokens[:, :place])[:, -1].argmax(-1)
    return tokens


def _mean_at(logits: Tensor, tokens: Tensor, k: int) -> float:
    """Mean nats of the token k further, over all positions that have one."""
    at = torch.arange(max(0, -k), tokens.shape[1] - max(0, k))
    return float(F.cross_entropy(logits[:, at].flatten(0, 1), tokens[:, at + k].flatten()))


def _by_rows(patient: Patient, tokens: Tensor, seen: Seen) -> str:
    loss = patient.loss
    if loss is None:
        return ""
    whole, slope = _with_gradient(patient, lambda: loss(tokens))
    parts, slopes = _with_gradient(patient, lambda: torch.stack([loss(row[None]) for row in tokens]).mean())
    seen["row by row"] = abs(whole - parts) / max(abs(whole), 1e-9)
    if seen["row by row"] > VALUE:
        return f"the loss of {ROWS} rows is {whole:.4f}, and the mean of each row's {parts:.4f}{_ratio(whole, parts)}"
    return _compare(slope, slopes, "row by row", f"{ROWS} rows at once and one after the other", seen)


def _in_pieces(patient: Patient, tokens: Tensor, seen: Seen) -> str:
    accumulate, module = patient.accumulate, patient.module
    if accumulate is None or module is None:
        return ""
    slopes = {}
    for pieces in (1, 2, 4):
        module.zero_grad(set_to_none=True)
        accumulate(tokens.clone(), pieces)
        slopes[pieces] = _flat([p.grad for p in module.parameters()], list(module.parameters()))
        module.zero_grad(set_to_none=True)
    if not float(slopes[1].norm()):
        return "a step leaves no gradient in the model"
    for pieces in (2, 4):
        wrong = _compare(slopes[1], slopes[pieces], "in pieces", f"one piece and {pieces} pieces", seen)
        if wrong:
            return wrong
    return ""


def _chunked(patient: Patient, tokens: Tensor, seen: Seen) -> str:
    """The head a few tokens at a time against all logits at once."""
    model = patient.model
    if model is None or patient.loss is None:
        return ""
    tokens = tokens.to(model.device)

    def in_chunks() -> Tensor:
        with _chunks_of(CHUNK * patient.vocab_size):
            return model.losses(tokens[:, :-1], tokens[:, 1:]).mean()

    def plainly() -> Tensor:
        return F.cross_entropy(model(tokens[:, :-1]).float().flatten(0, 1), tokens[:, 1:].flatten())

    chunked, slope = _with_gradient(patient, in_chunks)
    whole, meant = _with_gradient(patient, plainly)
    seen["in chunks"] = abs(chunked - whole) / max(abs(whole), 1e-9)
    if seen["in chunks"] > VALUE:
        return f"the head in chunks of {CHUNK} tokens says {chunked:.4f}, all logits at once {whole:.4f}"
    return _compare(meant, slope, "in chunks", "all logits at once and the head in chunks", seen)


def _packed(patient: Patient, tokens: Tensor, seen: Seen) -> str:
    """Two documents in a row against each alone."""
    model = patient.model
    if model is None or patient.loss is None:
        return ""
    tokens = tokens.to(model.device)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    cut = inputs.shape[1] // 2 + 1
    documents = torch.zeros_like(inputs)
    documents[:, cut:] = 1

    def together() -> Tensor:
        return model.losses(inputs, targets, documents=documents).sum()

    def alone() -> Tensor:
        halves = (slice(None, cut), slice(cut, None))
        return torch.stack([model.losses(inputs[:, half], targets[:, half]).sum() for half in halves]).sum()

    packed, slope = _with_gradient(patient, together)
    single, meant = _with_gradient(patient, alone)
    seen["packed"] = abs(packed - single) / max(abs(single), 1e-9)
    if seen["packed"] > VALUE:
        return f"two documents packed in a row cost {packed:.4f} nats, alone {single:.4f}"
    return _compare(meant, slope, "packed", "documents alone and packed", seen)


def _with_gradient(patient: Patient, loss: Callable[[], Tensor]) -> tuple[float, Tensor | None]:
    """A loss, and its gradient in one vector; None where there is no module to have one."""
    wanted = [] if patient.module is None else [p for p in patient.module.parameters() if p.requires_grad]
    value = loss()
    if not wanted or not value.requires_grad:
        return float(value.detach()), None
    return float(value.detach()), _flat(torch.autograd.grad(value, wanted, allow_unused=True), wanted)


def _flat(grads: list[Tensor | None] | tuple[Tensor | None, ...], of: list[nn.Parameter]) -> Tensor:
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).detach().float().cpu().flatten() for g, p in zip(grads, of, strict=True)]
    )  # fmt: skip


def _compare(a: Tensor | None, b: Tensor | None, name: str, ways: str, seen: Seen) -> str:
    if a is None or b is None:
        return ""
    apart = float((a - b).norm() / a.norm().clamp_min(1e-12))
    seen[name] = max(apart, seen.get(name, 0.0))
    if apart <= GRADIENT:
        return ""
    factor = float(a @ b / (a @ a).clamp_min(1e-24))
    rest = float((b - factor * a).norm() / b.norm().clamp_min(1e-12))
    same = f": the second is {factor:.3g} times the first" if rest < GRADIENT else ""
    return f"gradients of {ways} differ by {apart:.2g} of their size{same}"


def _ratio(a: float, b: float) -> str:
    return f": {a / b:.3g} times as much" if b else ""


@contextmanager
def _chunks_of(elements: int) -> Iterator[None]:
    before = cross_entropy.CHUNK_ELEMENTS
    cross_entropy.CHUNK_ELEMENTS = elements
    try:
        yield
    finally:
        cross_entropy.CHUNK_ELEMENTS = before
