"""Is it trained on the training text, on all of it, and on no more than was said? `data-hygiene` (I26).

documents     no document is on both sides of the split
batches       what a step reads is training text; each target is the token that follows; one epoch reads every token once
budget        the tokens a run counted are those its batches hold, step by step without a gap
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.laws.offered import Data, History

DOCUMENTS, TOKENS, STEPS = 200_000, 2_000_000, 40
"""What is looked at, at most: documents a side, tokens whose windows are compared, batches."""

WINDOW = 24
"""Tokens in a row that tell where a batch comes from; a shorter stretch may be common to both sides."""

LEAK, BUDGET = 0.01, 0.02
"""Shares: windows of validation text in training batches; tokens counted against tokens read."""


class DataHygiene(Law):
    name = "data-hygiene"
    id = "I26"
    says = "batches hold the training text, and no validation text"
    hint = "duplicates before the split, a split drawn anew by each process, a validation batch in training, a pointer that skips"
    order = 3
    needs_model = False

    def check(self, patient: Patient) -> Finding:
        data, history = patient.data, patient.history
        if data is None:
            if history is None:
                return self.skips("no documents and no batches are offered")
            wrong = _rows(history)
            return self.fails(wrong) if wrong else self.skips("the documents of the run are not at hand")
        told: list[str] = []
        for check in (_split, _batches, _epoch):
            wrong = check(data, told)
            if wrong:
                return self.fails(wrong, check=check.__name__[1:])
        if history is not None:
            wrong = _rows(history) or _budget(data, history, told)
            if wrong:
                return self.fails(wrong)
        return self.passes("; ".join(told) or "nothing in it could be compared")


def _split(data: Data, told: list[str]) -> str:
    if not data.held_out:
        told.append("its validation text is its training text, as its corpus says")
        return ""
    kept = {_hash(document) for document in islice(data.validation(), DOCUMENTS) if len(document)}
    if not kept:
        told.append("it holds no document back")
        return ""
    seen, both = 0, 0
    for document in islice(data.train(), DOCUMENTS):
        seen += 1
        both += len(document) > 0 and _hash(document) in kept
    if both:
        return f"{both} of {seen:,} training documents are validation documents too, of which there are {len(kept):,}"
    told.append(f"{seen:,} training and {len(kept):,} validation documents, none on both sides")
    return ""


def _batches(data: Data, told: list[str]) -> str:
    """Where the batches come from, and whether their targets follow."""
    if data.batch is None:
        return ""
    trained = _windows(data.train()) if data.held_out else None
    held = _windows(data.validation()) if data.held_out else None
    read: list[NDArray[np.uint64]] = []
    for step in range(min(STEPS, data.n_steps or STEPS)):
        tokens, targets = (part.cpu().numpy() for part in data.batch(step))
        wrong = _follows(tokens, targets)
        if wrong:
            return f"step {step + 1}: {wrong}"
        read += [_rolled(row[aims >= 0]) for row, aims in zip(tokens, targets, strict=True)]
    windows = np.concatenate(read)
    if trained is not None and held is not None and len(windows):
        leaked = float((_among(windows, held) & ~_among(windows, trained)).mean())
        if leaked > LEAK:
            return f"{leaked:.0%} of what the first steps read is validation text: it is trained on"
        told.append("batches are training text")
    told.append("targets follow their tokens")
    return ""


def _among(some: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of some are in a sorted array."""
    if not len(known):
        return np.zeros(len(some), np.bool_)
    return known[np.minimum(np.searchsorted(known, some), len(known) - 1)] == some


