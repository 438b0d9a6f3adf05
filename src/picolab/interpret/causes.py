"""Does the model need the heads that the picture names? Each is taken out, and the loss says what was lost.

    a head named for its pattern -> without it: loss goes up, by more than without any head of no such name?      confirmed
                                 -> without only the look that gave it the name (`edges.py`)?

Two things are read. Random tokens said twice: only copying lowers the loss of the second half, and copying needs a head that looks
where the same went before, and often one that looks at the token before. And texts of the model's data. Losses of a text with and
without a head are compared pair by pair, over the texts; a head is taken out by putting its mean in its place, and by zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from picolab.interpret import claims as claiming
from picolab.interpret.ablate import Head, Losses, heads_of, losses_of, means_of, without
from picolab.interpret.chance import Band, Measured, Numbers, band, measured, shuffles
from picolab.interpret.claims import COPYING, NOTHING, OWN, SECOND, Claim, Effect, claims_of, signed
from picolab.interpret.edges import Edge, edges_of
from picolab.interpret.heads import HeadScores
from picolab.interpret.together import Together, together_of
from picolab.models.contract import LanguageModel

MOST = 48
"""Heads that are taken out one by one; of a larger model those with a name, the strongest, and others evenly between."""

LITTLE = 0.005
"""Nats a token on the model's own texts that nobody would miss."""

