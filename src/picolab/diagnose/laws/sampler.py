"""Does the sampler choose as it says? `sampler` (I20).

probabilities   0.40 0.25 0.15 0.10 0.06 0.04     top_p 0.7 keeps the first three: 0.65 is too little, 0.80 reaches it
temperature 0, top_k 1, top_p 0     the most likely token          top_p 1     every token
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from picolab.diagnose.laws.law import Finding, Law, Patient
from picolab.diagnose.laws.sampling import DRAWS, Refused, Sampling

HEADS = (0.40, 0.25, 0.15, 0.10, 0.06, 0.04)
"""The most likely tokens of the row that is asked; the others share a ten-thousandth."""

NUCLEI = {0.3: 1, 0.5: 2, 0.7: 3, 0.85: 4, 0.93: 5}
"""How many of them a nucleus of that mass keeps: the fewest whose sum reaches it."""

MOST = 61
"""Tokens of the row where a sampler has to be asked hundreds of times."""

LOST = 3e-5
"""Of the mass, what a running sum in float32 may cut off at p 1."""

SIGMAS = 6


class SamplerLaw(Law):
    name = "sampler"
    id = "I20"
    says = "top_p keeps the fewest tokens that reach it, 0 is the argmax"
    hint = "the cut of the cumulative sum (before or after the crossing token), the sort undone, p and k never read"
    order = 50

    def check(self, patient: Patient) -> Finding:
        sampling = patient.sampling
        if sampling is None:
            return self.skips("no sampler is offered (`sample(logits, temperature=, top_p=)`)")
        if patient.vocab_size <= len(HEADS):
            return self.skips(f"a vocabulary of {patient.vocab_size} is too small to tell")
        row = logits_of(patient.vocab_size if sampling.shows else min(patient.vocab_size, MOST))
        done, refused = [], []
        for takes, check in CHECKS:
            if takes is not None and takes not in sampling.takes:
                continue
            try:
                wrong = check(sampling, row)
            except Refused:
                refused.append(takes or "logits")
                continue
            except Exception as error:  # noqa: BLE001  somebody else's code: what it raises is what was found
                first = (str(error).splitlines() or [""])[0][:160]
                wrong = f"it raises {type(error).__name__}: {first}"
            if wrong:
                told = f"{_words(check)}: {wrong}"
                return self.fails(told, check=check.__name__, how="shown" if sampling.shows else "drawn")
            done.append(_words(check))
        if not done:
            return self.skips(f"the sampler refuses every question ({', '.join(refused)})")
        how = "its probabilities" if sampling.shows else f"{DRAWS} draws each"
        return self.passes(f"{len(done)} questions about {how}: as its settings say", checked=done, refused=refused)


def logits_of(vocab_size: int) -> Tensor:
    """The row that is asked: `HEADS` at ids that are not in order, little for the rest."""
    probs = torch.full((vocab_size,), 1e-4 / vocab_size, dtype=torch.float64)
    probs[places(vocab_size)] = torch.tensor(HEADS, dtype=torch.float64)
    return (probs / probs.sum()).log().float()


@functools.cache
def _order(vocab_size: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(7)
    return tuple(torch.randperm(vocab_size, generator=generator)[: len(HEADS)].tolist())


def places(vocab_size: int) -> list[int]:
    """The ids of the most likely tokens, the first first."""
    return list(_order(vocab_size))


Check = Callable[[Sampling, Tensor], str]
"""What is wrong, in words; nothing where all is right."""


def probabilities_sum_to_one(sampling: Sampling, row: Tensor) -> str:
    total = float(sampling.probabilities(row).sum())
    return "" if abs(total - 1) < 1e-4 else f"they sum to {total:.4f}"


def nothing_asked_is_the_models_own(sampling: Sampling, row: Tensor) -> str:
    return _apart(sampling, sampling.probabilities(row), row.double().softmax(-1))


def temperature_0_is_the_argmax(sampling: Sampling, row: Tensor) -> str:
    return _only_best(sampling, row, temperature=0.0) or _only_best(sampling, row, temperature=1e-3)


def temperature_2_is_flatter(sampling: Sampling, row: Tensor) -> str:
    return _apart(sampling, sampling.probabilities(row, temperature=2.0), (row.double() / 2).softmax(-1))


def top_k_1_is_the_argmax(sampling: Sampling, row: Tensor) -> str:
    return _only_best(sampling, row, top_k=1)


def top_k_keeps_k_tokens(sampling: Sampling, row: Tensor) -> str:
    for k in (2, 3):
        if wrong := _kept(sampling, row, k, top_k=k):
            return f"with top_k {k} {wrong}"
    return ""


def top_p_near_0_is_the_argmax(sampling: Sampling, row: Tensor) -> str:
    small = _only_best(sampling, row, top_p=1e-4)
    if small:
        return f"with top_p 0.0001 {small}"
    try:
        none = _only_best(sampling, row, top_p=0.0)
    except Refused:
        return ""
    return f"with top_p 0 {none}" if none else ""


def top_p_keeps_the_fewest_that_reach_it(sampling: Sampling, row: Tensor) -> str:
    for p, count in NUCLEI.items():
        if wrong := _kept(sampling, row, count, top_p=p):
            return f"with top_p {p} {wrong}"
    return ""


def top_p_1_keeps_every_token(sampling: Sampling, row: Tensor) -> str:
    probs = sampling.probabilities(row, top_p=1.0)
    wanted = list(range(len(row))) if sampling.shows else places(len(row))
    lost = [token for token in wanted if probs[token] == 0]
    mass = float(row.double().softmax(-1)[lost].sum())
    return f"{len(lost)} tokens of mass {mass:.2g} cannot come, {lost[0]} among them" if mass > LOST else ""


def kept_tokens_keep_their_proportions(sampling: Sampling, row: Tensor) -> str:
    best = places(len(row))[:3]
    meant = torch.zeros(len(row), dtype=torch.float64)
    meant[best] = row.double().softmax(-1)[best]
    return _apart(sampling, sampling.probabilities(row, top_p=0.7), meant / meant.sum())


def seeds_differ(sampling: Sampling, row: Tensor) -> str:
    drawn = {sampling.draw(row, seed) for seed in range(40)}
    if len(drawn) == 1:
        return f"40 seeds draw token {drawn.pop()} every time"
    again = {sampling.draw(row, 3) for _ in range(12)}
    if sampling.seeded and len(again) > 1:
        return f"the same seed draws {len(again)} different tokens"
    return ""


def _only_best(sampling: Sampling, row: Tensor, **settings: float) -> str:
    best = places(len(row))[0]
    if sampling.shows:
        probs = sampling.probabilities(row, **settings)
        token, chance = int(probs.argmax()), float(probs.max())
        if token != best:
            return f"token {token} gets {chance:.3f}, and the most likely is {best}"
        return "" if chance > 1 - 1e-4 else f"the most likely token gets {chance:.3f}, others the rest"
    others = {sampling.draw(row, seed, **settings) for seed in range(60)} - {best}
    return f"tokens other than the most likely {best} come: {_few(others)}" if others else ""


def _kept(sampling: Sampling, row: Tensor, count: int, **settings: float) -> str:
    """Whether just the `count` most likely tokens can come."""
    probs = sampling.probabilities(row, **settings)
    kept = {int(token) for token in (probs > 0).nonzero().flatten()}
    wanted = set(places(len(row))[:count])
    if kept == wanted:
        return ""
    own = row.double().softmax(-1)
    mass = float(own[sorted(kept)].sum())
    if kept > wanted:
        return f"it keeps {len(kept)} tokens of mass {mass:.3f}, where {count} of mass {float(own[sorted(wanted)].sum()):.3f} do"
    if kept < wanted:
        return f"it keeps {len(kept)} tokens of mass {mass:.3f}, and the fewest that do are {count}"
    return f"it keeps tokens {_few(kept)} of mass {mass:.3f}, and the most likely are {_few(wanted)}"


def _apart(sampling: Sampling, probs: Tensor, meant: Tensor) -> str:
    """Where probabilities are not what is meant; counted ones may be off by chance."""
    allowed = 1e-4 if sampling.shows else SIGMAS * (meant * (1 - meant) / DRAWS).sqrt() + 2 / DRAWS
    off = (probs - meant).abs() - allowed
    if float(off.max()) <= 0:
        return ""
    token = int(off.argmax())
    return f"token {token} comes with {float(probs[token]):.3f}, and {float(meant[token]):.3f} is meant"


def _few(tokens: set[int]) -> str:
    listed = sorted(tokens)
    return ", ".join(map(str, listed[:5])) + (" .." if len(listed) > 5 else "")


def _words(check: Check) -> str:
    return check.__name__.replace("_", " ")


CHECKS: tuple[tuple[str | None, Check], ...] = (
    (None, probabilities_sum_to_one),
    (None, nothing_asked_is_the_models_own),
    ("temperature", temperature_0_is_the_argmax),
    ("temperature", temperature_2_is_flatter),
    ("top_k", top_k_1_is_the_argmax),
    ("top_k", top_k_keeps_k_tokens),
    ("top_p", top_p_1_keeps_every_token),
    ("top_p", top_p_near_0_is_the_argmax),
    ("top_p", top_p_keeps_the_fewest_that_reach_it),
    ("top_p", kept_tokens_keep_their_proportions),
    (None, seeds_differ),
)
"""The setting a question is about, and the question."""