def _follows(tokens: NDArray[Any], targets: NDArray[Any]) -> str:
    """Whether a target is the next token, of those that are scored."""
    if tokens.shape[1] < 4:
        return ""
    for shift, words in (
        (1, ""),
        (0, "targets are the tokens themselves, not those that follow"),
        (2, "targets are the tokens after next"),
    ):
        inside = targets[:, : tokens.shape[1] - shift] if shift else targets
        scored = inside >= 0
        if shift == 2:
            scored &= targets[:, 1 : tokens.shape[1] - 1] >= 0  # the next position belongs to the same row
        same = inside == tokens[:, shift:]
        share = same[scored].mean() if scored.any() else 1.0
        if shift == 1:
            # Where documents are cut, the target of the last token is the closing one, which the row need not hold.
            following = share
            if following > 0.8:
                return ""
        elif share > 0.9:
            return words
    return f"only {following:.0%} of the targets are the token that follows"


def _epoch(data: Data, told: list[str]) -> str:
    """Whether one epoch reads every token once."""
    if data.batch is None or data.n_steps is None or data.n_tokens is None or data.n_tokens > TOKENS:
        return ""
    counts = [int((data.batch(step)[1] >= 0).sum()) for step in range(data.n_steps)]
    counted, last = sum(counts), counts[-1]  # the last step of an epoch may begin the next one
    if counted < data.n_tokens or counted > data.n_tokens + 2 * last:
        return f"an epoch of {data.n_steps} steps reads {counted:,} tokens, and the training text has {data.n_tokens:,}"
    told.append(f"an epoch reads its {data.n_tokens:,} tokens")
    return ""


def _rows(history: History) -> str:
    """Whether the rows are those of one training: each step once."""
    steps = [int(row["step"]) for row in history.rows if "step" in row]
    for before, after in pairwise(steps):
        if after <= before:
            return f"step {after} comes after step {before} in the rows: two trainings wrote them, or one went back"
    tokens = [row["tokens"] for row in history.rows if row.get("tokens") is not None]
    if any(after < before for before, after in pairwise(tokens)):
        return "the count of tokens falls from one row to the next"
    return ""


def _budget(data: Data, history: History, told: list[str]) -> str:
    """Whether the tokens counted are those of the batches, and those that were asked for."""
    counts = [(0, 0), *((row["step"], row["tokens"]) for row in history.rows if row.get("tokens") and row.get("step"))]
    since = [pair for pair in counts if pair[0] >= history.since]
    if data.batch is None or len(since) < 2:
        return ""
    (begun, before), (step, tokens) = since[0], since[-1]
    at = np.unique(np.linspace(begun, step - 1, min(STEPS, step - begun)).astype(int))
    read = float(np.mean([int((data.batch(int(i))[1] >= 0).sum()) for i in at])) * (step - begun)
    if abs(read / (tokens - before) - 1) > BUDGET:
        return (
            f"in {step - begun} steps it counted {tokens - before:,} tokens, and its batches hold about {read:,.0f}: "
            f"{read / (tokens - before):.2f} times as many"
        )
    if history.tokens and history.status == "finished" and abs(tokens / history.tokens - 1) > BUDGET + 1 / step:
        return f"{history.tokens:,.0f} tokens were asked for, and {tokens:,} were read"
    told.append(f"{tokens:,} tokens in {step} steps, as its batches hold")
    return ""


def _hash(document: Sequence[int]) -> bytes:
    return hashlib.blake2b(np.asarray(document, np.int64).tobytes(), digest_size=12).digest()


def _windows(documents: Iterable[Sequence[int]]) -> NDArray[np.uint64]:
    """A hash of every stretch of `WINDOW` tokens."""
    found, tokens = [], 0
    for document in documents:
        found.append(_rolled(np.asarray(document)))
        tokens += len(document)
        if tokens > TOKENS:
            break
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)


def _rolled(ids: NDArray[Any]) -> NDArray[np.uint64]:
    if len(ids) < WINDOW:
        return np.empty(0, np.uint64)
    wide = ids.astype(np.uint64) + np.uint64(1)
    total = np.zeros(len(ids) - WINDOW + 1, np.uint64)
    for place in range(WINDOW):
        total = total * np.uint64(0x9E3779B97F4A7C15) + wide[place : place + len(total)]  # wraps, as a hash may
    return total
