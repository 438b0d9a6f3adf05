"""Can it learn three lines by heart, and say them? `overfit` (I15).

    rows in which no token comes twice -> steps of Adam until the loss is nearly 0 -> each row again from its first token

The loss is the one it was trained with, and writing is the way it writes: with its cache, where it has one. Where labels are
shifted twice, or by nobody, or the cache keeps something else than the pass saw, the loss falls and the text is another.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.laws.offers import takes_targets
from picolab.diagnose.modules import copy_of, no_copy

ROWS, TIME = 3, 8
STEPS, SECONDS = 240, 6.0
LEARNED = math.log(2) / (ROWS * (TIME - 1))
"""Nats a token: all together then cost less than ln 2, so each has a probability above one half, and none can lose an argmax."""

RATES = (1e-2, 3e-3)


class Overfit(Law):
    name = "overfit"
    id = "I15"
    says = "it learns one batch by heart and writes it out again"
    hint = (
        "labels shifted twice or not at all, a value that is detached, a parameter the optimiser never sees, the cache"
    )
    order = 46

    def check(self, patient: Patient) -> Finding:
        reason = no_copy(patient)
        if reason is not None:
            return self.skips(reason)
        rows = _rows(patient)
        if rows is None:
            return self.skips("its vocabulary or its context is too small for rows without a repetition")
        first = last = float("inf")
        steps = 0
        for rate in RATES:
            module = copy_of(patient)
            if not any(p.requires_grad for p in module.parameters()):
                return self.skips("none of its parameters asks for a gradient")
            started = time.process_time()
            first, last, steps = _learn(patient, module, rows, rate)
            if time.process_time() - started > SECONDS and last > LEARNED:
                return self.skips(
                    f"too slow: {steps} steps took {SECONDS:.0f} s, the loss went from {first:.2f} to {last:.2f}"
                )
            if last <= LEARNED:
                break
        if last > LEARNED:
            return self.fails(
                f"after {steps} steps on one batch its loss is {last:.2f} nats, and was {first:.2f}: it cannot learn {ROWS} rows",
                first=first, last=last,
            )  # fmt: skip
        wrong = _recall(patient, module, rows)
        if wrong is not None:
            row, position, way = wrong
            return self.fails(
                f"its loss on one batch fell to {last:.3f} nats, but {way} it does not write row {row} again: "
                f"token {position} is another",
                row=row, position=position, loss=last,
            )  # fmt: skip
        return self.passes(
            f"after {steps} steps its loss is {last:.3f} nats, and it writes all {ROWS} rows again", steps=steps
        )


def _rows(patient: Patient) -> Tensor | None:
    """Rows in which every token comes once, in no other row: the next is known from the last alone."""
    length = min(TIME, patient.vocab_size // ROWS, patient.context_length or TIME)
    if length < 4:
        return None
    generator = torch.Generator().manual_seed(patient.seed + 91)
    return torch.randperm(patient.vocab_size, generator=generator)[: ROWS * length].view(ROWS, length)


def _learn(patient: Patient, module: nn.Module, rows: Tensor, rate: float) -> tuple[float, float, int]:
    """Loss before, loss after, steps."""
    device = next(module.parameters()).device
    rows = rows.to(device)
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=rate)
    started, first, last = time.process_time(), float("nan"), float("nan")
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        for step in range(STEPS):
            loss = loss_of(patient, module, rows)
            last = float(loss.detach())
            first = last if step == 0 else first
            if last <= LEARNED or last != last or time.process_time() - started > SECONDS or not loss.requires_grad:
                return first, last, step
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
    return first, last, STEPS


def loss_of(patient: Patient, module: nn.Module, rows: Tensor) -> Tensor:
    """The module's own loss of rows where it has one (`loss(tokens, targets)`, ours: `losses`), else of its logits."""
    assert patient.run is not None
    inputs, targets = rows[:, :-1], rows[:, 1:]
    own: Any = getattr(module, "losses", None) if patient.model is not None else getattr(module, "loss", None)
    if callable(own):
        loss: Tensor = own(inputs, targets) if patient.model is not None or takes_targets(own) else own(rows)
        return loss.mean()
    logits = patient.run(module, inputs).float()
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten().to(logits.device))


@torch.no_grad()
def _recall(patient: Patient, module: nn.Module, rows: Tensor) -> tuple[int, int, str] | None:
    """The first row, the place in it and the way of writing where another token comes than was learned."""
    module.eval()
    for number, row in enumerate(rows):
        written = row[:1][None]
        while written.shape[1] < len(row):
            assert patient.run is not None
            following = patient.run(module, written)[:, -1].argmax(-1).cpu()
            written = torch.cat((written, following[:, None]), dim=1)
        wrong = (written[0] != row).nonzero()
        if len(wrong):
            return number, int(wrong[0]), "reading the whole text again for each token"
    new_cache: Any = getattr(module, "new_cache", None)
    if new_cache is None or patient.model is None:
        return None
    device = next(module.parameters()).device
    for number, row in enumerate(rows):
        memory, token = new_cache(1, len(row)), row[:1]
        for position in range(1, len(row)):
            token = module(token[None].to(device), cache=memory)[0, -1:].argmax(-1).cpu()
            if int(token) != int(row[position]):
                return number, position, "with its cache"
    return None