OWN_TEXTS = 60
"""Texts of the data that are read again for every head; of more, some evenly between."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Causes:
    """How much the model copies (first half's loss less the second's), what each head adds to it, and what became of the claims.

    It `copies` where the second half costs less than the first, and less than a `guess` among all its words.

    `data` is the loss on the model's own texts, `every` what it rises by with every head of every block at its mean there.
    `agreement`: over all heads, the rank correlation of the induction score with the effect on the second half.
    """

    copying: Band
    copies: bool
    guess: float
    first: Band
    second: Band
    data: Band | None
    every: Band | None
    effects: tuple[Effect, ...]
    claims: tuple[Claim, ...]
    together: tuple[Together, ...]
    edges: tuple[Edge, ...]
    agreement: Measured | None


def causes_of(
    model: LanguageModel,
    scores: HeadScores,
    texts: Sequence[Sequence[int]],
    data: Sequence[Sequence[int]] = (),
    *,
    seed: int = 0,
) -> Causes:
    """Take heads out one by one, over the texts that `scores` came from, and over texts of the model's `data` where given."""
    data = data[:: -(-len(data) // OWN_TEXTS)] if data else data
    length, whole = scores.length, losses_of(model, texts)
    own = losses_of(model, data).over() if data else None
    means, data_means = means_of(model, texts), means_of(model, data) if data else None
    effects = []
    for place in _chosen(model, scores):
        with without(model, [place], means):
            by_mean = losses_of(model, texts)
        with without(model, [place]):
            by_zero = losses_of(model, texts)
        data_mean = data_zero = None
        if own is not None:
            with without(model, [place], data_means):
                data_mean = band(losses_of(model, data).over() - own)
            with without(model, [place]):
                data_zero = band(losses_of(model, data).over() - own)
        effects.append(
            Effect(
                layer=place[0],
                head=place[1],
                second_mean=band(_second(by_mean, length) - _second(whole, length)),
                second_zero=band(_second(by_zero, length) - _second(whole, length)),
                first_mean=band(_first(by_mean, length) - _first(whole, length)),
                data_mean=data_mean,
                data_zero=data_zero,
            )
        )
    copying, second = band(_first(whole, length) - _second(whole, length)), band(_second(whole, length))
    every = None
    if own is not None:
        with without(model, heads_of(model), data_means):
            every = band(losses_of(model, data).over() - own)
    guess = math.log(model.config.vocab_size)
    copies = copying.low > NOTHING and second.mean < guess
    read = {SECOND: (lambda: _second(losses_of(model, texts), length), means)}
    if data_means is not None:
        read[OWN] = (lambda: losses_of(model, data).over(), data_means)
    return Causes(
        copying=copying,
        copies=copies,
        guess=guess,
        first=band(_first(whole, length)),
        second=second,
        data=None if own is None else band(own),
        every=every,
        effects=tuple(effects),
        claims=tuple(claims_of(scores, effects, copies=copies)),
        together=tuple(together_of(model, scores, read, copies=copies, seed=seed)),
        edges=tuple(edges_of(model, scores, {measure: loss for measure, (loss, _) in read.items()}, copies=copies)),
        agreement=_agreement(scores, effects, seed),
    )


def says(causes: Causes) -> list[str]:
    """What the ablations answer, in sentences."""
    if not causes.copies:
        sentences = [
            f"The model hardly copies: tokens said a second time cost {causes.second} nats, the first time {causes.first}, a guess "
            f"{causes.guess:.3f}; so there is no copying that a head could be needed for."
        ]
    else:
        sentences = [
            f"The model copies: tokens said a second time cost {causes.second} nats instead of {causes.first}, "
            f"{causes.copying} less."
        ]
    sentences += claiming.says(causes.claims)
    sentences += [one.says for one in causes.together] + [edge.says for edge in causes.edges]
    if not causes.claims:
        sentences.append("No head has a name that copying is made of, so there was no claim to confirm.")
    if causes.agreement is not None and causes.copies:
        verb = "lose" if causes.agreement.is_clear and causes.agreement.value > 0 else "do not clearly lose"
        sentences.append(
            f"Over {len(causes.effects)} heads, those that look more like induction {verb} more when taken out: rank correlation "
            f"{causes.agreement}."
        )
    if causes.data is not None:
        most = max(causes.effects, key=lambda e: e.data_mean.mean if e.data_mean else -np.inf)
        if most.data_mean is not None and most.data_zero is not None:
            without_it = (
                f"{signed(most.data_mean)} nats with its mean in its place, {signed(most.data_zero)} with zeros"
            )
            sentences.append(
                f"On the model's own texts (loss {causes.data}) head {most.name} matters most: {without_it}."
                if most.data_mean.low > LITTLE
                else f"On the model's own texts (loss {causes.data}) no head matters alone: head {most.name} most, {without_it}."
            )
    if causes.every is not None:
        said = (
            "looking back is what they are predicted by"
            if causes.every.low > NOTHING
            else "they are predicted without looking back"
        )
        sentences.append(
            f"Every head at once, its mean in its place: {signed(causes.every)} nats on those texts; {said}."
        )
    return sentences


def _chosen(model: LanguageModel, scores: HeadScores) -> list[Head]:
    every = heads_of(model)
    if len(every) <= MOST:
        return every
    wanted = {head.place for pattern in COPYING for head in (*scores.named(pattern), scores.best(pattern))}
    between = np.linspace(0, len(every) - 1, max(MOST - len(wanted), 8)).round().astype(int)
    return sorted(wanted | {every[i] for i in between})


def _agreement(scores: HeadScores, effects: Sequence[Effect], seed: int) -> Measured | None:
    """None of fewer than five heads: their order says nothing."""
    from scipy.stats import rankdata

    if len(effects) < 5:
        return None
    score = {head.place: head.shares["induction"].mean for head in scores.heads}
    a = rankdata([score[effect.place] for effect in effects])
    b = rankdata([effect.second_mean.mean for effect in effects])
    a, b = (a - a.mean()) / (a.std() or 1.0), (b - b.mean()) / (b.std() or 1.0)
    return measured(float((a * b).mean()), (a[shuffles(len(a), seed)] * b).mean(axis=1))


def _first(losses: Losses, length: int) -> Numbers:
    """Losses of the tokens that are random and new: those of the first half but its first."""
    time = losses.nats.shape[1]
    return losses.over(time - 2 * length + 1, time - length)


def _second(losses: Losses, length: int) -> Numbers:
    """Losses of the second half, but its first token, which nothing foretells."""
    return losses.over(losses.nats.shape[1] - length + 1)
